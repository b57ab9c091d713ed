"""The folder that holds an unfinished output, designed so that a run killed at any moment can be resumed.

Everything that the saved state refers to is on the disk before the state is, and the state is replaced atomically.
After a kill or a power failure the state is therefore that of the last finished segment; files that it does not
refer to are leftovers.
"""

import contextlib
import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import av
import torch

from ..state_version import SavedStateError, check_state_version
from .media_files import is_image


if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

STATE, LOCK = "state.pt", "lock"
STATE_VERSION = 1
# Limit of most file systems for the name of a file.
MAX_NAME_BYTES = 255

Setting = str | int | float | None


class OutputInUseError(ValueError):
    """Another process writes the output at the same time."""


def part_path(target: Path) -> Path:
    """The folder `name.part` of an output; long names are shortened."""
    name = f"{target.name}.part"
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
        name = f"{target.stem[:40]}-{digest}.part"
    return target.with_name(name)


def has_saved_work(target: Path) -> bool:
    """Whether an earlier run has left work on an output from which another one can be resumed."""
    return (part_path(target) / STATE).is_file()


class PartFolder:
    """The folder `name.part` beside an output.

    Args:
        target (`Path`): The output.
        settings (`Mapping[str, Setting]`): What must be equal for a run to resume the work of another, by the names
            that error messages use.

    Attributes:
        path (`Path`): The folder.
        saved (`dict[str, Any]`, *optional*): Content that was saved last, in this run or the one that is resumed.
    """

    def __init__(self, target: Path, settings: Mapping[str, Setting]) -> None:
        self.target, self.settings = target, dict(settings)
        self.path = part_path(target)
        self.saved: dict[str, Any] | None = None

    def open(self, resume: bool) -> None:
        """Create the folder, or lock an existing one: to resume its work, or to empty it.

        Raises:
            ValueError: If it is no folder, holds files of another origin, or another process uses it; with `resume`
                also if its state is damaged, or belongs to a job with other settings.
        """
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise ValueError(f"{self.path} is needed for unfinished work, but is no folder; move it away.")
        self.path.mkdir(exist_ok=True)
        if not (self.path / LOCK).exists() and any(self.path.iterdir()):
            raise ValueError(
                f"{self.path} is needed for unfinished work, but holds files that this program has not written; move "
                "the folder away, or choose another output."
            )
        self._lock = self._acquire_lock()
        try:
            if resume and (self.path / STATE).exists():
                self.saved = self._load()
            else:
                (self.path / STATE).unlink(missing_ok=True)  # before the files that it refers to
                self.keep(())
        except BaseException:
            self._lock.close()
            raise

    def save(self, content: dict[str, Any]) -> None:
        """Replace the state atomically, once the folder's list of files is on the disk.

        Args:
            content (`dict[str, Any]`): Tensors, numbers, strings, `None`, and lists, tuples and dictionaries of them.
        """
        sync(self.path)
        temporary = self.path / f"{STATE}.new"
        with open(temporary, "wb") as file:
            torch.save({"version": STATE_VERSION, "settings": self.settings, "content": content}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path / STATE)
        sync(self.path)
        self.saved = content

    def keep(self, names: Collection[str]) -> None:
        """Delete everything except the files of these names and the state."""
        for path in self.path.iterdir():
            if path.name not in (STATE, LOCK, *names):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def close(self, *, remove: bool) -> None:
        """Release the lock, and remove the folder first if asked to."""
        if remove:
            self.keep(())
            (self.path / STATE).unlink(missing_ok=True)
            if sys.platform == "win32":
                self._lock.close()  # Windows does not remove open files
            (self.path / LOCK).unlink()
            with contextlib.suppress(OSError):  # another process may have started to work in it
                self.path.rmdir()
        self._lock.close()

    def _acquire_lock(self) -> IO[bytes]:
        file = lock_file(self.path / LOCK)
        if file is None:
            raise OutputInUseError(f"{self.target} is being written by another process; wait, or choose another name.")
        return file

    def _load(self) -> dict[str, Any]:
        path = self.path / STATE
        if not path.is_file():  # reading a pipe would never end
            raise SavedStateError(f"{path} is no file; start again without resume, which deletes {self.path}.")
        try:
            # torch.load does not compare the checksums that torch.save wrote.
            with zipfile.ZipFile(path) as archive:
                if archive.testzip():
                    raise ValueError("a checksum is wrong")
            state = torch.load(path, map_location="cpu", weights_only=True)
            settings, content = dict(state["settings"]), dict(state["content"])
        except Exception as error:
            raise SavedStateError(
                f"{path} is damaged ({type(error).__name__}); start again without resume, which deletes {self.path}."
            ) from error
        check_state_version(state, STATE_VERSION, str(path))
        differing = [
            f"{name} was {settings.get(name)} and is {value}"
            for name, value in self.settings.items()
            if settings.get(name) != value
        ]
        if differing:
            raise SavedStateError(
                f"{self.target} was started with other settings: {', '.join(differing)}. Use the same settings, or "
                f"start again without resume, which deletes {self.path}."
            )
        return content


def lock_file(path: Path) -> IO[bytes] | None:
    """Create and lock a file, until the returned file is closed; `None` if another process has locked it."""
    file = open(path, "ab")  # noqa: SIM115
    try:
        # The system releases such a lock when the process ends, for whatever reason.
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The previous owner of the lock may have removed the file.
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except (BlockingIOError, FileNotFoundError, PermissionError):
        pass
    file.close()
    return None


def describe_source(path: Path) -> dict[str, Setting]:
    """Identify a version of a video or of a folder of images, as settings of a `PartFolder`.

    Only the images of a folder count: it may also hold the output, which changes meanwhile.
    """
    files = [file for file in path.iterdir() if is_image(file)] if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return {
        "source": str(path.resolve()),
        "size of the source": sum(stat.st_size for stat in stats),
        "modification time of the source": max(stat.st_mtime_ns for stat in stats),
    }


def sync(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on the disk."""
    if sys.platform == "win32":
        return  # cannot open folders; NTFS keeps its lists of files consistent
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def report_write_errors(target: Path) -> Iterator[None]:
    """Re-raise errors of FFmpeg and of the system as an `OSError` that names the output."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise OSError(error.errno, f"{target} cannot be written: {error.strerror}") from error
