"""The folder for all files of this process: videos, parts and results.

A process that is killed cannot delete its folder. Its lock on the folder ends with it, so the next process can take
the lock at start, and deletes the folder.
"""

import shutil
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout


PREFIX = "keep_hf_jobs_"
LOCK_NAME = ".lock"


class WorkFolder:
    """A new folder, which other users of the machine cannot read.

    Args:
        parent (`Path`): Where it is made, and where the folders of earlier processes are deleted.

    Attributes:
        path (`Path`): The folder.
    """

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        for folder in parent.glob(f"{PREFIX}*"):
            _delete_unless_locked(folder)
        self.path, self._lock = _make_locked(parent)

    def used_bytes(self) -> int:
        """The size of all files in the folder."""
        total = 0
        for path in self.path.rglob("*"):
            try:
                total += path.stat().st_size if path.is_file() else 0
            except FileNotFoundError:  # deleted meanwhile
                continue
        return total

    def close(self) -> None:
        """Delete the folder."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _make_locked(parent: Path) -> tuple[Path, FileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = FileLock(folder / LOCK_NAME)
        lock.acquire()
        # Another process that starts may have taken the folder for a left-over, before it was locked.
        if folder.is_dir():
            return folder, lock


def _delete_unless_locked(folder: Path) -> None:
    lock_file = folder / LOCK_NAME
    try:
        if lock_file.is_file():  # otherwise the folder is being made
            with FileLock(lock_file, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
    except (Timeout, PermissionError):  # in use, or of another user of the machine
        return
