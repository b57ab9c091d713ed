"""The work behind the page, without the page: find the faces in a part of a video, and restore them.

The part was cut out before, and the networks see only that part. So a GPU can be requested when the number of frames
is known, in slices of a minute at most, and released before the side-by-side video is written.
"""

import json
import math
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..faces.follower import FaceFollower
from ..faces.tracking.tracks import FaceTrack, PlacedFace, link_tracks
from ..pipeline import KeepPipeline
from ..restoration.resumable import restore_file
from ..video.reader import VideoReader, prefetch
from ..video.writer import VideoWriter
from .clips import probe, write_side_by_side
from .comparison import FacePath, collect_paths
from .progress import Phase, Progress
from .requests import QUALITIES, RestorationRequest, RestoredPart
from .slices import OVERHEAD, RestoredFrames, SliceTimer, TrackedFrames, gpu_seconds


# Time to restore a frame, relative to the time to detect its faces: keep-tiny on a CPU.
RESTORATION_COST = 8
CUTTING, FINDING, RESTORING, COMPARING = (
    "Cutting the part",
    "Looking for faces",
    "Restoring the faces",
    "Writing the comparison",
)
NO_FACES = (
    "No faces found in this part. Faces must be visible from the front or half from the side, and not be tiny. Choose "
    "another part, or another video."
)
# Frames between two points at which a slice can end. The file is encoded in parts of this length, whether a GPU is
# borrowed or not, so that the result is the same.
SEGMENT_FRAMES = 50
PLACES_PER_SECOND = 5  # of the restored faces, for the comparison


class Backend:
    """Finds and restores faces in parts of videos.

    Args:
        pipe ([`KeepPipeline`]): The pipeline, on its device.
        on_gpu (`Callable`, *optional*): `on_gpu(function, duration)` returns a generator function that runs the
            generator function `function` on a borrowed GPU, possibly in another process. `duration` takes the same
            arguments and returns the number of seconds to request. Without it, the work is not divided into slices.
    """

    def __init__(self, pipe: KeepPipeline, on_gpu: Callable[..., Callable] | None = None) -> None:
        self.pipe = pipe
        self._is_borrowed = on_gpu is not None
        self._track_on_device, self._restore_on_device = self._track, self._restore
        if on_gpu is not None:
            self._track_on_device = on_gpu(self._track, lambda clip, num_left, state: gpu_seconds(num_left))
            self._restore_on_device = on_gpu(
                self._restore, lambda part, after, num_left, request: gpu_seconds(num_left)
            )

    def restore_part(
        self, before: Path, num_frames: int, request: RestorationRequest, targets: tuple[Path, Path, Path]
    ) -> Iterator[Progress | RestoredPart]:
        """Restore a part that was cut out.

        Args:
            before (`Path`): The part, see [`cut_clip`].
            num_frames (`int`): Number of its frames.
            request ([`RestorationRequest`]): The faces and the options.
            targets (`tuple[Path, Path, Path]`): The files to write: restored video, side by side, report as JSON.

        Returns:
            `Iterator`: [`Progress`] repeatedly, and a [`RestoredPart`] at the end.

        Raises:
            ValueError: If none of the selected faces is in the part.
            OSError: If the disk is full.
        """
        after, both, report_file = targets
        report, faces = yield from self._restore_in_slices(before, after, num_frames, request)
        if not report["tracks"]:
            missing = "None of the selected faces was" if request.people else "No faces"
            raise ValueError(f"{missing} found in this part, so there is nothing to restore. Choose another part.")
        phase = Phase(COMPARING)
        for number in write_side_by_side(before, after, both):
            yield phase.at(number / num_frames)
        report_file.write_text(json.dumps({"options": request.describe()} | report, indent=2) + "\n")
        yield RestoredPart(before, after, both, report_file, num_frames, len(report["tracks"]), faces)

    def track_part(self, part: Path, num_frames: int) -> Generator[Progress, None, list[FaceTrack]]:
        """Find the people in all frames of a part that was cut out; returns one track per person."""
        return link_tracks((yield from self._track_in_slices(part, num_frames)))

    def _track_in_slices(self, clip: Path, num_frames: int) -> Generator[Progress, None, list[list[PlacedFace]]]:
        """Find the faces of all frames of a part."""
        phase = Phase(FINDING)
        yield phase.at(0)
        faces: list[list[PlacedFace]] = []
        state: dict[str, Any] | None = None
        is_finished = False
        while not is_finished:
            for step in self._track_on_device(clip, num_frames - len(faces), state):
                if isinstance(step, TrackedFrames):
                    faces, state, is_finished = faces + step.faces, step.state, step.state is None
                else:
                    yield phase.at(step / num_frames)
        return faces

    @torch.no_grad()
    def _track(self, clip: Path, num_left: int, state: dict[str, Any] | None) -> Iterator[int | TrackedFrames]:
        """Yield the number of frames that were searched, after every frame, and the faces at the end of the slice."""
        timer = SliceTimer(self._slice_seconds(num_left))
        faces: list[list[PlacedFace]] = []
        with VideoReader(clip) as reader:
            follower = FaceFollower(self.pipe.face_detector(), float(reader.frame_rate), identity=self.pipe.identity)
            frames = prefetch(reader.read(state["num_out"] if state else 0))
            if state is not None:
                held = {index: next(frames).image for index in range(state["num_out"], state["num_in"])}
                follower.load_state_dict(state, held)
            for frame in frames:
                faces += [followed.faces for followed in follower.step(frame.image)]
                yield follower.num_in
                if timer.is_over():
                    yield TrackedFrames(faces, follower.state_dict())
                    return
            faces += [followed.faces for followed in follower.flush()]
        yield TrackedFrames(faces, None)

    def _restore_in_slices(
        self, part: Path, after: Path, num_frames: int, request: RestorationRequest
    ) -> Generator[Progress, None, tuple[dict[str, Any], tuple[FacePath, ...]]]:
        """Restore all frames of a part, and return the report and where the faces are."""
        phase = Phase(RESTORING)
        yield phase.at(0)
        report: dict[str, Any] | None = None
        num_written = 0
        clip = probe(part)
        step_frames = max(1, round(clip.frame_rate / PLACES_PER_SECOND))
        boxes: dict[int, dict[int, np.ndarray]] = {}
        while report is None:
            for step in self._restore_on_device(part, after, num_frames - num_written, request):
                if isinstance(step, RestoredFrames):
                    num_written = step.num_out
                    if step.boxes and (num_written - 1) % step_frames == 0:
                        boxes[num_written - 1] = step.boxes
                    done = step.num_in + RESTORATION_COST * step.num_out
                    yield phase.at(done / ((1 + RESTORATION_COST) * num_frames))
                else:
                    report = step
        return report, collect_paths(boxes, report, clip.width, clip.height)

    def _restore(
        self, part: Path, after: Path, num_left: int, request: RestorationRequest
    ) -> Iterator[RestoredFrames | dict[str, Any]]:
        """Continue a restoration; the state of the slice before is in the folder of the writer.

        Yields how far it is after every frame, and the report after the last slice.
        """
        timer, report = SliceTimer(self._slice_seconds(num_left)), None
        with VideoReader(part) as reader:
            width, height = reader.width * request.upscale, reader.height * request.upscale
            crf = QUALITIES[request.quality]
            writer = VideoWriter(after, reader, width=width, height=height, crf=crf, preset="fast", resume=True)
            stream = self.pipe.stream(**vars(request.options(float(reader.frame_rate))))
            with writer, stream:
                for step in restore_file(reader, writer, stream, request.describe(), SEGMENT_FRAMES, timer.is_over):
                    if isinstance(step, int):
                        boxes = {face.track_id: face.box for face in stream.faces}
                        yield RestoredFrames(stream.num_in, step, boxes)
                    else:
                        report = step
                if report is None:
                    writer.leave_unfinished()
        if report is not None:
            yield report

    def _slice_seconds(self, num_left: int) -> float:
        """Time for frames in a slice, by the number of frames that are left."""
        return gpu_seconds(num_left) - OVERHEAD if self._is_borrowed else math.inf
