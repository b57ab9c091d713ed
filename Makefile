# Every target sets up its own environment in .venv; the machine needs python3 (3.10 or newer, with venv) and make.
# pip takes PIP_CONSTRAINT and its like from the environment; .ci/run uses that to pin torch.

PYTHON ?= python3
# make demo VIDEO=clip.mp4 restores a video of yours
VIDEO ?=
SOURCES := src tests training examples benchmarks spaces

.PHONY: demo test quality style

demo: .venv/installed
	.venv/bin/python examples/demo.py $(if $(VIDEO),--video "$(VIDEO)")

test: .venv/installed
	.venv/bin/python -m pytest

quality: .venv/installed
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/mypy

style: .venv/installed
	.venv/bin/ruff check --fix $(SOURCES)
	.venv/bin/ruff format $(SOURCES)

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --editable ".[dev]"
	touch $@
