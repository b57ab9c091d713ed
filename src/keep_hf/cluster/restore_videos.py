"""`restore_videos`: one long video or many, on many workers, with the result of one process."""

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..options import AUTO, DEFAULT_MODEL, EncodingOptions, RestorationOptions
from ..pipeline import KeepPipeline
from ..pipeline.keep_pipeline import SEGMENT_FRAMES
from ..video.part_folder import lock_file
from .journal import Journal
from .ray_engine import run_on_ray
from .schedule import Schedule
from .tasks import RunSettings, Video
from .worker import Prepare, Worker


ENGINES = ("ray", "local")
# Frames up to which a video is restored as a whole: finding its scenes would not pay.
LONGEST_WHOLE = 500


@dataclass(frozen=True)
class RunResult:
    """What became of the videos of a run.

    Args:
        reports (`dict[Path, dict]`): By target, the reports of the restored videos, as `KeepPipeline.restore_video`
            returns them.
        failures (`dict[Path, str]`): By target, why a video was not restored.
    """

    reports: dict[Path, dict[str, Any]]
    failures: dict[Path, str]


def restore_videos(
    videos: Iterable[tuple[str | os.PathLike, str | os.PathLike]],
    pipeline: str | Callable[[], KeepPipeline] = DEFAULT_MODEL,
    *,
    engine: str = "ray",
    address: str | None = None,
    num_workers: int | None = None,
    aligned: bool = False,
    faces: str | Collection[int] = "all",
    min_face_size: float = 0.0,
    fidelity: float | None = None,
    strength: float | str = AUTO,
    person_strength: Mapping[int, float | str] | None = None,
    upscale: int = 1,
    gain_mode: str = "stream",
    latency: str = "normal",
    background: Callable[[np.ndarray], np.ndarray] | None = None,
    frame_rate: float = 25.0,
    video_stream: int | None = None,
    strict: bool = False,
    codec: str | None = None,
    crf: int | None = None,
    preset: str | None = None,
    resume: bool = False,
    segment_frames: int = SEGMENT_FRAMES,
    longest_whole: int = LONGEST_WHOLE,
    journal: str | os.PathLike | None = None,
) -> RunResult:
    """Restore the faces of videos on many workers. Long videos are divided at their scene cuts.

    The files are those of `KeepPipeline.restore_video`, byte for byte, if the workers run on the same kind of hardware
    with the same number of threads. All workers need the package, and the same paths to the files.

    Args:
        videos (`Iterable` of pairs): Source and target of each video, as for `KeepPipeline.restore_video`.
        pipeline (`str` or `Callable`, *optional*, defaults to `"keep-small"`): What `KeepPipeline.from_pretrained`
            takes, or a function that returns the pipeline on its device. Each worker loads it once.
        engine (`"ray"` or `"local"`, *optional*, defaults to `"ray"`): Where the workers are: in a Ray cluster, or one
            worker in this process.
        address, num_workers: See [`keep_hf.cluster.ray_engine.run_on_ray`].
        aligned, faces, min_face_size, fidelity, strength, person_strength: See [`RestorationOptions`].
        upscale, gain_mode, latency, background, frame_rate: See [`RestorationOptions`].
        video_stream, strict, codec, crf, preset, segment_frames: See `KeepPipeline.restore_video`.
        resume (`bool`, *optional*, defaults to `False`): Continue a run that was interrupted. What its journal says is
            finished is not repeated.
        longest_whole (`int`, *optional*, defaults to 500): Number of frames up to which a video is not divided.
        journal (`str` or `os.PathLike`, *optional*): The file to which everything that happens is appended, one line
            of JSON each. By default beside the first target: `NAME.journal.jsonl`.

    Returns:
        [`RunResult`]: A video that fails does not stop the others.

    Raises:
        ValueError: If an option has a value that is not allowed, two videos have one target, Ray is not installed or
            cannot be reached, the pipeline cannot be loaded, or a source has changed since the run to resume.
    """
    options = RestorationOptions.from_arguments(locals())
    settings = RunSettings(
        encoding=EncodingOptions(codec=codec, crf=crf, preset=preset),
        video_stream=video_stream,
        strict=strict,
        resume=resume,
        segment_frames=segment_frames,
        longest_whole=longest_whole,
    )
    prepare = partial(_prepare, pipeline, options)
    return run(videos, prepare, settings, engine, address, num_workers, journal)


def run(
    videos: Iterable[tuple[str | os.PathLike, str | os.PathLike]],
    prepare: Prepare,
    settings: RunSettings,
    engine: str,
    address: str | None,
    num_workers: int | None,
    journal: str | os.PathLike | None,
) -> RunResult:
    """Restore videos with the pipeline and the options that `prepare` returns; see `restore_videos`."""
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}.")
    if settings.segment_frames < 1:
        raise ValueError(f"segment_frames must be 1 or more, got {settings.segment_frames}.")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, got {num_workers}.")
    given: dict[Video, tuple[str | os.PathLike, str | os.PathLike]] = {}
    targets: set[Path] = set()
    for source, target in videos:
        video = Video(Path(source).absolute(), Path(target).absolute())
        if video.target in targets:
            raise ValueError(f"Several videos would be written to {target}; give each a target of its own.")
        targets.add(video.target)
        given[video] = source, target
    if not given:
        return RunResult({}, {})
    first = next(iter(given)).target
    path = Path(journal) if journal else first.with_name(f"{first.name}.journal.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with only_run(path):
        schedule = Schedule(list(given), Journal(path, settings.resume), lead=4 * (num_workers or 16))
        if engine == "ray":
            run_on_ray(schedule, prepare, settings, address, num_workers)
        else:
            run_in_this_process(schedule, prepare, settings)

    reports = {}
    for video, report in schedule.reports.items():
        source, target = given[video]
        messages = dict.fromkeys([*report["warnings"], *schedule.journal.messages[str(video.target)]])
        names = {"source": str(source), "target": str(target), "warnings": list(messages)}
        reports[Path(target)] = report | names
    return RunResult(reports, {Path(given[video][1]): reason for video, reason in schedule.failures.items()})


@contextlib.contextmanager
def only_run(journal: Path) -> Iterator[None]:
    """Exclude other drivers with this journal: they would delete what this one has finished."""
    path = journal.with_name(f"{journal.name}.lock")
    lock = lock_file(path)
    if lock is None:
        raise ValueError(f"Another run writes {journal}; wait until it has ended, or choose another target.")
    with lock:
        try:
            yield
        finally:
            with contextlib.suppress(PermissionError):  # Windows does not remove open files
                path.unlink()


def run_in_this_process(schedule: Schedule, prepare: Prepare, settings: RunSettings) -> None:
    """Carry out all tasks with one worker."""
    worker = Worker(prepare, settings)
    while (task := schedule.next()) is not None:
        schedule.finish(task, worker.run(task))


def _prepare(
    pipeline: str | Callable[[], KeepPipeline], options: RestorationOptions
) -> tuple[KeepPipeline, RestorationOptions]:
    if not isinstance(pipeline, str):
        return pipeline(), options
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return KeepPipeline.from_pretrained(pipeline).to(device), options
