"""Several videos as one request of a session: the work needs no browser, and is found again after a reload."""

import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..jobs.service import JobService
from ..jobs.sessions import Session
from ..messages import explain
from ..progress import Progress
from ..requests import RestorationRequest
from .restore_several import RestoredVideos, restore_several


CANCELLED = "Cancelled."


@dataclass(frozen=True)
class BatchView:
    """A batch at one moment.

    Attributes:
        progress ([`Progress`], *optional*): How far it is; `None` when it has ended.
        result ([`RestoredVideos`], *optional*): The result.
        error (`str`): Why there is none.
    """

    progress: Progress | None
    result: RestoredVideos | None = None
    error: str = ""


class Batch:
    """A batch in a thread of its own, which starts at once.

    Args:
        session ([`Session`]): The session, which is kept while the batch runs.
        steps (`Generator`): From [`restore_several`].
    """

    def __init__(self, session: Session, steps: Generator[Progress | RestoredVideos, None, None]) -> None:
        self._session, self._steps = session, steps
        self._lock = threading.Lock()
        self._view = BatchView(Progress("Starting"))
        self._thread = threading.Thread(target=self._run, name="keep_hf_batch", daemon=True)
        self._thread.start()

    def view(self) -> BatchView:
        """The batch at this moment."""
        result = self._view.result
        if result is not None and not result.archive.exists():
            return BatchView(None, error="The results were deleted, because they are kept for a time only.")
        return self._view

    def cancel(self) -> None:
        """End the batch, unless it has ended; the video that is being restored is cancelled, too."""
        self._change(BatchView(None, error=CANCELLED))

    def join(self) -> None:
        """Wait until no thread works on the batch."""
        self._thread.join()

    def _change(self, view: BatchView) -> bool:
        """Show another view; `False` if the batch has ended, because an end is final."""
        with self._lock:
            if self._view.progress is not None:
                self._view = view
                return True
            return False

    def _run(self) -> None:
        try:
            with closing(self._steps) as steps:
                for step in steps:
                    self._session.keep()
                    view = BatchView(None, step) if isinstance(step, RestoredVideos) else BatchView(step)
                    if not self._change(view):
                        return
        except Exception as error:
            self._change(BatchView(None, error=explain(error, None)))


class SessionBatches:
    """The batches of all sessions; each session has one at a time.

    Args:
        service ([`JobService`]): The jobs; when it is closed, all batches end before.
    """

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._batches: dict[str, Batch] = {}
        self._lock = threading.Lock()  # handlers run in threads
        service.call_before_close(self._close)

    def start(self, session: Session, videos: Sequence[Path], options: RestorationRequest) -> None:
        """Start a batch, which replaces an earlier one.

        Args:
            session ([`Session`]): The session.
            videos (`Sequence[Path]`): The uploads.
            options ([`RestorationRequest`]): How to restore them.

        Raises:
            ValueError: If there is no video; the earlier batch stays.
        """
        steps = restore_several(self._service, session.client, videos, options)
        with self._lock:
            self.cancel(session.id)
            self._batches = {key: batch for key, batch in self._batches.items() if self._service.has_session(key)}
            self._batches[session.id] = Batch(session, steps)

    def view(self, session_id: str) -> BatchView | None:
        """The batch of a session at this moment, if there is one."""
        batch = self._batches.get(session_id)
        return None if batch is None else batch.view()

    def cancel(self, session_id: str) -> None:
        """End the batch of a session, if there is one that runs."""
        if batch := self._batches.get(session_id):
            batch.cancel()

    def _close(self) -> None:
        with self._lock:
            batches = list(self._batches.values())
        for batch in batches:
            batch.cancel()
        for batch in batches:
            batch.join()
