"""A worker: loads the pipeline once, and carries out one task after the other."""

import os
import shutil
import socket
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import OutOfMemoryError

from ..faces.tracking.known_people import KnownPeople
from ..options import RestorationOptions
from ..pipeline import KeepPipeline
from ..restoration.resumable import check_job
from ..restoration.state import pack, unpack
from ..video.part_folder import part_path
from ..video.reader import VideoReader
from ..video.writer import VideoWriter
from .join import join_reports
from .plan import Scene, VideoPlan, plan_video
from .scene import OtherFramesError, SceneReader, open_scene_stream, restore_scene, scene_job
from .tasks import JOIN, PLAN, SCENE, RunSettings, Task, TaskResult, Video


Prepare = Callable[[], tuple[KeepPipeline, RestorationOptions]]


class Worker:
    """Carries out tasks.

    Args:
        prepare (`Callable`): Returns the pipeline on its device, and the options of the restoration.
        settings ([`RunSettings`]): The settings of the run.
    """

    def __init__(self, prepare: Prepare, settings: RunSettings) -> None:
        self.pipe, self.options = prepare()
        self.settings = settings
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._jobs: dict[float, dict[str, Any]] = {}  # by frame rate

    def run(self, task: Task) -> TaskResult:
        """Carry out a task. Errors of the video and lack of memory are part of the result; all others are raised."""
        started = time.perf_counter()
        result = TaskResult(self.name, 0.0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                result = self._run(task, result)
            except (ValueError, OSError, MemoryError, OutOfMemoryError) as error:
                result = replace(result, error=str(error) or "not enough memory")
        messages = [" ".join(str(each.message).split()) for each in caught if issubclass(each.category, UserWarning)]
        seconds = round(time.perf_counter() - started, 3)
        return replace(result, seconds=seconds, messages=tuple(dict.fromkeys(messages)))

    def _run(self, task: Task, result: TaskResult) -> TaskResult:
        video, settings = task.video, self.settings
        if task.kind == PLAN:
            video.target.parent.mkdir(parents=True, exist_ok=True)
            plan = plan_video(
                video.source,
                video.target,
                self.options,
                video_stream=settings.video_stream,
                strict=settings.strict,
                longest_whole=settings.longest_whole,
            )
            return replace(result, plan=plan)
        if task.kind == SCENE:
            assert task.scene is not None
            return replace(result, num_frames=self._restore_scene(video, task.scene))
        if task.kind == JOIN:
            assert task.plan is not None
            return replace(result, report=self._join(video, task.plan))
        report = self.pipe.restore_video(
            video.source,
            video.target,
            video_stream=settings.video_stream,
            strict=settings.strict,
            resume=settings.resume or task.attempt > 0,
            segment_frames=settings.segment_frames,
            **vars(self.options),
            **vars(settings.encoding),
        )
        return replace(result, num_frames=report["frames"], report=report)

    def _restore_scene(self, video: Video, scene: Scene) -> int:
        video.folder.mkdir(parents=True, exist_ok=True)
        try:
            return self._restore_frames(video, scene)
        except OtherFramesError:
            if not scene.can_seek:
                raise
            shutil.rmtree(part_path(video.scene_target(scene)), ignore_errors=True)
            return self._restore_frames(video, replace(scene, can_seek=False))

    def _restore_frames(self, video: Video, scene: Scene) -> int:
        settings, target = self.settings, video.scene_target(scene)
        with SceneReader(video.source, scene, settings.video_stream, settings.strict) as reader:
            writer = self._writer(target, reader, is_part=True)
            rate = float(reader.frame_rate)
            stream = open_scene_stream(self.pipe, self.options, rate, is_exact=writer.bits > 8)
            return restore_scene(stream, reader, writer, self._job(rate), settings.segment_frames)

    def _join(self, video: Video, plan: VideoPlan) -> dict[str, Any]:
        started = time.perf_counter()
        with VideoReader(video.source, self.settings.video_stream, self.settings.strict) as reader:
            rate = float(reader.frame_rate)
            job = self._job(rate)
            reports, segments = [], []
            for scene in plan.scenes:
                with self._writer(video.scene_target(scene), reader, is_part=True) as part:
                    part.leave_unfinished()
                    if part.resumed is None or part.resumed["report"] is None:
                        raise ValueError(f"{part.path} is not finished; start again without resume.")
                    # An earlier driver may have had other options.
                    check_job(part.resumed["job"], pack(scene_job(job, scene)), video.target)
                    reports.append(unpack(part.resumed["report"], self.pipe.device))
                    segments += part.segment_paths
            report = join_reports(plan, reports, KnownPeople(self.pipe.identity))
            writer = self._writer(video.target, reader, is_part=False)
            with writer:
                writer.take_segments(segments, report["frames"])
            about = {
                "source": str(video.source),
                "target": str(video.target),
                "options": pack({name: job[name] for name in vars(self.options)}),
                "video_stream": self.settings.video_stream,
                "frame_rate": rate,
                "size": list(writer.size),
            }
        report["seconds"]["join"] = round(time.perf_counter() - started, 3)
        report["seconds"]["total"] = round(sum(report["seconds"].values()), 3)
        return about | report | plan.damage

    def _writer(self, path: os.PathLike, reader: VideoReader, is_part: bool) -> VideoWriter:
        side = self.pipe.vq.config.sample_size
        factor = self.options.upscale
        width, height = (side, side) if self.options.aligned else (reader.width * factor, reader.height * factor)
        encoding = vars(self.settings.encoding)
        return VideoWriter(
            path, reader, width=width, height=height, takes_streams=not is_part, resume=is_part, **encoding
        )

    def _job(self, frame_rate: float) -> dict[str, Any]:
        """What the result depends on; its checksum of the weights takes a while."""
        if frame_rate not in self._jobs:
            self._jobs[frame_rate] = self.pipe._describe_job(self.options, frame_rate)
        return self._jobs[frame_rate]
