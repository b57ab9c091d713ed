# Every target sets up its own environment in .venv; the machine needs Python (3.10 or newer, with venv) and make.
# pip reads PIP_CONSTRAINT and its other variables from the environment; .ci/run uses that to pin torch.

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
PYTHON ?= python
else
BIN := .venv/bin
PYTHON ?= python3
endif
# make demo VIDEO=clip.mp4 restores that video
VIDEO ?=
# make space FOLDER=../my-space builds the Space in that folder
FOLDER ?=
SOURCES := src tests training examples benchmarks spaces docs

.PHONY: demo test test-fast quality style docs space

demo: .venv/installed
	$(BIN)/python examples/demo.py $(if $(VIDEO),--video "$(VIDEO)")

test: .venv/installed
	$(BIN)/python -m pytest

test-fast: .venv/installed
	$(BIN)/python -m pytest -m "not slow and not full"

quality: .venv/installed
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

style: .venv/installed
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

docs: .venv/installed
	$(BIN)/mkdocs build --strict

space:
	$(PYTHON) spaces/build.py $(if $(FOLDER),"$(FOLDER)")

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable ".[dev]"
	touch $@
