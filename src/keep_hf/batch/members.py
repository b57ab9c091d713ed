"""The processes that work in a folder: each has a file there, whose content changes as long as the process lives.

Whether a process of this machine lives is asked of the system. That of another machine is dead if its file has not
changed for two minutes. The clocks of both machines are not compared.
"""

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .processes import Process, has_ended, this_process


# Seconds. A network file system may show changes of a file after a minute only.
BEAT, PATIENCE = 10.0, 120.0


@dataclass(frozen=True)
class Member:
    """The content of the file of a process.

    Args:
        process ([`Process`]): The process.
        start (`int`): Size of the manifest when its run started: what was appended later was done during this run.
        beat (`int`): A number that grows.
    """

    process: Process
    start: int
    beat: int

    @classmethod
    def read(cls, path: Path) -> "Member | None":
        """Read a file; `None` if there is none, or it is incomplete."""
        try:
            content = json.loads(path.read_text())
            return cls(Process(**content["process"]), int(content["start"]), int(content["beat"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None


class Heartbeat:
    """The file of this process; a thread changes it regularly until `close`.

    Args:
        folder (`Path`): The folder of the files of all processes; it is created.
        start (`int`): See [`Member`].

    Attributes:
        name (`str`): Name of the file; no other process has ever had it.
        process ([`Process`]): This process.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.process = this_process()
        self.name = f"{uuid.uuid4().hex}.json"
        self._path, self._start, self._beat = folder / self.name, start, 0
        self._end = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._write()
        self._thread = threading.Thread(target=self._run, name="keep-hf heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Remove the file: the process does not work in the folder any longer."""
        self._end.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._end.wait(BEAT):
            # The network may be down for a moment. If it stays down, the others take over.
            with contextlib.suppress(OSError):
                self._write()

    def _write(self) -> None:
        self._beat += 1
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(asdict(Member(self.process, self._start, self._beat))))
        os.replace(new, self._path)


class Watch:
    """Which of the processes that work in a folder have ended.

    Args:
        folder (`Path`): The folder of their files.
        patience (`float`, *optional*, defaults to 120): How long the file of a process of another machine may stay
            unchanged, in seconds.
    """

    def __init__(self, folder: Path, patience: float = PATIENCE) -> None:
        self.folder, self.patience = folder, patience
        self._seen: dict[str, tuple[object, float]] = {}

    def has_ended(self, name: str) -> bool:
        """Whether the process with a file of this name has ended.

        A process of another machine is watched from the first call on, so it takes at least two minutes to find that.
        """
        member = Member.read(self.folder / name)
        if member is None and not (self.folder / name).exists():
            return True
        if member is not None and (ended := has_ended(member.process)) is not None:
            return ended
        return self.is_unchanged(name, member)

    def is_unchanged(self, name: str, content: object) -> bool:
        """Whether the content of a file has been the same for longer than `patience`, since the first call with it."""
        now = time.monotonic()
        seen, since = self._seen.get(name, (None, now))
        if name not in self._seen or seen != content:
            self._seen[name] = (content, now)
            return False
        return now - since > self.patience

    def members(self) -> Iterator[Member]:
        """The processes that have not ended, as far as this machine knows."""
        for path in self.folder.glob("*.json"):
            member = Member.read(path)
            if member is not None and not self.has_ended(path.name):
                yield member
