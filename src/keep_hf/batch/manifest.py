"""The manifest of a folder of results: one line of JSON for the outcome of every video, written by all processes."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MANIFEST = "keep-hf.jsonl"

RESTORED, NO_FACES, ALREADY_DONE, FAILED = "restored", "no faces", "already done", "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of a video.

    Args:
        source (`str`): The video.
        target (`str`): The result, relative to the folder of the results, with slashes.
        outcome (`str`): "restored"; "no faces", if the frames were written unchanged; "already done", if an earlier
            run has left the result; or "failed".
        reason (`str`, *optional*): The message of the error, if it failed.
        seconds (`float`): Time that this process needed.
        frames (`int`): Number of frames of the result; 0 if this process did not write it.
        size (`int`): Size of the result in bytes; 0 if it failed.
        host (`str`): The machine.
        pid (`int`): The process.
        time (`str`): When this was written, in UTC.
    """

    source: str
    target: str
    outcome: str
    reason: str | None
    seconds: float
    frames: int
    size: int
    host: str
    pid: int
    time: str


class Manifest:
    """The manifest in a folder; several processes append to it, on several machines if they share the folder.

    The file is locked for every call, because appending alone is not atomic on network file systems.

    Args:
        folder (`Path`): The folder of the results.
        start (`int`, *optional*, defaults to 0): Where to start to read, in bytes from the beginning.
    """

    def __init__(self, folder: Path, start: int = 0) -> None:
        self.path = folder / MANIFEST
        self._position = start

    def size(self) -> int:
        """Size of the file in bytes; 0 if there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, *outcomes: Outcome) -> None:
        """Write a line for each outcome, and wait until they are on the disk."""
        lines = b"".join(json.dumps(asdict(outcome)).encode() + b"\n" for outcome in outcomes)
        with open(self.path, "ab+", buffering=0) as file, _locked(file.fileno()):
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                # A power failure may have cut off the last line.
                lines = lines if file.read(1) == b"\n" else b"\n" + lines
            file.write(lines)
            os.fsync(file.fileno())

    def read_new(self) -> Iterator[Outcome]:
        """The outcomes that were appended since the last call, or since the start."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._position)
                content = file.read()
        except FileNotFoundError:
            return
        complete = content[: content.rfind(b"\n") + 1]
        self._position += len(complete)
        for line in complete.splitlines():
            # A line that a power failure has cut off says nothing.
            with contextlib.suppress(ValueError, TypeError):
                yield Outcome(**json.loads(line))


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
