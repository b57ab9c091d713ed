"""The Space: its app runs with the packages that its requirements name."""

import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from paths import REPOSITORY


pytestmark = pytest.mark.slow


SPACE = REPOSITORY / "spaces"
LINES = [line for line in (SPACE / "requirements.txt").read_text().splitlines() if not line.startswith("#")]


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
def environment(tmp_path_factory) -> Path:
    """A folder with the packages that the requirements install, and no others."""
    folder = tmp_path_factory.mktemp("packages")
    names: set[tuple[str, str]] = set()
    for line in LINES:
        installed_by(line, names)
    for name in {name for name, _ in names}:
        package = distribution(name)
        tops = {Path(file).parts[0] for file in package.files or [] if not str(file).startswith("..")}
        for top in tops - {"__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(package.locate_file(top))
    return folder


def test_the_app_needs_only_its_requirements(environment, tmp_path):
    script = f"""
import runpy, sys
space = runpy.run_path({str(SPACE / "app.py")!r}, run_name="space")
demo = space["build_demo"](space["pipe"])
assert {{"faces", "restore"}} <= {{function.api_name for function in demo.fns.values()}}
for name in ("skimage", "matplotlib", "transformers", "playwright", "pytest"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{{name}} can be imported")
from pathlib import Path
from keep_hf.page.app import EXAMPLE
from keep_hf.page import Limits
from keep_hf.page.backend import Backend
*_, found = Backend(space["pipe"], Limits()).find_faces(EXAMPLE, 0, 0.6)
print(len(found.tracks), "found")
"""
    source = SPACE.parent / "src"  # the package is installed from the checkout
    packages = os.pathsep.join([str(source), str(environment)])
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": packages, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 found" in done.stdout


def test_the_metadata_of_the_space():
    front = re.match(r"---\n(.*?)\n---\n", (SPACE / "README.md").read_text(), re.S)
    card = yaml.safe_load(front[1])
    assert card["sdk"] == "gradio"
    assert (SPACE / card["app_file"]).is_file()
    assert card["sdk_version"].startswith("6.")
    assert len(card["short_description"]) <= 60
