"""The people in a part of a video, from a few frames per second: enough to choose from, in seconds.

A person who is visible for less than about a second can be missed. The sampled frames do not depend on where the part
starts, so the people of two parts can be compared; see `choices.py`.
"""

import math
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...faces.alignment import crop_face, estimate_alignment
from ...faces.follower import FaceFollower, FollowedFrame
from ...faces.tracking.tracks import PlacedFace, link_tracks
from ...pipeline import KeepPipeline
from ...video.reader import VideoReader
from ..backend import FINDING, NO_FACES
from ..clips import ClipInfo, frames_between
from ..limits import Limits
from ..progress import Phase, Progress
from ..slices import gpu_seconds


SAMPLES_PER_SECOND = 5
MAX_SAMPLES = 300
PORTRAIT_SIZE = 160  # pixels


@dataclass(frozen=True)
class FoundPerson:
    """A person in a part of a video.

    Attributes:
        number (`int`): From 1, in the order of appearance.
        first, last (`float`): First and last appearance, in seconds from the start of the part.
        portrait (`np.ndarray`): The clearest face, uint8 RGB `(160, 160, 3)`.
        frames (`np.ndarray`): Indices in the part of the frames in which the person was found, `(n,)`.
        boxes (`np.ndarray`): The face in these frames: left, top, right and bottom in pixels, `(n, 4)`.
    """

    number: int
    first: float
    last: float
    portrait: np.ndarray
    frames: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True)
class FoundPeople:
    """The people in a part of a video.

    Attributes:
        people (`tuple[FoundPerson, ...]`): The people.
        first_frame (`int`): Index in the video of the first frame of the part.
        num_frames (`int`): Number of frames of the part.
        num_samples (`int`): Number of these that were searched.
    """

    people: tuple[FoundPerson, ...]
    first_frame: int
    num_frames: int
    num_samples: int

    def faces_per_frame(self, chosen: Collection[int]) -> float:
        """Mean number of faces of the chosen people in a frame; of all people, if none are chosen."""
        faces = sum(len(person.frames) for person in self.people if not chosen or person.number in chosen)
        return faces / self.num_samples


def first_frame(start: float, frame_rate: float) -> int:
    """Index of the first frame at or after a time in seconds, in a video of constant frame rate."""
    return math.ceil(start * frame_rate - 1e-6)


class Gallery:
    """The faces of all sampled frames, and the best portrait of every person so far."""

    def __init__(self) -> None:
        self.faces: list[list[PlacedFace]] = []
        self.portraits: dict[int, np.ndarray] = {}
        self._quality: dict[int, float] = {}

    def add(self, followed: FollowedFrame) -> None:
        """Take the next sampled frame."""
        self.faces.append(followed.faces)
        for face in followed.faces:
            quality = float((face.box[2:] - face.box[:2]).max()) * face.score
            if quality > self._quality.get(face.track_id, 0.0):
                self._quality[face.track_id] = quality
                alignment = estimate_alignment(face.landmarks, PORTRAIT_SIZE)
                self.portraits[face.track_id] = crop_face(followed.image, alignment, PORTRAIT_SIZE)

    def people(self, sampled: list[int], frame_rate: float) -> tuple[FoundPerson, ...]:
        """The people, from the indices of the sampled frames in the part."""
        indices, people = np.array(sampled), []
        for number, track in enumerate(link_tracks(self.faces), 1):
            frames = indices[track.frames]
            first, last = float(frames[0] / frame_rate), float((frames[-1] + 1) / frame_rate)
            people.append(FoundPerson(number, first, last, self.portraits[track.track_id], frames, track.boxes))
        return tuple(people)


class FaceSearch:
    """Finds the people in a part of a video from samples of its frames.

    Args:
        pipe ([`KeepPipeline`]): The pipeline, on its device.
        limits ([`Limits`]): Limits of a request.
        on_gpu (`Callable`, *optional*): How to borrow a GPU, see [`Backend`].
    """

    def __init__(self, pipe: KeepPipeline, limits: Limits, on_gpu: Callable[..., Callable] | None = None) -> None:
        self.pipe, self.limits = pipe, limits
        self._search_on_device: Callable = self._search
        if on_gpu is not None:
            self._search_on_device = on_gpu(
                self._search, lambda video, rate, start, end, step, num_samples: gpu_seconds(num_samples)
            )

    def find(self, video: Path, clip: ClipInfo, start: float, end: float) -> Generator[Progress, None, FoundPeople]:
        """Find the people.

        Args:
            video (`Path`): Any video.
            clip ([`ClipInfo`]): Its length and size.
            start, end (`float`): The part, in seconds.

        Returns:
            `Generator`: Yields [`Progress`] and returns [`FoundPeople`].

        Raises:
            ValueError: If the video cannot be read, the part exceeds the limits, or no faces are found.
        """
        phase = Phase(FINDING)
        yield phase.at(0)
        self.limits.check(clip, start, end)
        num_frames = clip.frames_between(start, end)
        step = max(1, round(clip.frame_rate / SAMPLES_PER_SECOND), math.ceil(num_frames / MAX_SAMPLES))
        num_samples = math.ceil(num_frames / step)
        found: FoundPeople | None = None
        for result in self._search_on_device(video, clip.frame_rate, start, end, step, num_samples):
            if isinstance(result, FoundPeople):
                found = result
            else:
                yield phase.at(result / num_frames)
        if found is None:
            raise ValueError(NO_FACES)
        return found

    @torch.no_grad()
    def _search(
        self, video: Path, rate: float, start: float, end: float, step: int, num_samples: int
    ) -> Iterator[int | FoundPeople]:
        """Yield the number of frames that were read, and the people if there are any."""
        gallery, sampled, num_frames = Gallery(), [], 0
        with VideoReader(video) as reader:
            first = first_frame(start, rate)
            follower = FaceFollower(self.pipe.face_detector(), rate / step, identity=self.pipe.identity)
            for index, frame in enumerate(frames_between(reader, start, end)):
                if index == 0 or (first + index) % step == 0:
                    sampled.append(index)
                    for followed in follower.step(frame.image):
                        gallery.add(followed)
                num_frames = index + 1
                yield num_frames
            for followed in follower.flush():
                gallery.add(followed)
        people = gallery.people(sampled, rate)
        if people:
            yield FoundPeople(people, first, num_frames, len(sampled))
