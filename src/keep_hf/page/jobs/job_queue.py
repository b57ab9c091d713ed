"""The queue: one job of each kind runs at a time, the others wait.

A search takes seconds and a restoration minutes, so a search does not wait for a restoration.
"""

import shutil
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from ..progress import Progress
from .clients import Clients
from .job import Job, JobState, RestoreRequest, Result, SearchRequest


Work = Callable[[Job], Generator[Progress | Result, None, None]]


class JobQueue:
    """Runs jobs, and keeps their results for a time.

    Args:
        work (`Callable`): Returns a generator that does a job: it yields progress, and the result at the end.
        folder (`Path`): An existing folder for the files of jobs.
        clients ([`Clients`]): Limits the number of jobs.
        explain (`Callable[[Exception], str]`): What a user reads of an error.
    """

    def __init__(self, work: Work, folder: Path, clients: Clients, explain: Callable[[Exception], str]) -> None:
        self._work, self._folder, self._clients, self._explain = work, folder, clients, explain
        self._lock = threading.Lock()
        self._jobs: dict[str, tuple[Job, Future[None]]] = {}  # in the order of their requests
        self._lanes = {
            kind: ThreadPoolExecutor(1, thread_name_prefix="keep_hf_jobs") for kind in (SearchRequest, RestoreRequest)
        }

    def submit(self, client: str, request: SearchRequest | RestoreRequest) -> Job:
        """Append a job.

        Raises:
            ValueError: If the client has too many, or the queue is full.
        """
        with self._lock:
            self._clients.check_places(client, [job.client for job in self._unfinished()])
            job = Job(client, request, self._folder)
            self._jobs[job.id] = job, self._lanes[type(request)].submit(self._run, job)
        return job

    def cancel(self, job: Job) -> None:
        """End a job; see [`Job.cancel`]."""
        job.cancel()
        with self._lock:
            entry = self._jobs.get(job.id)
        # A job that waits never reaches a thread.
        if entry is not None and entry[1].cancel():
            job.stopped.set()

    def holds(self, job: Job) -> bool:
        """Whether a job and its files were not deleted yet."""
        with self._lock:
            return job.id in self._jobs

    def place(self, job: Job) -> int:
        """The number of jobs that come before a job that waits; 0 if it does not wait."""
        if job.state is not JobState.WAITING:
            return 0
        with self._lock:
            lane = [other for other in self._unfinished() if type(other.request) is type(job.request)]
        return lane.index(job) if job in lane else 0

    def videos(self) -> set[str]:
        """The videos of the jobs that wait or run, by their SHA-256."""
        with self._lock:
            return {job.request.part.video for job in self._unfinished()}

    def delete_old(self, seconds: float) -> None:
        """Delete the jobs that have ended at least a time in seconds ago, with their files."""
        with self._lock:
            for job, _ in list(self._jobs.values()):
                ended = job.view().seconds_ended
                if ended is not None and ended >= seconds and job.stopped.is_set():
                    del self._jobs[job.id]
                    shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """Cancel all jobs, and wait until no thread works on them."""
        with self._lock:
            jobs = [job for job, _ in self._jobs.values()]
        for job in jobs:
            self.cancel(job)
        for lane in self._lanes.values():
            lane.shutdown()

    def _unfinished(self) -> list[Job]:
        return [job for job, _ in self._jobs.values() if not job.state.is_final]

    def _run(self, job: Job) -> None:
        """Do a job, in the thread of its lane. The generator is closed here, in the thread that has advanced it."""
        try:
            if job.start():
                with closing(self._work(job)) as steps:
                    for step in steps:
                        if isinstance(step, Progress):
                            job.advance(step)
                        else:
                            job.finish(step)
                        if job.state.is_final:
                            break
        except Exception as error:
            job.fail(self._explain(error))
        if job.state is not JobState.DONE:
            shutil.rmtree(job.folder, ignore_errors=True)
        job.stopped.set()
