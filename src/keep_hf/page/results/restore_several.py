"""Several videos as one request: their results in a ZIP file, with one report for all."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...restoration.report.report_page import render_report
from ..jobs.clients import QueueFullError
from ..jobs.job import Job, RestoreRequest
from ..jobs.service import SECONDS_BETWEEN, JobService
from ..messages import explain
from ..progress import Phase, Progress
from ..requests import RestorationRequest, RestoredPart
from .batch import BatchFailure, BatchProgress, run_batch, write_zip
from .report_files import describe_part


ARCHIVE, REPORT = "restored_videos.zip", "restored_videos_report.html"
PACKING = "Writing the ZIP file"


@dataclass(frozen=True)
class RestoredVideos:
    """The result of several videos.

    Attributes:
        archive (`Path`): A ZIP file with the restored videos, their reports as JSON, and one report as a page.
        num_videos (`int`): Number of videos in it.
        failures (`tuple[BatchFailure, ...]`): The videos that could not be restored.
    """

    archive: Path
    num_videos: int
    failures: tuple[BatchFailure, ...]


def restore_several(
    service: JobService, client: str, videos: Sequence[Path], options: RestorationRequest
) -> Generator[Progress | RestoredVideos, None, None]:
    """Restore whole videos one after the other, each as a job of its own.

    All uploads and results are kept until the last one.

    Args:
        service ([`JobService`]): The jobs.
        client (`str`): Who requests it.
        videos (`Sequence[Path]`): The uploads.
        options ([`RestorationRequest`]): How to restore them.

    Returns:
        `Generator`: [`Progress`] of all videos together, and [`RestoredVideos`] at the end. Closing it cancels the job
            that runs.

    Raises:
        ValueError: If there is no video, before anything else; at the end, if none could be restored: the message has
            the reason of each.
    """
    if not videos:
        raise ValueError("There are no videos yet: choose some.")
    return _restore_all(service, client, videos, options)


def _restore_all(
    service: JobService, client: str, videos: Sequence[Path], options: RestorationRequest
) -> Generator[Progress | RestoredVideos, None, None]:
    jobs: list[Job] = []

    def restore(video: Path) -> Iterator[Progress | RestoredPart]:
        while True:
            try:
                # Added before each attempt: a video that is not used for a while is deleted.
                request = RestoreRequest(service.add_video(video), options, name=video.name)
                job = service.submit(client, request)
                break
            except QueueFullError:
                yield Progress("Waiting for a place in the queue")
                time.sleep(SECONDS_BETWEEN)
        jobs.append(job)
        for step in service.wait(job):
            assert isinstance(step, Progress | RestoredPart)  # a search returns something else
            yield step

    parts: list[RestoredPart] = []
    failures: list[BatchFailure] = []
    for step in run_batch(videos, restore, explain):
        for job in jobs:
            job.keep()
        for video in videos:
            service.keep_upload(video)
        if isinstance(step, BatchProgress):
            yield Progress(step.title, (step.index + (step.step.share or 0.0)) / step.total)
        elif isinstance(step, BatchFailure):
            failures.append(step)
        else:
            parts.append(step)
    if not parts:
        raise ValueError(f"No video could be restored. {describe_failures(failures)}")
    yield from _pack(parts, failures)


def describe_failures(failures: Sequence[BatchFailure]) -> str:
    """The reasons of all failures in one line."""
    return " ".join(failure.reason if failure.name in failure.reason else str(failure) for failure in failures)


def _pack(parts: list[RestoredPart], failures: list[BatchFailure]) -> Iterator[Progress | RestoredVideos]:
    """Write the ZIP file into the folder of the first result, with which it is deleted."""
    page = render_report([describe_part(part) for part in parts], {one.name: one.reason for one in failures})
    files = [(path.name, path) for part in parts for path in (part.after, part.report)]
    archive = parts[0].after.with_name(ARCHIVE)
    phase, num_bytes = Phase(PACKING), sum(path.stat().st_size for _, path in files)
    for num_written in write_zip(archive, files, {REPORT: page}):
        yield phase.at(num_written / num_bytes)
    yield RestoredVideos(archive, len(parts), tuple(failures))
