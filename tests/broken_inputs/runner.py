"""Runs cases in the children of a worker process, and collects what they did."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from .case import MAX_SECONDS, Case, Outcome
from .samples import Samples


class Runner:
    """A worker process, and the whole inputs that cases damage.

    Args:
        folder (`Path`): An empty folder for inputs and outputs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "samples").mkdir()
        self.samples = Samples(folder / "samples")
        # No case may need the network, nor wait for one.
        variables = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "broken_inputs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | variables | {"HF_HOME": str(folder / "hub")},
        )
        assert self._worker.stdout is not None
        assert self._worker.stdout.readline() == "ready\n"

    def __enter__(self) -> "Runner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._worker.communicate()

    def run(self, case: Case) -> Outcome:
        """Make the input of a case, run the command, and remove both."""
        folder = self.folder / "case"
        folder.mkdir()
        try:
            arguments = case.build(folder, self.samples)
            before = list_files(folder)
            answer = self.command(
                arguments,
                folder,
                file_size=case.file_size,
                privileged=case.privileged,
                segment_frames=case.segment_frames,
                signals=case.signals,
            )
            after = list_files(folder)
            is_wrong = self._is_wrong(case, answer["code"], arguments, folder)
        finally:
            remove(folder)
        changed = tuple(sorted(name for name in before if after.get(name) != before[name]))
        new = tuple(sorted(after.keys() - before.keys()))
        if answer["code"] == 0:  # the output may replace a file
            changed, new = (), (*new, *changed)
        return Outcome(**answer, new_files=new, changed_files=changed, is_wrong=is_wrong)

    def _is_wrong(self, case: Case, code: int | None, arguments: list[str], folder: Path) -> bool:
        """Whether the result is not the expected one, after the run was resumed if it was interrupted."""
        if case.expected is None:
            return False
        if case.signals and code != 0:
            code = self.command([*arguments, "--resume"], folder, segment_frames=case.segment_frames)["code"]
            if code != 0:
                return True
        return code == 0 and digest(folder / "out.mp4") not in case.expected(self.samples)

    def command(self, arguments: list[str], folder: Path, **options: object) -> dict:
        """Run `keep-hf` in a folder, and return its exit code, seconds, memory and errors; see `worker.py`."""
        job = {"arguments": arguments, "folder": str(folder), "max_seconds": MAX_SECONDS}
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        print(json.dumps(job | options), file=self._worker.stdin, flush=True)
        return json.loads(self._worker.stdout.readline())


def digest(path: Path) -> str:
    """SHA-256 of a file; empty if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def list_files(folder: Path) -> dict[str, tuple[int, ...]]:
    """All that is in a folder, at any depth, with what shows that a file was changed."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        is_file = stat.S_ISREG(status.st_mode)
        found[str(path.relative_to(folder))] = (
            status.st_mode,
            *((status.st_size, status.st_mtime_ns) if is_file else ()),
        )
    return found


def remove(folder: Path) -> None:
    """Remove a folder in which files and folders may be without permissions."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)
