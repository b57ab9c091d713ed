"""Local copies of remote files while they are restored."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..video.part_folder import describe_source
from .remote_file import RemoteFile
from .shared_folder import Job


# Beside a result that is not uploaded yet.
REPORT = "report.json"


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
        path = self._copy(job, job.source)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            job.source.download(path)
        return path

    def target(self, job: Job) -> Path:
        """Where the result of a job is written."""
        return job.target if isinstance(job.target, Path) else self._folder("out", str(job.target)) / job.target.name

    def keep(self, job: Job, settings: Mapping[str, Any], report: Mapping[str, Any]) -> None:
        """Keep the report of a result until the result is delivered; see `find_finished`.

        Args:
            job ([`Job`]): The job; its result is complete.
            settings (`Mapping[str, Any]`): What the result depends on besides the source, as for JSON.
            report (`Mapping[str, Any]`): The report.
        """
        if isinstance(job.target, Path):
            return
        path = self.target(job).with_name(REPORT)
        new = path.with_suffix(".new")
        new.write_text(json.dumps([str(self._version(job)), dict(settings), dict(report)]))
        os.replace(new, path)

    def find_finished(self, job: Job, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The report of a result that was not delivered, or `None` if there is none for this source and settings.

        Args:
            job ([`Job`]), settings (`Mapping[str, Any]`): See `keep`.
        """
        target = self.target(job)
        path = target.with_name(REPORT)
        if isinstance(job.target, Path) or not path.exists() or not target.exists():
            return None
        version, earlier, report = json.loads(path.read_text())
        is_same = (version, earlier) == (str(self._version(job)), json.loads(json.dumps(dict(settings))))
        return report if is_same else None

    def deliver(self, job: Job) -> None:
        """Upload the result of a job if its place is remote, and remove the copies.

        Raises:
            OSError: If it cannot be uploaded.
        """
        if isinstance(job.target, RemoteFile):
            target = self.target(job)
            try:
                job.target.upload(target)
            except OSError as error:
                raise OSError(f"{error} The restored video is kept: --resume uploads it.") from error
            shutil.rmtree(target.parent)
        if isinstance(job.source, RemoteFile):
            shutil.rmtree(self._copy(job, job.source).parent, ignore_errors=True)

    def _version(self, job: Job) -> object:
        return describe_source(job.source) if isinstance(job.source, Path) else job.source.version()

    def _copy(self, job: Job, source: RemoteFile) -> Path:
        return self._folder("in", f"{source} {source.version()} {job.target}") / source.name

    def _folder(self, kind: str, key: str) -> Path:
        return self.folder / kind / hashlib.sha256(key.encode()).hexdigest()[:32]
