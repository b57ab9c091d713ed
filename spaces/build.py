"""Build the folder of a Space, ready for `git push`.

python spaces/build.py                 # make space
python spaces/build.py ../my-space     # into a clone of a Space: make space FOLDER=../my-space

A Space installs `requirements.txt` before it copies the other files of its repository, so a wheel in it cannot be
installed, and `keep_hf` is on no package index. The package is therefore a folder beside `app.py`, and the
requirements are its dependencies.
"""

import shutil
import sys
from pathlib import Path


HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
PACKAGE = REPOSITORY / "src" / "keep_hf"
FOLDER = REPOSITORY / "dist" / "space"


def build(folder: Path) -> None:
    """Write the files of a Space into a folder; only files of these names are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in (HERE / "README.md", HERE / "app.py", HERE / "requirements.txt", REPOSITORY / "LICENSE"):
        shutil.copy(source, folder)
    # The Hub takes binary files through Git LFS only.
    for name in ("gitattributes", "gitignore"):
        shutil.copy(HERE / name, folder / f".{name}")
    shutil.rmtree(folder / PACKAGE.name, ignore_errors=True)
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    build(target)
    print(f"The Space is in {target}. docs/guides/page.md describes how to push it.")
