"""Local copies of remote files while they are restored."""

import hashlib
import shutil
from pathlib import Path

from .remote_file import RemoteFile
from .shared_folder import Job


class LocalCopies:
    """A folder with the copies of remote sources and with results that are not uploaded yet.

    The names depend on the remote files only, so a run that is resumed finds what it needs. A source that has changed
    has another name. What belongs to a failed or interrupted job stays.

    Args:
        folder (`Path`): The folder; it is created when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fetch(self, job: Job) -> Path:
        """The source of a job, downloaded if it is remote.

        Raises:
            OSError: If it cannot be downloaded.
        """
        if isinstance(job.source, Path):
            return job.source
        key = f"{job.source} {job.source.version()} {job.target}"
        path = self._folder("in", key) / job.source.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            job.source.download(path)
        return path

    def target(self, job: Job) -> Path:
        """Where the result of a job is written."""
        return job.target if isinstance(job.target, Path) else self._folder("out", str(job.target)) / job.target.name

    def deliver(self, job: Job, source: Path) -> None:
        """Upload the result of a job if its place is remote, and remove the copies.

        Args:
            job ([`Job`]): The job.
            source (`Path`): From `fetch`.

        Raises:
            OSError: If it cannot be uploaded.
        """
        if isinstance(job.target, RemoteFile):
            target = self.target(job)
            job.target.upload(target)
            shutil.rmtree(target.parent)
        if isinstance(job.source, RemoteFile):
            shutil.rmtree(source.parent)

    def _folder(self, kind: str, key: str) -> Path:
        return self.folder / kind / hashlib.sha256(key.encode()).hexdigest()[:32]
