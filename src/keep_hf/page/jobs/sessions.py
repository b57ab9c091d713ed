"""A session: what one user of the page has chosen, and the jobs for it.

A new video, another part, or none cancels what runs for the former one. The jobs of the former choice are no longer
those of the session, so an answer that comes late has no place to go. A result stays until another restoration of its
video has one.
"""

import secrets
import threading
import time
from dataclasses import dataclass

from .choices import Choices, Chosen
from .face_search import FoundPeople
from .job import Job, JobState, JobView, PartKey, RestoreRequest, SearchRequest
from .job_queue import JobQueue


@dataclass(frozen=True)
class SessionView:
    """A session at one moment.

    Attributes:
        part ([`PartKey`], *optional*): The chosen video and part.
        name (`str`): Name of the upload.
        search ([`JobView`], *optional*): The search for people in this part.
        found_in ([`PartKey`], *optional*): The part of this video that was searched last, with success.
        found ([`FoundPeople`], *optional*): The people in that one.
        chosen (`Chosen`): Those who are chosen.
        restoration ([`JobView`], *optional*): The latest restoration of this part, until its result is deleted.
        result ([`JobView`], *optional*): The latest restoration with a result; its part of this video may be another.
        is_expired (`bool`): Whether the result was deleted.
        place (`int`): Number of jobs before the restoration while it waits.
        choice_error (`str`): Why the latest choice, or the search for people in it, was refused.
        restoration_error (`str`): Why the latest request for a restoration was refused.
    """

    part: PartKey | None
    name: str
    search: JobView | None
    found_in: PartKey | None
    found: FoundPeople | None
    chosen: Chosen
    restoration: JobView | None
    result: JobView | None
    is_expired: bool
    place: int
    choice_error: str
    restoration_error: str


class Session:
    """The state of one user; safe to use from several threads.

    Args:
        client (`str`): Who the user is, for the limits.
        queue ([`JobQueue`]): Runs the jobs.

    Attributes:
        id (`str`): Id of the session; it cannot be guessed. After a reload, the page finds its session by it.
    """

    def __init__(self, client: str, queue: JobQueue) -> None:
        self.id, self.client, self._queue = secrets.token_urlsafe(16), client, queue
        self._lock = threading.RLock()
        self._part: PartKey | None = None
        self._name = ""
        self._search: Job | None = None
        self._found: tuple[PartKey, FoundPeople] | None = None
        self._choices = Choices()
        self._restoration: Job | None = None
        self._result: Job | None = None
        self._is_expired = False
        self._choice_error = self._restoration_error = ""
        self._last_use = time.monotonic()

    def choose(self, part: PartKey | None, name: str = "") -> None:
        """Choose a part of a video, or clear the choice. The people in the part are searched for.

        Args:
            part ([`PartKey`], *optional*): The part.
            name (`str`): Name of the upload; that of another part of the same video stays.

        Raises:
            ValueError: If the client has too many jobs, or the queue is full.
        """
        with self._lock:
            self._last_use = time.monotonic()
            if part is None or part != self._part:
                self._choice_error = self._restoration_error = ""
            if part == self._part:
                return
            self.cancel()
            self._take_people()
            self._take_result()
            if part is None or self._part is None or part.video != self._part.video:
                self._found, self._choices, self._name, self._result = None, Choices(), name, None
            self._part, self._search, self._restoration, self._is_expired = part, None, None, False
            if self._result is not None and _restored_part(self._result) == part:
                self._restoration = self._result  # the user has come back to this part
            if part is not None:
                self._search = self._queue.submit(self.client, SearchRequest(part))

    def refuse_choice(self, error: str) -> None:
        """Show why the latest choice, or the search in it, was refused, until there is another one."""
        with self._lock:
            self._choice_error = error

    def choose_people(self, numbered_in: PartKey, chosen: Chosen) -> None:
        """Choose people and their strengths, also for other parts of the same video.

        Args:
            numbered_in ([`PartKey`]): The part in which they have these numbers; a choice from a part that was
                replaced is too late, and ignored.
            chosen (`Chosen`): Those who are chosen.
        """
        with self._lock:
            self._take_people()
            if self._found is not None and self._found[0] == numbered_in:
                self._choices.remember(self._found[1], chosen)

    def _take_people(self) -> None:
        """Take the result of the search, if it is done."""
        if self._part is not None and self._search is not None:
            result = self._search.view().result
            if isinstance(result, FoundPeople):
                self._found = self._part, result

    def search_again(self) -> None:
        """Search for the people in the chosen part, after a search that has failed or was cancelled.

        Raises:
            ValueError: If the client has too many jobs, or the queue is full.
        """
        with self._lock:
            self._last_use = time.monotonic()
            is_over = self._search is None or self._search.state in (JobState.FAILED, JobState.CANCELLED)
            if self._part is not None and is_over:
                self._search = self._queue.submit(self.client, SearchRequest(self._part))
                self._choice_error = ""

    def restore(self, request: RestoreRequest) -> Job:
        """Restore a part. The request has all that is needed: the search may still run, or may have failed.

        A request like the one before, or like that of the result, returns the job of that one, unless it has failed or
        was cancelled. Another one replaces the one before.

        Raises:
            ValueError: If the client has too many jobs, or the queue is full.
        """
        with self._lock:
            self.choose(request.chosen_part, request.name)
            self._take_result()
            former, failed = self._restoration, (JobState.FAILED, JobState.CANCELLED)
            jobs = [job for job in (former, self._result) if job is not None]
            same = next((job for job in jobs if job.request == request and job.state not in failed), None)
            if former is not None and former is not same:
                self._queue.cancel(former)
            self._restoration = same or self._queue.submit(self.client, request)
            self._is_expired, self._restoration_error = False, ""
            return self._restoration

    def refuse_restoration(self, error: str) -> None:
        """Show why a request for a restoration was refused, until there is another one, or another choice."""
        with self._lock:
            # The progress of a restoration that waits or runs matters more.
            if self._restoration is None or self._restoration.state.is_final:
                self._restoration_error = error

    def cancel(self) -> None:
        """Cancel the jobs of the session; those that have ended keep their results."""
        with self._lock:
            for job in (self._search, self._restoration):
                if job is not None:
                    self._queue.cancel(job)

    def view(self) -> SessionView:
        """The session at this moment."""
        with self._lock:
            self._last_use = time.monotonic()
            self._take_result()
            search = self._search.view() if self._search else None
            restoration = self._restoration.view() if self._restoration else None
            result = self._result.view() if self._result else None
            place = self._queue.place(self._restoration) if self._restoration else 0
            self._take_people()
            found_in, found = self._found or (None, None)
            return SessionView(
                part=self._part,
                name=self._name,
                search=search,
                found_in=found_in,
                found=found,
                chosen=self._choices.recall(found) if found else {},
                restoration=restoration,
                result=result,
                is_expired=self._is_expired,
                place=place,
                choice_error=self._choice_error,
                restoration_error=self._restoration_error,
            )

    def keep(self) -> None:
        """Count the session as used now."""
        with self._lock:
            self._last_use = time.monotonic()

    def _take_result(self) -> None:
        """Take the result of the restoration, if it is done; forget jobs that were deleted long after their end."""
        if self._restoration is not None and self._restoration.state is JobState.DONE:
            self._result = self._restoration
        if self._result is not None and not self._queue.holds(self._result):
            self._result, self._is_expired = None, True
        if self._restoration is not None and not self._queue.holds(self._restoration):
            self._restoration = None

    def is_unused(self, seconds: float) -> bool:
        """Whether the session was not used, and no job of it has ended, for a time in seconds."""
        with self._lock:
            jobs = (self._search, self._restoration, self._result)
            ends = [job.view().seconds_ended for job in jobs if job is not None]
            idle = time.monotonic() - self._last_use
        return idle >= seconds and all(end is not None and end >= seconds for end in ends)


def _restored_part(job: Job) -> PartKey:
    assert isinstance(job.request, RestoreRequest)
    return job.request.chosen_part
