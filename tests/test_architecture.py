"""The structure of the package: imports point down, modules form no cycle, folders stay small.

Every import statement counts in the same way: at the top of a module, inside a function, and in a `TYPE_CHECKING`
block.  A type annotation is knowledge of another module, too, and a late import is still an import.  Python also runs
the `__init__` of every enclosing package; those implicit imports are not counted.
"""

import ast
import re
from pathlib import Path

import pytest

from paths import REPOSITORY


SOURCE = REPOSITORY / "src"
PACKAGE = "keep_hf"
# From the bottom to the top.  A module imports from lower levels and from its own package; modules and packages that
# share a level do not import each other.  `keep_hf` is the package's own `__init__`: the public API.
ORDER = [
    ["loading_errors"],
    [
        "allocator",
        "built_in",
        "downloads",
        "drawn_people",
        "offloading",
        "options",
        "registration",
        "state_version",
        "stopwatch",
        "version",
    ],
    ["video"],
    ["batch"],
    ["models"],
    ["faces"],
    ["degrade"],
    ["restoration"],
    ["pipeline"],
    ["cluster", "hub_dataset"],
    ["keep_hf"],
    ["evaluation"],
    ["benchmark"],
    ["page"],
    ["cli"],
]
LEVELS = {name: level for level, names in enumerate(ORDER) for name in names}
MAX_MODULES = 12
# The folders of the repository that use the package.  The package does not know of them.
USERS = ("benchmarks", "examples", "spaces", "tests", "training")


def module_name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_imports(source: Path, package: str) -> dict[str, set[str]]:
    """For every module of a package, the names of the modules that it imports, of this package and of others."""
    paths = {module_name(path, source): path for path in sorted((source / package).rglob("*.py"))}
    imports: dict[str, set[str]] = {}
    for name, path in paths.items():
        imports[name] = set()
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                imports[name].update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    # One dot is the package of the module, every further dot the package around it.
                    parts = name.split(".")
                    parents = parts[: len(parts) - node.level + (path.name == "__init__.py")]
                    base = ".".join([*parents, *filter(None, [node.module])])
                # `from package import name` imports a module if there is one of that name.
                imports[name].update(
                    f"{base}.{alias.name}" if f"{base}.{alias.name}" in paths else base for alias in node.names
                )
    return imports


def unit(module: str) -> str:
    """The part of the package that has a level: its sub-package, or the module itself."""
    return module.split(".")[1] if "." in module else module


def upward_imports(imports: dict[str, set[str]]) -> list[str]:
    """Imports between units of the package that do not go to a lower level."""
    return [
        f"{module} -> {target}"
        for module, targets in imports.items()
        for target in sorted(targets)
        if target.split(".")[0] == PACKAGE
        and unit(module) != unit(target)
        and LEVELS[unit(target)] >= LEVELS[unit(module)]
    ]


def find_cycles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(imports[start])
        while waiting:
            module = waiting.pop()
            if module in imports and module not in seen:
                seen.add(module)
                waiting.extend(imports[module])
        return seen

    reached = {module: reachable(module) for module in imports}
    groups = {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in imports
        if module in reached[module]
    }
    return [list(group) for group in sorted(groups)]


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    return find_imports(SOURCE, PACKAGE)


def test_every_module_has_a_level(imports):
    assert {unit(module) for module in imports} == set(LEVELS)


def test_imports_point_down(imports, capsys):
    upward, cycles = upward_imports(imports), find_cycles(imports)
    packages = [path.parent.name for path in sorted((SOURCE / PACKAGE).glob("*/__init__.py"))]
    with capsys.disabled():
        print(
            f"\n{len(imports)} modules, packages {', '.join(packages)}; "
            f"upward imports {len(upward)}, cycles {len(cycles)}"
        )
    assert not upward
    assert not cycles


def test_the_package_does_not_import_its_users(imports):
    assert not {target for targets in imports.values() for target in targets if target.split(".")[0] in USERS}


def test_folders_are_small():
    folders = {path.parent for path in (SOURCE / PACKAGE).rglob("*.py")}
    sizes = {folder.name: len(list(folder.glob("*.py"))) - 1 for folder in folders}  # without __init__.py
    assert max(sizes.values()) <= MAX_MODULES, sizes


def test_the_documentation_shows_the_same_order():
    page = (REPOSITORY / "docs" / "architecture.md").read_text()
    section = page.split("\n## Import order\n")[1].split("\n## ")[0]
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in section.splitlines() if line.startswith("| `")]
    assert [sorted(names) for names in rows] == [sorted(names) for names in reversed(ORDER)]


def test_the_documentation_lists_every_module():
    page = (REPOSITORY / "docs" / "architecture.md").read_text()
    sections = re.split(r"^### ", page.split("\n## Modules\n")[1].split("\n## ")[0], flags=re.M)[1:]
    listed = []
    for section in sections:
        # A heading that is code is the name of a package.
        package = re.match(r"`(\w+)`", section)
        names = re.findall(r"`([\w/]+\.py)`", "\n".join(re.findall(r"^\|([^|]+)\|", section, re.M)))
        listed += [f"{package[1]}/{name}" if package else name for name in names]
    root = SOURCE / PACKAGE
    files = [path.relative_to(root).as_posix() for path in root.rglob("*.py") if path.name[0] != "_"]
    missing, stale = sorted(set(files) - set(listed)), sorted(set(listed) - set(files))
    assert not missing, f"docs/architecture.md does not list {missing}"
    assert not stale, f"docs/architecture.md lists {stale}, which do not exist"
    assert len(listed) == len(files)


# The checks themselves: they see an import wherever it stands.


@pytest.fixture
def imports_of(tmp_path):
    def write(modules: dict[str, str]) -> dict[str, set[str]]:
        for name, code in {"__init__": "", **modules}.items():
            path = (tmp_path / PACKAGE / name).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code)
        return find_imports(tmp_path, PACKAGE)

    return write


@pytest.mark.parametrize(
    "code",
    [
        "from .pipeline import KeepPipeline",
        "from . import pipeline",
        "import keep_hf.pipeline",
        "from keep_hf.pipeline import KeepPipeline",
        "def load():\n    from .pipeline import KeepPipeline",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .pipeline import KeepPipeline",
    ],
)
def test_an_upward_import_is_found(imports_of, code):
    imports = imports_of({"degrade": code, "pipeline": "from .stopwatch import Stopwatch", "stopwatch": ""})
    assert upward_imports(imports) == ["keep_hf.degrade -> keep_hf.pipeline"]


def test_imports_between_packages_of_one_level_are_found(imports_of):
    init = "from .detector import Faces"
    imports = imports_of(
        {"models/vq": "from ..faces.detector import Faces", "faces/detector": "", "faces/__init__": init}
    )
    assert upward_imports(imports) == ["keep_hf.models.vq -> keep_hf.faces.detector"]


def test_a_cycle_is_found(imports_of):
    imports = imports_of(
        {
            "video/reader": "from .writer import VideoWriter",
            "video/writer": "from .open import open_video",
            "video/open": "def open_video():\n    from .reader import VideoReader",
            "video/formats": "from .reader import VideoReader",
        }
    )
    assert find_cycles(imports) == [["keep_hf.video.open", "keep_hf.video.reader", "keep_hf.video.writer"]]
