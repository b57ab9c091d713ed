"""A folder of results that several processes fill, on one machine or on several that share the folder.

Every process takes the longest video that is neither finished nor claimed, until all videos are finished. A process
that finds nothing to take waits for the others, because it takes over what a killed one has left.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from .claims import Claim, Claims
from .manifest import ALREADY_DONE, FAILED, Manifest, Outcome
from .members import PATIENCE, Heartbeat, Watch
from .processes import this_process
from .remote_file import RemoteFile
from .store_claims import MACHINE, WITHOUT_CLAIMS, StoreClaims, machine_name


# The folder of the claims; it is removed at the end.
HIDDEN = ".keep-hf"
# Seconds between two attempts to find a video that is not claimed.
PAUSE = 1.0


@dataclass(frozen=True)
class Job:
    """A video and its result.

    Args:
        source (`Path` or [`RemoteFile`]): The video.
        target (`Path` or [`RemoteFile`]): The result.
        name (`str`): The result relative to the folder of all results, with slashes.
    """

    source: Path | RemoteFile
    target: Path | RemoteFile
    name: str

    def outcome(self, outcome: str, reason: str | None = None, seconds: float = 0.0, frames: int = 0) -> Outcome:
        """An [`Outcome`] of this job, from this process, now."""
        size = 0
        if outcome != FAILED and self.target.exists():
            size = self.target.stat().st_size if isinstance(self.target, Path) else self.target.size()
        process = this_process()
        return Outcome(
            source=str(self.source),
            target=self.name,
            outcome=outcome,
            reason=reason,
            seconds=round(seconds, 3),
            frames=frames,
            size=size,
            host=process.host,
            pid=process.pid,
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )


def find_start(folder: Path) -> int:
    """Where the run that begins now begins in the manifest: what comes later is done and not repeated in this run.

    A run that begins while another one is at work in the folder joins it, and does not repeat what that one has done.
    """
    watch = Watch(folder / HIDDEN / "processes")
    return min([Manifest(folder).size(), *(member.start for member in watch.members())])


def is_at_work(folder: Path) -> bool:
    """Whether another run is at work in the folder."""
    return any(Watch(folder / HIDDEN / "processes").members())


def record_finished(folder: Path, jobs: Sequence[Job], start: int) -> None:
    """Write into the manifest which results exist before a run that is resumed.

    Args:
        folder (`Path`): The folder of the results.
        jobs (`Sequence[Job]`): All videos.
        start (`int`): From `find_start`; results that are in the manifest since then are not written again.
    """
    manifest = Manifest(folder, start)
    known = {outcome.target for outcome in manifest.read_new()}
    jobs = [job for job in jobs if job.name not in known]
    with ThreadPoolExecutor(16) as pool:  # a remote file takes a request
        exists = pool.map(lambda job: job.target.exists(), jobs)
    finished = [job for job, is_finished in zip(jobs, exists, strict=True) if is_finished]
    if finished:
        manifest.append(*(job.outcome(ALREADY_DONE) for job in finished))


class SharedFolder:
    """The part of this process in the work on a folder. Used as a context, which releases its claim at the end.

    Args:
        folder (`Path`): The folder of the results; it is created.
        jobs (`Sequence[Job]`): All videos, the longest first.
        start (`int`): From `find_start`, for all processes of a run the same.
        resume (`bool`): Whether results that exist are finished.
        patience (`float`, *optional*, defaults to 120): How long a process of another machine may show no sign of
            life, in seconds.

    Attributes:
        manifest ([`Manifest`]): The manifest in the folder.
        outcomes (`dict[str, Outcome]`): What became of the jobs in this run, by their names.
    """

    def __init__(
        self, folder: Path, jobs: Sequence[Job], start: int, resume: bool, patience: float = PATIENCE
    ) -> None:
        self.jobs, self.resume = list(jobs), resume
        self.outcomes: dict[str, Outcome] = {}
        self._names = {job.name for job in jobs}
        self.manifest, self._start = Manifest(folder, start), start
        self._hidden = folder / HIDDEN
        self._watch = Watch(self._hidden / "processes", patience)
        self._resources = contextlib.ExitStack()
        self._claim: Claim | None = None
        self._machines: StoreClaims | None = None
        self._claimed: Job | None = None  # on this machine and in the store

    def __enter__(self) -> "SharedFolder":
        with contextlib.ExitStack() as resources:  # closed in the reverse order, also if a store cannot be reached
            self._hidden.mkdir(parents=True, exist_ok=True)
            resources.callback(self._tidy_up)
            heartbeat = Heartbeat(self._watch.folder, self._start)
            resources.callback(heartbeat.close)
            self._claims = Claims(self._hidden / "claims", heartbeat, self._watch)
            if (root := _find_store(self.jobs)) is not None:
                machine = machine_name(self._hidden)
                machines = StoreClaims(root, machine, Watch(self._hidden, self._watch.patience))
                self._machines = resources.enter_context(machines)
            resources.callback(self._release)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._resources.close()

    @property
    def num_failed(self) -> int:
        """How many jobs have failed in this run, in all processes."""
        return sum(outcome.outcome == FAILED for outcome in self.outcomes.values())

    def take_jobs(self) -> Iterator[Job]:
        """The jobs that this process claims, one at a time; the caller records the outcome of each.

        The iterator ends when all jobs have an outcome, from this process or from others.
        """
        while waiting := self._find_waiting():
            for job in waiting:
                self._claim = self._claims.take(job.name)
                if self._claim is None:
                    continue
                if not self._is_done(job):
                    if self._machines is not None and not self._machines.take(job.name):
                        self._claim.release()
                        self._claim = None
                        continue
                    self._claimed = job
                    # Another machine may have finished it at the last moment.
                    if self._machines is None or not self._is_done(job):
                        yield job
                self._release()
                break
            else:
                time.sleep(PAUSE)

    def _is_done(self, job: Job) -> bool:
        """Whether another process has finished the job that is claimed, or was killed just after that."""
        self._read_outcomes()
        if job.name in self.outcomes:
            return True
        if not self.resume or not job.target.exists():
            return False
        self.record(job, ALREADY_DONE)
        return True

    def record(self, job: Job, outcome: str, reason: str | None = None, seconds: float = 0.0, frames: int = 0) -> None:
        """Append the outcome of the job that is claimed to the manifest; see [`Outcome`] for the arguments."""
        # A process that was suspended for so long that another one took over leaves the outcome to that one.
        if self._claim is not None and not self._claim.is_lost():
            self.manifest.append(job.outcome(outcome, reason, seconds, frames))

    def _find_waiting(self) -> list[Job]:
        self._read_outcomes()
        return [job for job in self.jobs if job.name not in self.outcomes]

    def _read_outcomes(self) -> None:
        for outcome in self.manifest.read_new():
            if outcome.target in self._names:
                self.outcomes[outcome.target] = outcome

    def _release(self) -> None:
        if self._machines is not None and self._claimed is not None:
            self._machines.release(self._claimed.name)
        if self._claim is not None:
            self._claim.release()
        self._claim = self._claimed = None

    def _tidy_up(self) -> None:
        """Remove what killed processes have left, if no process works in the folder any longer."""
        # A process has a file before it has a claim, so these claims belong to the processes that are asked for next.
        left = [*(self._hidden / "claims").glob("*.*"), *self._watch.folder.glob("*.json"), self._hidden / MACHINE]
        if any(self._watch.members()):
            return
        for path in left:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a new process has started
            for path in (self._hidden / "claims", self._hidden / "processes", self._hidden):
                path.rmdir()


def _find_store(jobs: Sequence[Job]) -> RemoteFile | None:
    """The folder of the results, if it is in a store in which machines can claim videos."""
    target = jobs[0].target if jobs else None
    if not isinstance(target, RemoteFile) or target.protocol in WITHOUT_CLAIMS:
        return None
    return RemoteFile(target.protocol, target.path.removesuffix(f"/{jobs[0].name}"))
