"""Files of one JSON object per line, to which processes append, also on several machines that share the file."""

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any


if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class JsonLines:
    """A file of lines, each on the disk when the call returns that appends it.

    The file is locked for every call, because appending alone is not atomic on network file systems.

    Args:
        path (`Path`): The file.
        start (`int`, *optional*, defaults to 0): Where to start to read, in bytes from the beginning.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        self.path, self._position = path, start

    def size(self) -> int:
        """Size of the whole lines in bytes, 0 if there are none: where the next line will be."""
        try:
            with open(self.path, "rb") as file:
                return _find_end(file)
        except FileNotFoundError:
            return 0

    def append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Write a line for each entry, and wait until they are on the disk."""
        lines = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
        with open(self.path, "ab+", buffering=0) as file, _locked(file.fileno()):
            file.truncate(_find_end(file))  # removes a line that a kill or a power failure has cut off
            left = memoryview(lines)
            while left:  # on a full disk, a part is written without an error first
                left = left[file.write(left) :]
            os.fsync(file.fileno())

    def read_new(self) -> Iterator[dict[str, Any]]:
        """The entries that were appended since the last call, or since the start; a line that was cut off is none."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._position)
                content = file.read()
        except FileNotFoundError:
            return
        complete = content[: content.rfind(b"\n") + 1]
        self._position += len(complete)
        for line in complete.splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    yield entry


def _find_end(file: IO[bytes]) -> int:
    """The position after the last whole line of a file."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 2**16)
        file.seek(start)
        last = file.read(end - start).rfind(b"\n")
        if last >= 0:
            return start + last + 1
        end = start
    return 0


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Lock a file; the system releases the lock when the process ends."""
    if sys.platform == "win32":
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if sys.platform == "win32":
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
