"""Local copies of remote files while they are restored."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..video.part_folder import describe_source, sync
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

    def target(self, job: Job) -> Path:
        """Where the result of a job is written."""
        return job.target if isinstance(job.target, Path) else self._folder("out", str(job.target)) / job.target.name

    def begin(self, job: Job) -> "LocalCopy":
        """The copies of a job, for the version that the source has now.

        Raises:
            OSError: If a remote source cannot be reached.
        """
        if isinstance(job.source, RemoteFile):
            version = job.source.version()
            folder = self._folder("in", f"{job.source} {version} {job.target}")
            return LocalCopy(job, version, folder / job.source.name, self.target(job))
        version = str(describe_source(job.source)) if isinstance(job.target, RemoteFile) else ""
        return LocalCopy(job, version, job.source, self.target(job))

    def _folder(self, kind: str, key: str) -> Path:
        return self.folder / kind / hashlib.sha256(key.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class LocalCopy:
    """The local copies of one job.

    Args:
        job ([`Job`]): The job.
        version (`str`): The version of the source that is restored; the source may change meanwhile. Empty if nothing
            is remote.
        source, target (`Path`): The copy of the source, and where the result is written.
    """

    job: Job
    version: str
    source: Path
    target: Path

    def fetch(self) -> Path:
        """The source, downloaded if it is remote.

        Raises:
            OSError: If it cannot be downloaded, or changes meanwhile.
        """
        remote = self.job.source
        if isinstance(remote, RemoteFile) and not self.source.exists():
            self.source.parent.mkdir(parents=True, exist_ok=True)
            remote.download(self.source)
            if remote.version() != self.version:
                self.source.unlink()
                raise OSError(f"{remote} has changed while it was downloaded; start again.")
        return self.source

    def keep(self, settings: Mapping[str, Any], report: Mapping[str, Any]) -> None:
        """Keep the report of a result until the result is delivered; see `find_finished`.

        Args:
            settings (`Mapping[str, Any]`): What the result depends on besides the source, as for JSON.
            report (`Mapping[str, Any]`): The report.
        """
        if isinstance(self.job.target, Path):
            return
        path = self.target.with_name(REPORT)
        new = path.with_suffix(".new")
        new.write_text(json.dumps([self.version, dict(settings), dict(report)]))
        sync(new)
        os.replace(new, path)

    def find_finished(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The report of a result that was not delivered, or `None` if there is none for this source and settings.

        Args:
            settings (`Mapping[str, Any]`): See `keep`.
        """
        path = self.target.with_name(REPORT)
        if isinstance(self.job.target, Path) or not path.exists() or not self.target.exists():
            return None
        version, earlier, report = json.loads(path.read_text())
        is_same = (version, earlier) == (self.version, json.loads(json.dumps(dict(settings))))
        return report if is_same else None

    def deliver(self) -> None:
        """Upload the result if its place is remote, and remove the copies.

        Raises:
            OSError: If it cannot be uploaded.
        """
        if isinstance(self.job.target, RemoteFile):
            try:
                self.job.target.upload(self.target)
            except OSError as error:
                raise OSError(f"{error} The restored video is kept: --resume uploads it.") from error
            shutil.rmtree(self.target.parent, ignore_errors=True)  # the result is uploaded, whatever is left here
        if isinstance(self.job.source, RemoteFile):
            shutil.rmtree(self.source.parent, ignore_errors=True)
