"""All of the page but its interface: uploads, sessions, jobs, and the deletion of what is old."""

import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ...pipeline import KeepPipeline
from ..backend import Backend
from ..limits import Limits
from .clients import ClientLimits, Clients
from .face_search import FaceSearch
from .job import Job
from .job_queue import JobQueue
from .sessions import Session
from .tasks import Tasks
from .video_cache import VideoCache
from .work_folder import WorkFolder


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
        limits, self._client_limits = limits or Limits(), client_limits or ClientLimits()
        self._work = WorkFolder(parent or Path(tempfile.gettempdir()))
        self.folder = self._work.path
        videos, jobs = self.folder / "videos", self.folder / "jobs"
        videos.mkdir()
        jobs.mkdir()
        self._cache = VideoCache(videos)
        self._clients = Clients(self._client_limits, self._work.used_bytes)
        tasks = Tasks(Backend(pipe, limits, on_gpu), FaceSearch(pipe, limits, on_gpu), self._cache)
        self._queue = JobQueue(tasks.run, jobs, self._clients, explain)
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._is_closed = threading.Event()
        self._sweeper = threading.Thread(
            target=self._delete_regularly, args=(seconds_between,), name="keep_hf_jobs_sweeper", daemon=True
        )
        self._sweeper.start()

    def upload(self, client: str, files: Sequence[Path]) -> list[str]:
        """Take videos from a client.

        Args:
            client (`str`): Who uploads.
            files (`Sequence[Path]`): The files of one request; they are copied.

        Returns:
            `list[str]`: The SHA-256 of each, for [`PartKey`] and [`RestoreRequest`].

        Raises:
            ValueError: If a limit would be exceeded.
        """
        self._clients.take_upload(client, [file.stat().st_size for file in files])
        return [self._cache.add(file) for file in files]

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
                minutes = self._client_limits.seconds / 60
                raise ValueError(f"There is no such session any more: it is kept for {minutes:.0f} minutes.")
            return self._sessions[session_id]

    def find_job(self, job_id: str) -> Job:
        """Find a job by its id, which is enough to see the result.

        Raises:
            ValueError: If there is none.
        """
        return self._queue.find(job_id)

    def delete_old(self, seconds: float) -> None:
        """Delete what has not been used for a time in seconds: sessions, ended jobs with their files, and videos."""
        with self._lock:
            for session in list(self._sessions.values()):
                if session.is_unused(seconds):
                    del self._sessions[session.id]
        self._queue.delete_old(seconds)
        self._cache.delete_unused(seconds)

    def close(self) -> None:
        """Cancel all jobs, wait for their ends, and delete all files."""
        self._is_closed.set()
        self._sweeper.join()
        self._queue.close()
        self._work.close()

    def _delete_regularly(self, seconds_between: float) -> None:
        while not self._is_closed.wait(seconds_between):
            self.delete_old(self._client_limits.seconds)
