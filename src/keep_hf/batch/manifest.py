"""The manifest of a folder of results: one line of JSON for the outcome of every video, written by all processes."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .json_lines import JsonLines


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

    Args:
        folder (`Path`): The folder of the results.
        start (`int`, *optional*, defaults to 0): Where to start to read, in bytes from the beginning.
    """

    def __init__(self, folder: Path, start: int = 0) -> None:
        self.path = folder / MANIFEST
        self._lines = JsonLines(self.path, start)

    def size(self) -> int:
        """Size of the whole lines in bytes; 0 if there are none."""
        return self._lines.size()

    def append(self, *outcomes: Outcome) -> None:
        """Write a line for each outcome, and wait until they are on the disk."""
        self._lines.append(asdict(outcome) for outcome in outcomes)

    def read_new(self) -> Iterator[Outcome]:
        """The outcomes that were appended since the last call, or since the start."""
        for entry in self._lines.read_new():
            with contextlib.suppress(TypeError):  # not one of ours
                yield Outcome(**entry)
