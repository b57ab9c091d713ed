"""A job: what was requested, how far it is, and its result.

The states are those of a machine with three ends:

    waiting ──> running ──> done, failed
       └───────────┴──────> cancelled

Every change is made under a lock, and an end is final. Progress or a result that arrives after the end, as that of a
frame that was being restored when the user cancelled, is dropped.
"""

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..progress import Progress
from ..requests import PREVIEW_SECONDS, RestorationRequest, RestoredPart
from .face_search import FoundPeople
from .total_progress import Speed, TotalProgress


Result = FoundPeople | RestoredPart


@dataclass(frozen=True)
class PartKey:
    """A part of a video.

    Attributes:
        video (`str`): SHA-256 of the file.
        start, end (`float`): In seconds from the first frame.
    """

    video: str
    start: float
    end: float


@dataclass(frozen=True)
class SearchRequest:
    """Find the people in a part of a video."""

    part: PartKey


@dataclass(frozen=True)
class RestoreRequest:
    """Restore a part of a video.

    Attributes:
        video (`str`): SHA-256 of the file.
        restoration ([`RestorationRequest`]): The part and the options; people have the numbers of [`FoundPerson`] in
            this part.
        is_preview (`bool`): Whether to restore the first seconds of the part only.
        numbered_in ([`PartKey`], *optional*): The part in which the people have these numbers, if it is another one:
            the user has changed the part, and it was not searched yet.
        name (`str`): Name of the upload, for the names of the results.
    """

    video: str
    restoration: RestorationRequest
    is_preview: bool = False
    numbered_in: PartKey | None = None
    name: str = "video.mp4"

    @property
    def chosen_part(self) -> PartKey:
        """The part that was chosen."""
        return PartKey(self.video, self.restoration.start, self.restoration.end)

    @property
    def searched_part(self) -> PartKey:
        """The part in which the people have their numbers."""
        return self.numbered_in or self.chosen_part

    @property
    def part(self) -> PartKey:
        """The part to restore."""
        whole = self.chosen_part
        end = min(whole.end, whole.start + PREVIEW_SECONDS) if self.is_preview else whole.end
        return PartKey(whole.video, whole.start, end)


class JobState(Enum):
    """States of a job."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the state is one of the three ends."""
        return self not in (JobState.WAITING, JobState.RUNNING)


@dataclass(frozen=True)
class JobView:
    """A job at one moment.

    Attributes:
        id (`str`): Id of the job; it cannot be guessed.
        request ([`SearchRequest`] or [`RestoreRequest`]): What was requested.
        state ([`JobState`]): The state.
        phase (`str`): What is being done.
        share (`float`): Finished share of the whole job, from 0 to 1; it never decreases.
        seconds_left (`float`, *optional*): Estimated time until the end of the job.
        result ([`FoundPeople`] or [`RestoredPart`], *optional*): The result of a job that is done.
        error (`str`): Why a job has failed.
        seconds_ended (`float`, *optional*): Seconds since the end.
    """

    id: str
    request: SearchRequest | RestoreRequest
    state: JobState
    phase: str
    share: float
    seconds_left: float | None
    result: Result | None
    error: str
    seconds_ended: float | None


class Job:
    """A job; safe to use from several threads.

    Args:
        client (`str`): Who has requested it.
        request ([`SearchRequest`] or [`RestoreRequest`]): What was requested.
        folder (`Path`): The folder of all jobs; the files of this one are in the folder `folder / id`.
    """

    def __init__(self, client: str, request: SearchRequest | RestoreRequest, folder: Path) -> None:
        self.client, self.request = client, request
        self.id = secrets.token_urlsafe(16)
        self.folder = folder / self.id
        # Set when no thread works on the job any more, and the files of a job without a result are removed.
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._state, self._progress = JobState.WAITING, TotalProgress({}, Speed())
        self._result: Result | None = None
        self._error = ""
        self._ended: float | None = None

    @property
    def state(self) -> JobState:
        """The state at this moment."""
        return self._state

    def start(self) -> bool:
        """Start to work; `False` if the job was cancelled while it waited."""
        with self._lock:
            if self._state is JobState.WAITING:
                self._state = JobState.RUNNING
            return self._state is JobState.RUNNING

    def plan(self, work: Mapping[str, float], speed: Speed) -> None:
        """Set the phases that the job will have, see [`TotalProgress`]."""
        with self._lock:
            self._progress = TotalProgress(work, speed)

    def advance(self, progress: Progress) -> None:
        """Take progress of a phase."""
        with self._lock:
            if not self._state.is_final:
                self._progress.advance(progress)

    def finish(self, result: Result) -> None:
        """Take the result."""
        self._end(JobState.DONE, result=result)

    def fail(self, error: str) -> None:
        """Take the reason why there is no result."""
        self._end(JobState.FAILED, error=error)

    def cancel(self) -> None:
        """End the job, unless it has ended; the work stops after its present step, `stopped` says when."""
        self._end(JobState.CANCELLED)

    def keep(self) -> None:
        """Keep the result as if the job had ended now."""
        with self._lock:
            if self._ended is not None:
                self._ended = time.monotonic()

    def view(self) -> JobView:
        """The job at this moment."""
        with self._lock:
            progress = self._progress
            return JobView(
                self.id,
                self.request,
                self._state,
                progress.phase,
                progress.share,
                None if self._state.is_final else progress.seconds_left(),
                self._result,
                self._error,
                None if self._ended is None else time.monotonic() - self._ended,
            )

    def _end(self, state: JobState, result: Result | None = None, error: str = "") -> None:
        with self._lock:
            if not self._state.is_final:
                self._state, self._result, self._error = state, result, error
                if state is JobState.DONE:
                    self._progress.finish()
                self._ended = time.monotonic()
