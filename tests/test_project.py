"""The files around the package: make targets, workflows, the citation."""

import pkgutil
import re

import pytest
import yaml

from paths import REPOSITORY


tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def load(path) -> dict:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", [*WORKFLOWS, REPOSITORY / ".ci" / "run"], ids=lambda path: path.name)
def test_automation_calls_targets_that_exist(path):
    called = set(re.findall(r"^[^#\n]*?\bmake ([a-z][a-z-]*)", path.read_text(), re.M))
    assert called <= TARGETS


def test_the_same_targets_run_here_and_on_github():
    here = set(re.findall(r"^make ([a-z-]+)", (REPOSITORY / ".ci" / "run").read_text(), re.M))
    there = {target for path in WORKFLOWS for target in re.findall(r"run: make ([a-z-]+)", path.read_text())}
    assert here == there


def test_workflows_run_every_supported_python():
    matrix = load(REPOSITORY / ".github" / "workflows" / "tests.yml")["jobs"]["fast"]["strategy"]["matrix"]
    stated = [line.split()[-1] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", line)]
    assert matrix["python"] == stated
    assert PROJECT["requires-python"] == f">={stated[0]}"


def test_every_dependency_has_a_lower_bound():
    """Without one, the job with the oldest versions would install the first release ever made."""
    extras = [name for names in PROJECT["optional-dependencies"].values() for name in names]
    listed = [*PROJECT["dependencies"], *extras]
    assert not [name for name in listed if ">=" not in name and not name.startswith("keep_hf[")]


@pytest.mark.parametrize("page", sorted(REPOSITORY.glob("docs/api/*.md")), ids=lambda path: path.stem)
def test_the_api_reference_names_what_exists(page):
    names = re.findall(r"^::: (\S+)$", page.read_text(), re.M)
    assert names
    for name in names:
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("name", ["CITATION.cff", "mkdocs.yml", ".github/ISSUE_TEMPLATE/bug_report.yml"])
def test_yaml_files_are_valid(name):
    assert load(REPOSITORY / name)


def test_the_citation_is_that_of_the_readme():
    paper = load(REPOSITORY / "CITATION.cff")["preferred-citation"]
    readme = (REPOSITORY / "README.md").read_text()
    assert f"{{{paper['title']}}}" in readme
    assert f"{{{paper['year']}}}" in readme
    names = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert f"{{{names}}}" in readme
