"""Claims of machines on the videos of a folder in an object store, besides those of processes on one machine.

A store has no locks, but it can write an object only if there is none of this name (`If-None-Match: *` of S3 and its
like). A claim is such an object, with a generation in its name, as in `claims.py`. A machine shows that it lives by an
object that it changes; others wait until that has stayed the same for two minutes before they take over.
"""

import contextlib
import hashlib
import os
import threading
import time
import uuid
import warnings
from pathlib import Path, PurePosixPath

from .members import BEAT, Watch
from .remote_file import RemoteFile


FOLDER = PurePosixPath(".keep-hf")
MACHINE = "machine"
# On the Hub every object would be a commit.
WITHOUT_CLAIMS = ("hf",)
# Seconds for which a list of claims is used again.
LIST_AGE = 5.0


def machine_name(folder: Path) -> str:
    """The name of this machine: the same for all processes that share a working folder, also after a crash.

    Two processes that start at the same moment may get two names. They then count as two machines.
    """
    path = folder / MACHINE
    if not path.exists():
        new = folder / f"{uuid.uuid4().hex}.new"
        new.write_text(uuid.uuid4().hex)
        os.replace(new, path)
    return path.read_text()


class StoreClaims:
    """The claims of this machine. Used as a context, in which the machine shows that it lives.

    Args:
        root (`RemoteFile`): The folder of the results.
        machine (`str`): From `machine_name`.
        watch ([`Watch`]): Only remembers what has not changed for too long.
    """

    def __init__(self, root: RemoteFile, machine: str, watch: Watch) -> None:
        self.root, self.machine, self._watch = root, machine, watch
        self._names: list[str] = []
        self._taken: dict[str, int] = {}  # generations of the claims of this process
        self._listed = -LIST_AGE
        self._end = threading.Event()

    def __enter__(self) -> "StoreClaims":
        self._show_life()
        try:
            can_replace = self._beat(self.machine).create(b"")
        except BaseException:
            self._end_life()
            raise
        if can_replace:
            warnings.warn(
                f"{self.root} replaces files that exist when asked not to, so machines cannot claim videos there: do "
                "not let two machines write to it at the same time.",
                stacklevel=2,
            )
        self._thread = threading.Thread(target=self._run, name="keep-hf store heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        self._end_life()

    def take(self, name: str) -> bool:
        """Claim a video for this machine; `False` if another machine works on it.

        Args:
            name (`str`): The video, which this process has claimed on this machine.

        Raises:
            OSError: If the store cannot be reached.
        """
        newest = max(self._generations(name), default=-1)
        if newest >= 0:
            owner = (self._claim(name, newest).read() or b"").decode()
            if owner == self.machine:
                self._taken[name] = newest
                return True  # of a process that was killed
            # Without an owner it was released at this moment; the next list shows that.
            if not owner or not self._watch.is_unchanged(owner, self._beat(owner).read()):
                return False
        if not self._claim(name, newest + 1).create(self.machine.encode()):
            return False
        self._taken[name] = newest + 1
        return True

    def release(self, name: str) -> None:
        """Remove the claim, and those that it took over; the newest is the last. One that took it over stays."""
        self._listed = -LIST_AGE
        for generation in range(self._taken.pop(name) + 1):
            with contextlib.suppress(OSError):
                self._claim(name, generation).remove()

    def _generations(self, name: str) -> list[int]:
        if time.monotonic() - self._listed > LIST_AGE:
            self._names = [path.name for path in (self.root / FOLDER).find()]
            self._listed = time.monotonic()
        key, split = _key(name), (each.rpartition(".") for each in self._names)
        return [int(generation) for start, _, generation in split if start == key]

    def _claim(self, name: str, generation: int) -> RemoteFile:
        return self.root / FOLDER / PurePosixPath(f"{_key(name)}.{generation}")

    def _beat(self, machine: str) -> RemoteFile:
        return self.root / FOLDER / PurePosixPath(f"{machine}.machine")

    def _run(self) -> None:
        while not self._end.wait(BEAT):
            with contextlib.suppress(OSError):  # the network may be down for a moment
                self._show_life()

    def _show_life(self) -> None:
        self._beat(self.machine).write(uuid.uuid4().hex.encode())

    def _end_life(self) -> None:
        # Another process of this machine creates it again.
        with contextlib.suppress(OSError):
            self._beat(self.machine).remove()


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
