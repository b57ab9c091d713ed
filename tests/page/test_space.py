"""The Space: the folder that `make space` builds runs with the packages that its requirements name."""

import os
import re
import runpy
import subprocess
import sys
from fnmatch import fnmatch
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from paths import REPOSITORY


pytestmark = pytest.mark.slow


# Of ZeroGPU, as of November 2026; it builds a Space with another version of Python with 3.10.
PYTHON_VERSIONS, TORCH_VERSIONS = {"3.10", "3.12"}, (">=2.8", "<2.14")


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "space"
    (folder / "keep_hf").mkdir(parents=True)
    (folder / "keep_hf" / "old.py").touch()  # of an earlier version
    (folder / "notes.md").touch()
    runpy.run_path(str(REPOSITORY / "spaces" / "build.py"))["build"](folder)
    assert not (folder / "keep_hf" / "old.py").exists()
    assert (folder / "notes.md").exists()
    return folder


def requirements(path: Path) -> dict[str, Requirement]:
    found = [Requirement(line) for line in path.read_text().splitlines() if not line.startswith("#")]
    return {requirement.name: requirement for requirement in found}


def installed_by(requirement: str, names: set[tuple[str, str]]) -> None:
    """Add everything that pip installs for a requirement, as pairs of a name and an extra."""
    wanted = Requirement(requirement)
    for extra in ("", *wanted.extras):
        if (pair := (wanted.name.lower().replace("_", "-"), extra)) in names:
            continue
        names.add(pair)
        for needed in distribution(wanted.name).requires or []:
            marker = Requirement(needed).marker
            if marker is None or marker.evaluate({"extra": extra}):
                installed_by(needed, names)


@pytest.fixture(scope="module")
def environment(space, tmp_path_factory) -> Path:
    """A folder with the packages that the requirements install, and no others."""
    folder = tmp_path_factory.mktemp("packages")
    names: set[tuple[str, str]] = set()
    for requirement in requirements(space / "requirements.txt").values():
        installed_by(str(requirement), names)
    for name in {name for name, _ in names}:
        package = distribution(name)
        tops = {Path(file).parts[0] for file in package.files or [] if not str(file).startswith("..")}
        for top in tops - {"__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(package.locate_file(top))
    return folder


def test_the_app_needs_only_its_requirements(space, environment, tmp_path):
    script = """
import runpy, sys
sys.path.insert(0, "")  # as in `python app.py`
space = runpy.run_path("app.py", run_name="space")
demo = space["build_demo"](space["pipe"])
assert {"faces", "restore"} <= {function.api_name for function in demo.fns.values()}
for name in ("skimage", "matplotlib", "transformers", "playwright", "pytest"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} can be imported")
from pathlib import Path
import keep_hf
assert Path(keep_hf.__file__).parent == Path("keep_hf").resolve()
from keep_hf.page.examples import SHOWN
from keep_hf.page.jobs.job import PartKey, SearchRequest
job = demo.service.submit("me", SearchRequest(PartKey(demo.service.add_video(SHOWN.path), 0, 0.6)))
job.stopped.wait()
print(len(job.view().result.people), "found")
demo.close()
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(environment), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        cwd=space,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 found" in done.stdout


def test_the_requirements_are_the_dependencies_of_the_package(space):
    """And not the package: where a name is on no index, anybody could take it."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["space"], "spaces"]
    listed = requirements(space / "requirements.txt")
    torch = listed.pop("torch")
    assert {str(part) for part in torch.specifier} == set(TORCH_VERSIONS)
    expected = {requirement.name: requirement for requirement in map(Requirement, needed)}
    assert str(expected.pop("torch").specifier) in TORCH_VERSIONS
    assert listed == expected


def test_the_metadata_of_the_space(space):
    front = re.match(r"---\n(.*?)\n---\n", (space / "README.md").read_text(), re.S)
    card = yaml.safe_load(front[1])
    assert card["sdk"] == "gradio"
    assert (space / card["app_file"]).is_file()
    assert Requirement(f"gradio=={card['sdk_version']}").specifier.contains(distribution("gradio").version)
    assert card["python_version"] in PYTHON_VERSIONS
    assert len(card["short_description"]) <= 60


def test_binary_files_go_through_git_lfs(space):
    """The Hub rejects others."""
    lines = (space / ".gitattributes").read_text().splitlines()
    patterns = [line.split()[0] for line in lines if "filter=lfs" in line]
    files = [path for path in space.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    binary = [path for path in files if b"\0" in path.read_bytes()[:10_000]]
    assert {path.suffix for path in binary} == {".safetensors", ".mp4"}
    assert all(any(fnmatch(path.name, pattern) for pattern in patterns) for path in binary)
