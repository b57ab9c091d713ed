"""`keep-hf restore FOLDER OUT`: the part of one process in the restoration of a folder."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import OutOfMemoryError

from ...batch.manifest import FAILED, NO_FACES, RESTORED
from ...batch.remote_file import RemoteFile
from ...batch.shared_folder import Job, SharedFolder, find_start, record_finished
from ..output import print_message
from .agreement import agree


def begin_folder(folder: Path, jobs: list[Job], resume: bool, state: PartialState) -> SharedFolder:
    """Agree with the other processes of this run on where it starts in the manifest.

    Args:
        folder (`Path`): The folder of the manifest.
        jobs (`list[Job]`): The videos and their results.
        resume (`bool`): Whether results that exist are finished.
        state (`PartialState`): The processes of this run.
    """

    def find() -> int:
        start = find_start(folder)
        if resume:
            record_finished(folder, jobs, start)
        return start

    return SharedFolder(folder, jobs, agree(state, find), resume)


def path_in_folder(source: Path | RemoteFile, root: Path) -> str:
    """The name of a video in messages and reports: two folders may have videos of one name."""
    return str(source).removeprefix(str(root)).lstrip("/\\") or source.name


def restore_folder(
    folder: SharedFolder,
    root: Path,
    restore: Callable[[Job], dict[str, Any]],
    reports: list[dict[str, Any]],
    failures: dict[str, str],
) -> None:
    """Restore the videos that this process claims, until all are finished, by this process or by others.

    Args:
        folder ([`SharedFolder`]): The work.
        root (`Path`): The folder of the videos.
        restore (`Callable[[Job], dict]`): Restores a video and returns its report.
        reports (`list[dict]`): Gets the reports of this process.
        failures (`dict[str, str]`): Gets the reasons why its other videos failed, by their paths in the folder.
    """
    with folder:
        for job in folder.take_jobs():
            started = time.monotonic()
            try:
                report = restore(job)
            except (ValueError, OSError, MemoryError, OutOfMemoryError) as error:
                # One bad file must not stop the others, also not those that would claim it next.
                message = str(error) or "not enough memory"
                print_message(message)
                failures[path_in_folder(job.source, root)] = message.replace(str(job.source), job.source.name)
                folder.record(job, FAILED, reason=message, seconds=time.monotonic() - started)
                continue
            reports.append(report)
            outcome = RESTORED if report["tracks"] else NO_FACES
            folder.record(job, outcome, seconds=time.monotonic() - started, frames=report["frames"])
