"""The folder in which an output grows until it is complete, made so that a run killed at any moment can be resumed.

Whatever the folder's state says is on the disk before the state says it, and the state changes in one step. So after
a kill, or a power cut, the state is that of the last finished segment; files that it does not know are left-overs.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import torch


if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

STATE, LOCK = "state.pt", "lock"


class PartFolder:
    """The folder `name.part` beside an output.

    Args:
        target (`Path`): The output.
        settings (`dict[str, Any]`): What must be the same for a run to go on with the work of another.

    Attributes:
        path (`Path`): The folder.
        saved (`dict[str, Any]`, *optional*): What was saved last, in this run or the one that is resumed.
    """

    def __init__(self, target: Path, settings: dict[str, Any]):
        self.target, self.settings = target, settings
        self.path = target.with_name(f"{target.name}.part")
        self.saved: dict[str, Any] | None = None

    def open(self, resume: bool) -> None:
        """Make the folder, or take over an old one: to go on with it, or to empty it.

        Raises:
            ValueError: If it holds files of somebody else, or another process works in it; with `resume` also if its
                state is damaged, or that of a job with other settings.
        """
        self.path.mkdir(exist_ok=True)
        if not (self.path / LOCK).exists() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} is needed for the work and holds other files; move them away.")
        self._lock = self._take_lock()
        try:
            if resume and (self.path / STATE).exists():
                self.saved = self._load()
            else:
                (self.path / STATE).unlink(missing_ok=True)  # before the files that it promises
                self.keep(())
        except BaseException:
            self._lock.close()
            raise

    def save(self, content: dict[str, Any]) -> None:
        """Replace the state, in one step, once every file named before is on the disk.

        Args:
            content (`dict[str, Any]`): Tensors, numbers, strings, `None`, and lists, tuples and dictionaries of them.
        """
        sync(self.path)
        temporary = self.path / f"{STATE}.new"
        with open(temporary, "wb") as file:
            torch.save({"settings": self.settings} | content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path / STATE)
        sync(self.path)
        self.saved = content

    def keep(self, names: Collection[str]) -> None:
        """Delete everything but these files and the state."""
        for path in self.path.iterdir():
            if path.name not in (STATE, LOCK, *names):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def close(self, *, remove: bool) -> None:
        """Let other processes have the folder, or remove it."""
        if remove:
            self.keep(())
            (self.path / STATE).unlink(missing_ok=True)
            if sys.platform == "win32":
                self._lock.close()  # Windows removes no open files
            (self.path / LOCK).unlink()
            with contextlib.suppress(OSError):  # someone has begun anew in it already
                self.path.rmdir()
        self._lock.close()

    def _take_lock(self) -> IO[bytes]:
        path = self.path / LOCK
        file = open(path, "ab")  # noqa: SIM115
        try:
            # The system lets go of such a lock when the process ends, however it ends.
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had it until now may have removed it.
            mine = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError, PermissionError):
            mine = False
        if not mine:
            file.close()
            raise ValueError(f"{self.target} is being written by another process; wait for it, or name another file.")
        return file

    def _load(self) -> dict[str, Any]:
        path = self.path / STATE
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            settings = content.pop("settings")
        except Exception as error:
            raise ValueError(
                f"{path} is damaged ({type(error).__name__}); start anew without resume, which deletes {self.path}."
            ) from error
        differing = [
            f"{name} was {settings.get(name)} and is {self.settings[name]}"
            for name in self.settings
            if settings.get(name) != self.settings[name]
        ]
        if differing:
            raise ValueError(
                f"{self.target} was begun differently: {', '.join(differing)}. Give the same settings, or start anew "
                f"without resume, which deletes {self.path}."
            )
        return content


def describe_source(path: Path) -> dict[str, Any]:
    """Tell one version of a video, or of a folder of pictures, from another."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return {
        "source": str(path.resolve()),
        "size of the source": sum(stat.st_size for stat in stats),
        "modification time of the source": max(stat.st_mtime_ns for stat in stats),
    }


def sync(path: Path) -> None:
    """Wait until a file or the list of files of a folder is on the disk."""
    if sys.platform == "win32":
        return  # cannot open folders; NTFS keeps its lists in order by itself
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
