"""All of the page but its interface: uploads, sessions, jobs, and the deletion of what is old."""

import contextlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ...pipeline import KeepPipeline
from ..backend import Backend
from ..clips import ClipInfo
from ..limits import Limits
from ..progress import Progress
from ..requests import RestorationRequest
from .browser_copies import BrowserCopies
from .clients import ClientLimits, Clients
from .face_search import FaceSearch
from .job import Job, JobState, RestoreRequest, Result, SearchRequest
from .job_queue import JobQueue
from .sessions import Session
from .tasks import Tasks
from .video_cache import DELETED, VideoCache, checksum
from .work_folder import WorkFolder


SECONDS_BETWEEN = 0.2  # two messages about progress


class JobService:
    """Serves the users of a page until it is closed; a process that does not close it waits for the running jobs.

    Args:
        pipe ([`KeepPipeline`]): The pipeline, on its device.
        explain (`Callable[[Exception], str]`): What a user reads of an error.
        limits ([`Limits`], *optional*): Limits of a request.
        client_limits ([`ClientLimits`], *optional*): Limits of each client.
        on_gpu (`Callable`, *optional*): How to borrow a GPU, see [`Backend`].
        parent (`Path`, *optional*): Where the folder for all files is made; the system's folder for temporary files by
            default.
        seconds_between (`float`, *optional*, defaults to 60): Time between two deletions of what is old.

    Attributes:
        folder (`Path`): The folder for all files.
        limits ([`Limits`]), client_limits ([`ClientLimits`]): The limits.
        copies ([`BrowserCopies`]): Copies of uploads that browsers do not play.
        is_gpu_borrowed (`bool`): Whether a GPU is borrowed for the work.
    """

    def __init__(
        self,
        pipe: KeepPipeline,
        explain: Callable[[Exception], str],
        *,
        limits: Limits | None = None,
        client_limits: ClientLimits | None = None,
        on_gpu: Callable[..., Callable] | None = None,
        parent: Path | None = None,
        seconds_between: float = 60.0,
    ) -> None:
        self.limits, self.client_limits = limits or Limits(), client_limits or ClientLimits()
        self.is_gpu_borrowed = on_gpu is not None
        self._work = WorkFolder(parent or Path(tempfile.gettempdir()))
        self.folder = self._work.path
        videos, jobs = self.folder / "videos", self.folder / "jobs"
        videos.mkdir()
        jobs.mkdir()
        self._cache = VideoCache(videos)
        self.copies = BrowserCopies(self._cache, self.limits.seconds)
        self._clients = Clients(self.client_limits, self._work.used_bytes)
        self._tasks = Tasks(Backend(pipe, on_gpu), FaceSearch(pipe, self.limits, on_gpu), self._cache)
        self._queue = JobQueue(self._tasks.run, jobs, self._clients, lambda error: self.hide_folders(explain(error)))
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._checksums: dict[tuple[Path, int, int], str] = {}  # of files with their sizes and times of change
        self._last_deletion = time.monotonic()
        self._before_close: list[Callable[[], None]] = []
        self._is_closed = threading.Event()
        self._sweeper = threading.Thread(
            target=self._delete_regularly, args=(seconds_between,), name="keep_hf_jobs_sweeper", daemon=True
        )
        self._sweeper.start()

    def take_upload(self, client: str, num_bytes: int) -> None:
        """Count an upload, before it is accepted; see [`Clients.take_upload`]."""
        self._clients.take_upload(client, num_bytes)

    def add_video(self, file: Path) -> str:
        """Copy a video that was uploaded, unless it is known.

        Args:
            file (`Path`): The file.

        Returns:
            `str`: The SHA-256 of its content, for [`PartKey`] and [`RestoreRequest`].

        Raises:
            ValueError: If the file was deleted, is not a video, or is damaged.
        """
        try:
            status = file.stat()
        except FileNotFoundError:
            raise ValueError(DELETED) from None
        self.keep_upload(file)
        key = file, status.st_size, status.st_mtime_ns
        video = self._checksums.get(key) or checksum(file)
        self._cache.add(file, video)
        self._checksums[key] = video
        return video

    @staticmethod
    def keep_upload(file: Path) -> None:
        """Keep an upload as if it had come now: gradio deletes uploads by the last change of their status."""
        # The bundled examples, which are never deleted, may be read-only; a deleted upload is noticed when it is used.
        with contextlib.suppress(OSError):
            os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))

    def describe(self, video: str) -> ClipInfo:
        """Length and size of a video by its SHA-256.

        Raises:
            ValueError: If it was deleted.
        """
        with self._cache.use(video):
            return self._cache.clip(video)

    def find_video(self, video: str) -> Path:
        """The path of a video by its SHA-256, after a reload.

        Raises:
            ValueError: If it was deleted.
        """
        with self._cache.use(video) as path:
            return path

    def open_session(self, client: str) -> Session:
        """Start a session."""
        session = Session(client, self._queue)
        with self._lock:
            self._sessions[session.id] = session
        return session

    def find_session(self, session_id: str) -> Session:
        """Find a session by its id, after a reload.

        Raises:
            ValueError: If there is none.
        """
        with self._lock:
            if session_id not in self._sessions:
                minutes = self.client_limits.seconds / 60
                raise ValueError(f"There is no such session any more: it is kept for {minutes:.0f} minutes.")
            return self._sessions[session_id]

    def find_or_open_session(self, session_id: str, client: str) -> Session:
        """The session of a browser, or another one if it is kept no longer."""
        try:
            return self.find_session(session_id)
        except ValueError:
            return self.open_session(client)

    def has_session(self, session_id: str) -> bool:
        """Whether a session is still kept."""
        with self._lock:
            return session_id in self._sessions

    def call_before_close(self, function: Callable[[], None]) -> None:
        """Call a function when the service is closed, before its jobs are cancelled."""
        self._before_close.append(function)

    def hide_folders(self, message: str) -> str:
        """Remove the paths of folders from a message to users, so that only the names of files remain."""
        return re.sub(rf"{re.escape(str(self.folder))}/\w+/[^/]+/", "", message)

    def submit(self, client: str, request: SearchRequest | RestoreRequest) -> Job:
        """Append a job that belongs to no session.

        Raises:
            ValueError: If the client has too many jobs, or the queue is full.
        """
        return self._queue.submit(client, request)

    def estimate(self, request: RestoreRequest) -> float | None:
        """The expected time of a restoration in seconds, see [`Tasks.estimate`]."""
        return self._tasks.estimate(request)

    def measure_speed(self, video: Path, seconds: float) -> None:
        """Restore the beginning of a video as the first job, so that times can be estimated.

        Args:
            video (`Path`): A video with a face.
            seconds (`float`): Length of the beginning.
        """
        restoration = RestorationRequest(0.0, seconds, strength=1.0)
        self.submit("", RestoreRequest(self.add_video(video), restoration))

    def wait(self, job: Job) -> Iterator[Progress | Result]:
        """The progress of a job, and its result; an iterator that is closed cancels the job.

        Raises:
            ValueError: If the job fails.
        """
        try:
            while not job.stopped.wait(SECONDS_BETWEEN):
                view = job.view()
                yield Progress(view.phase or "Waiting in the queue", view.share, view.seconds_left)
        finally:
            self.cancel(job)
        view = job.view()
        if view.state is not JobState.DONE or view.result is None:
            raise ValueError(view.error or "The request was cancelled.")
        yield view.result

    def cancel(self, job: Job) -> None:
        """End a job, unless it has ended."""
        self._queue.cancel(job)

    def delete_old(self, seconds: float) -> None:
        """Delete what has not been used for a time in seconds: sessions, ended jobs with their files, and videos.

        The uploads of videos that were used since the last call are kept.
        """
        with self._lock:
            for session in list(self._sessions.values()):
                if session.is_unused(seconds):
                    del self._sessions[session.id]
        since, self._last_deletion = self._last_deletion, time.monotonic()
        used = self._cache.used_since(since)
        for key, video in list(self._checksums.items()):
            if not key[0].exists():
                self._checksums.pop(key, None)
            elif video in used:  # an open page, whose next click sends the upload again
                self.keep_upload(key[0])
        self._queue.delete_old(seconds)
        self._cache.delete_unused(seconds, self._queue.videos())

    def close(self) -> None:
        """Cancel all jobs, wait for their ends, and delete all files."""
        self._is_closed.set()
        self._sweeper.join()
        for function in self._before_close:
            function()
        self._queue.close()
        self._work.close()

    def _delete_regularly(self, seconds_between: float) -> None:
        while not self._is_closed.wait(seconds_between):
            self.delete_old(self.client_limits.seconds)
