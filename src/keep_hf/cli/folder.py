"""`keep-hf restore FOLDER OUT`: the part of one process in the restoration of a folder."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..batch.manifest import FAILED, NO_FACES, RESTORED
from ..batch.shared_folder import Job, SharedFolder, find_start, record_finished
from ..batch.work_order import longest_first
from .output import name_file, print_message, resume_hint


def begin_folder(jobs: list[tuple[Path, Path]], args: argparse.Namespace, state: PartialState) -> SharedFolder:
    """Agree with the other processes of this run on where it starts in the manifest.

    Args:
        jobs (`list[tuple[Path, Path]]`): The videos and their results.
        args (`argparse.Namespace`): The arguments of the command.
        state (`PartialState`): The processes of this run.
    """
    targets = dict(jobs)
    order = longest_first(targets)
    named = [Job(path, targets[path], targets[path].relative_to(args.output).as_posix()) for path in order]
    start = 0
    if state.is_main_process:
        start = find_start(args.output)
        if args.resume:
            record_finished(args.output, named, start)
    (start,) = broadcast_object_list([start])
    return SharedFolder(args.output, named, start, args.resume)


def restore_folder(
    folder: SharedFolder, root: Path, restore: Callable[[Path, Path], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Restore the videos that this process claims, until all are finished, by this process or by others.

    Args:
        folder ([`SharedFolder`]): The work.
        root (`Path`): The folder of the videos.
        restore (`Callable[[Path, Path], dict]`): Restores a video and returns its report.

    Returns:
        `tuple[list[dict], dict[str, str]]`: The reports of this process, and why its other videos failed, by their
            paths in the folder.
    """
    reports, failures = [], {}
    with folder:
        for job in folder.take_jobs():
            started = time.monotonic()
            try:
                report = restore(job.source, job.target)
            except (ValueError, OSError) as error:
                # One bad file must not stop the others.
                message = f"{name_file(error, job.source)}{resume_hint(job.target)}"
                print_message(message)
                failures[str(job.source.relative_to(root))] = str(error).replace(str(job.source), job.source.name)
                folder.record(job, FAILED, reason=message, seconds=time.monotonic() - started)
                continue
            reports.append(report)
            outcome = RESTORED if report["tracks"] else NO_FACES
            folder.record(job, outcome, seconds=time.monotonic() - started, frames=report["frames"])
    return reports, failures
