"""The people in a part of a video, from a few frames per second: enough to choose from, in seconds.

A person who is visible for less than about a second can be missed. A restoration finds the faces of all frames;
`select_tracks` maps a choice of people to its tracks.
"""

import math
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ...faces.alignment import crop_face, estimate_alignment
from ...faces.follower import FaceFollower, FollowedFrame
from ...faces.tracking.tracks import FaceTrack, PlacedFace, link_tracks
from ...pipeline import KeepPipeline
from ...video.reader import VideoReader
from ..backend import FINDING, NO_FACES
from ..clips import frames_between, probe
from ..face_boxes import draw_boxes
from ..limits import Limits
from ..progress import Phase, Progress
from ..slices import gpu_seconds


SAMPLES_PER_SECOND = 5
MAX_SAMPLES = 300
PORTRAIT_SIZE = 160  # pixels
MIN_OVERLAP = 0.3  # intersection over union of two boxes of one face, at least


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
        frame (`np.ndarray`): The frame that shows most of them, with boxes and numbers: uint8 RGB `(h, w, 3)`.
        people (`tuple[FoundPerson, ...]`): The people.
    """

    frame: np.ndarray
    people: tuple[FoundPerson, ...]


class Gallery:
    """The best images seen so far: one frame with many faces, and a portrait of every person."""

    def __init__(self) -> None:
        self.faces: list[list[PlacedFace]] = []
        self.portraits: dict[int, np.ndarray] = {}
        self.frame: np.ndarray | None = None
        self.index = 0  # of `frame`
        self._most = 0
        self._quality: dict[int, float] = {}

    def add(self, followed: FollowedFrame) -> None:
        """Take the next frame."""
        if len(followed.faces) > self._most:
            self._most, self.frame, self.index = len(followed.faces), followed.image, len(self.faces)
        self.faces.append(followed.faces)
        for face in followed.faces:
            quality = float((face.box[2:] - face.box[:2]).max()) * face.score
            if quality > self._quality.get(face.track_id, 0.0):
                self._quality[face.track_id] = quality
                alignment = estimate_alignment(face.landmarks, PORTRAIT_SIZE)
                self.portraits[face.track_id] = crop_face(followed.image, alignment, PORTRAIT_SIZE)


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
                self._search, lambda video, start, end, step, num_samples: gpu_seconds(num_samples)
            )

    def find(self, video: Path, start: float, end: float) -> Generator[Progress, None, FoundPeople]:
        """Find the people.

        Args:
            video (`Path`): Any video.
            start, end (`float`): The part, in seconds.

        Returns:
            `Generator`: Yields [`Progress`] and returns [`FoundPeople`].

        Raises:
            ValueError: If the video cannot be read, the part exceeds the limits, or no faces are found.
        """
        phase = Phase(FINDING)
        yield phase.at(0)
        clip = probe(video)
        self.limits.check(clip, start, end)
        num_frames = clip.frames_between(start, end)
        step = max(1, round(clip.num_frames / clip.seconds / SAMPLES_PER_SECOND), math.ceil(num_frames / MAX_SAMPLES))
        num_samples = math.ceil(num_frames / step)
        found: FoundPeople | None = None
        for result in self._search_on_device(video, start, end, step, num_samples):
            if isinstance(result, FoundPeople):
                found = result
            else:
                yield phase.at(result / num_frames)
        if found is None:
            raise ValueError(NO_FACES)
        return found

    @torch.no_grad()
    def _search(
        self, video: Path, start: float, end: float, step: int, num_samples: int
    ) -> Iterator[int | FoundPeople]:
        """Yield the number of frames that were read, and the people if there are any."""
        gallery = Gallery()
        with VideoReader(video) as reader:
            rate = float(reader.frame_rate)
            follower = FaceFollower(self.pipe.face_detector(), rate / step, identity=self.pipe.identity)
            for index, frame in enumerate(frames_between(reader, start, end)):
                if index % step == 0:
                    for followed in follower.step(frame.image):
                        gallery.add(followed)
                yield index
            for followed in follower.flush():
                gallery.add(followed)
        if gallery.frame is not None:
            yield summarize(gallery, step, rate)


def summarize(gallery: Gallery, step: int, frame_rate: float) -> FoundPeople:
    """The people of a gallery, of which every sample stands for `step` frames."""
    assert gallery.frame is not None
    tracks = link_tracks(gallery.faces)
    numbered = [replace(track, track_id=number) for number, track in enumerate(tracks, 1)]
    people = tuple(
        FoundPerson(
            number,
            float(track.frames[0] * step / frame_rate),
            float((track.frames[-1] * step + 1) / frame_rate),
            gallery.portraits[track.track_id],
            track.frames * step,
            track.boxes,
        )
        for number, track in enumerate(tracks, 1)
    )
    return FoundPeople(draw_boxes(gallery.frame, numbered, gallery.index), people)


def select_tracks(found: FoundPeople, chosen: Collection[int], tracks: list[FaceTrack]) -> tuple[int, ...]:
    """The tracks of the chosen people.

    A track belongs to the person whose boxes it overlaps in most frames.

    Args:
        found ([`FoundPeople`]): The people.
        chosen (`Collection[int]`): Numbers of the chosen ones.
        tracks (`list[FaceTrack]`): All tracks of the same part, or of its beginning.

    Returns:
        `tuple[int, ...]`: Numbers of tracks.

    Raises:
        ValueError: If a number is not that of a person, or none of the chosen people has a track.
    """
    unknown = set(chosen) - {person.number for person in found.people}
    if unknown:
        raise ValueError(f"There is no person {min(unknown)} in this part, in which {len(found.people)} were found.")
    selected = []
    for track in tracks:
        counts = {person.number: _count_overlaps(person, track) for person in found.people}
        best = max(counts, key=lambda number: counts[number])
        if counts[best] and best in chosen:
            selected.append(track.track_id)
    if not selected:
        raise ValueError("None of the selected faces was found in this part. Choose another part, or more people.")
    return tuple(selected)


def _count_overlaps(person: FoundPerson, track: FaceTrack) -> int:
    """The number of common frames in which both have the same face."""
    _, mine, theirs = np.intersect1d(person.frames, track.frames, assume_unique=True, return_indices=True)
    one, other = person.boxes[mine], track.boxes[theirs]
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    common = sides.clip(0).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    return int((common > MIN_OVERLAP * (areas[0] + areas[1] - common)).sum())
