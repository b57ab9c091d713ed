"""Claims: which process works on which video of a folder.

A claim is a small file that is created exclusively, which is atomic on local and on network file systems: of several
processes, one succeeds. Its name has a generation. To take over the claim of a process that has ended, another one
creates the claim of the next generation, again exclusively. No claim is replaced, and only its owner removes it, so
two processes that find the same dead owner cannot both succeed it.
"""

import hashlib
import os
from pathlib import Path

from .members import Heartbeat, Watch


class Claim:
    """A claim of this process on a video.

    Args:
        path (`Path`): Its file, without the generation.
        generation (`int`): 0, or one more than that of the claim that was taken over.
    """

    def __init__(self, path: Path, generation: int) -> None:
        self.path, self.generation = path, generation

    def is_lost(self) -> bool:
        """Whether another process has taken over the claim, because this one seemed dead for too long."""
        return _file(self.path, self.generation + 1).exists()

    def release(self) -> None:
        """Remove the claim and those that it took over. The newest is the last, so it counts until all are removed."""
        for generation in range(self.generation + 1):
            _file(self.path, generation).unlink(missing_ok=True)


class Claims:
    """The claims in a folder.

    Args:
        folder (`Path`): The folder of the claims; it is created.
        owner ([`Heartbeat`]): The file of this process.
        watch ([`Watch`]): Knows which other processes have ended.
    """

    def __init__(self, folder: Path, owner: Heartbeat, watch: Watch) -> None:
        self.folder, self.owner, self.watch = folder, owner, watch
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, name: str) -> Claim | None:
        """Claim a video, or return `None` if another process works on it.

        Args:
            name (`str`): The video, for all processes the same.
        """
        path = self.folder / hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
        newest = max((int(file.suffix[1:]) for file in self.folder.glob(f"{path.name}.*")), default=-1)
        if newest >= 0 and not self._has_ended(_file(path, newest)):
            return None
        return Claim(path, newest + 1) if self._create(_file(path, newest + 1)) else None

    def _has_ended(self, path: Path) -> bool:
        try:
            owner = path.read_text()
        except FileNotFoundError:
            return False  # released at this moment; the next call sees that
        if len(owner) < len(self.owner.name):
            # The process is about to write its name, or has ended before.
            return self.watch.is_unchanged(path.name, owner)
        return self.watch.has_ended(owner)

    def _create(self, path: Path) -> bool:
        try:
            with open(path, "x") as file:
                file.write(self.owner.name)
            return True
        except FileExistsError:
            return False
        except FileNotFoundError:
            # A process that thought itself the last one has removed the folder.
            self.folder.mkdir(parents=True, exist_ok=True)
            return False


def _file(path: Path, generation: int) -> Path:
    return path.with_name(f"{path.name}.{generation}")
