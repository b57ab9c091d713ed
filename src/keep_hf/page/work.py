"""The work behind the page, without the page: find the people of a part of a video, and restore them.

Both cut the part out first, and the networks see only that; so a GPU that is borrowed for a while is asked for when
the number of frames is known, and given back before the results are laid side by side.
"""

import json
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..faces.contact_sheet import draw_people
from ..faces.follower import FaceFollower
from ..faces.tracking.tracks import FaceTrack, link_tracks
from ..options import RestorationOptions
from ..pipeline import KeepPipeline
from ..restoration.face_restorer import RestoredFrame
from ..video.reader import VideoReader, prefetch
from ..video.writer import VideoWriter
from .clips import cut, look_at, side_by_side
from .limits import Limits
from .people import best_frame, draw_boxes
from .progress import Phase, Progress


# Words on the page -> how strongly the result is packed (x264's CRF).
QUALITIES = {"small file": 26, "good": 20, "best": 16}
PREFIX = "keep_hf_page_"
FORGOTTEN_SECONDS = 86400  # no run takes so long: the process of such a folder was killed
# To restore the face of a frame takes about so many times as long as to find it: keep-tiny on a CPU.
RESTORING = 8


@dataclass(frozen=True)
class Wishes:
    """What the visitor wants: the part in seconds, who, and how; see `KeepPipeline.__call__`."""

    start: float = 0.0
    end: float = float("inf")
    people: tuple[int, ...] = ()  # nobody named: everybody
    fidelity: float = 1.0
    strength: float = 1.0
    upscale: int = 1
    quality: str = "good"

    def __post_init__(self) -> None:
        if self.quality not in QUALITIES:
            raise ValueError(f"quality must be one of {', '.join(QUALITIES)}, got {self.quality!r}.")

    def options(self, frame_rate: float = 25.0) -> RestorationOptions:
        """The options of the pipeline."""
        return RestorationOptions(
            faces=self.people or "all",
            fidelity=self.fidelity,
            strength=self.strength,
            upscale=self.upscale,
            frame_rate=frame_rate,
        )

    def describe(self) -> dict[str, Any]:
        """All of it, for the report."""
        end = None if self.end == float("inf") else self.end
        return vars(self) | {"end": end, "people": list(self.people) or "all"}


@dataclass(frozen=True)
class Found:
    """The people of a part of a video.

    Attributes:
        frame (`np.ndarray`): The frame that shows most of them, with boxes and numbers.
        portraits (`np.ndarray`): A portrait of each, with the number.
        tracks (`list[FaceTrack]`): Where they are, in frames of the part.
    """

    frame: np.ndarray
    portraits: np.ndarray
    tracks: list[FaceTrack]


@dataclass(frozen=True)
class Result:
    """The files of a finished run: the part as it was, restored, and both side by side; and the report."""

    before: Path
    after: Path
    both: Path
    report: Path
    num_frames: int
    num_people: int


class Studio:
    """Finds and restores people in parts of videos.

    Args:
        pipe ([`KeepPipeline`]): On its device.
        limits ([`Limits`]): What is too much.
        on_gpu (`Callable`, *optional*): `on_gpu(function, duration)` gives the generator function that runs `function`
            on a borrowed GPU, in another process it may be; `duration` takes the same arguments and gives the seconds
            that it will need.
    """

    def __init__(self, pipe: KeepPipeline, limits: Limits, on_gpu: Callable[..., Callable] | None = None) -> None:
        self.pipe, self.limits = pipe, limits
        self._follow_there, self._restore_there = self._follow, self._restore
        if on_gpu is not None:
            self._follow_there = on_gpu(self._follow, lambda clip, num_frames: gpu_seconds(num_frames))
            self._restore_there = on_gpu(
                self._restore, lambda part, after, wishes, num_frames: gpu_seconds(num_frames)
            )

    def find(self, video: Path, start: float, end: float) -> Iterator[Progress | Found]:
        """Find everybody in a part of a video.

        Args:
            video (`Path`): Any video.
            start, end (`float`): The part, in seconds.

        Returns:
            `Iterator`: [`Progress`] again and again, and in the end what was [`Found`].

        Raises:
            ValueError: If the video cannot be used, the part is too long, or nobody is there.
            OSError: If the disk is full.
        """
        with new_folder() as folder:
            clip = folder / "part.mp4"
            num_frames = yield from self._cut(video, clip, start, end, 1)
            tracks: list[FaceTrack] = []
            for step in self._follow_there(clip, num_frames):
                if isinstance(step, Progress):
                    yield step
                else:
                    tracks = step
            if not tracks:
                raise ValueError(
                    "No face was found in this part. Faces must be seen from the front or half from the side, and not "
                    "be tiny; choose another part, or another video."
                )
            best = best_frame(tracks)
            with VideoReader(clip) as reader:
                frame = next(reader.read(best)).image
                portraits = draw_people((frame.image for frame in reader.read()), tracks)
            yield Found(draw_boxes(frame, tracks, best), portraits, tracks)

    def restore(self, video: Path, wishes: Wishes) -> Iterator[Progress | Result]:
        """Restore a part of a video.

        Args:
            video (`Path`): Any video.
            wishes ([`Wishes`]): What part, who, how.

        Returns:
            `Iterator`: [`Progress`] again and again, and in the end the [`Result`]. Its files are there until the
            iterator goes on, or is closed.

        Raises:
            ValueError: If the video or a wish cannot be used.
            OSError: If the disk is full.
        """
        wishes.options()  # a value that is not allowed raises before the video is cut
        with new_folder() as folder:
            before, after, both = (folder / f"{name}.mp4" for name in ("before", "restored", "side_by_side"))
            num_frames = yield from self._cut(video, before, wishes.start, wishes.end, wishes.upscale)
            report: dict[str, Any] = {}
            for step in self._restore_there(before, after, wishes, num_frames):
                if isinstance(step, Progress):
                    yield step
                else:
                    report = step
            if not report["tracks"]:
                who = "None of the people chosen" if wishes.people else "No face"
                raise ValueError(f"{who} was found in this part, so there is nothing to restore. Choose another part.")
            phase = Phase("Laying both side by side")
            for number in side_by_side(before, after, both):
                yield phase.at(number / num_frames)
            told = folder / "report.json"
            told.write_text(json.dumps({"options": wishes.describe()} | report, indent=2) + "\n")
            yield Result(before, after, both, told, num_frames, len(report["tracks"]))

    def _cut(self, video: Path, part: Path, start: float, end: float, upscale: int) -> Generator[Progress, None, int]:
        """Cut the part out, if it is within the limits; the number of its frames."""
        phase = Phase("Cutting the part out")
        yield Progress(phase.name)
        clip = look_at(video)
        self.limits.check(clip, start, end, upscale)
        expected, num_frames = clip.frames_between(start, end), 0
        for num_frames in cut(video, part, start, end):
            yield phase.at(num_frames / expected)
        return num_frames

    @torch.no_grad()
    def _follow(self, clip: Path, num_frames: int) -> Iterator[Progress | list[FaceTrack]]:
        phase = Phase("Looking for faces")
        yield phase.at(0)
        with VideoReader(clip) as reader:
            follower = FaceFollower(self.pipe.face_detector(), float(reader.frame_rate))
            places = []
            for number, frame in enumerate(prefetch(reader.read()), 1):
                places += [followed.faces for followed in follower.step(frame.image)]
                yield phase.at(number / num_frames)
            places += [followed.faces for followed in follower.flush()]
        yield link_tracks(places)

    def _restore(
        self, part: Path, after: Path, wishes: Wishes, num_frames: int
    ) -> Iterator[Progress | dict[str, Any]]:
        phase = Phase("Restoring the faces")
        yield phase.at(0)
        with VideoReader(part) as reader:
            width, height = reader.width * wishes.upscale, reader.height * wishes.upscale
            crf = QUALITIES[wishes.quality]
            writer = VideoWriter(after, reader, width=width, height=height, crf=crf, preset="fast")
            stream = self.pipe.stream(**vars(wishes.options(float(reader.frame_rate))))
            times: deque[tuple[int, int]] = deque()

            def write(done: Iterator[RestoredFrame]) -> Iterator[Progress]:
                for restored in done:
                    writer.write(restored.image, *times.popleft())
                    yield progress()
                yield progress()

            def progress() -> Progress:
                return phase.at((stream.num_in + RESTORING * stream.num_out) / ((1 + RESTORING) * num_frames))

            with writer, stream:
                for frame in prefetch(reader.read()):
                    times.append((frame.pts, frame.duration))
                    yield from write(stream.advance(frame.image))
                yield from write(stream.finish())
        yield stream.report()


def gpu_seconds(num_frames: int) -> int:
    """Seconds of a GPU that a run may need: a generous tenth of a second a frame, and the start."""
    return 30 + round(0.1 * num_frames)


@contextmanager
def new_folder() -> Iterator[Path]:
    """A folder for one visitor's files, which no other process of the machine may read; removed in the end.

    Folders that a killed process left are removed, too, after a day.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):  # another run may be removing it
            if time.time() - folder.stat().st_mtime > FORGOTTEN_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        yield Path(name)
