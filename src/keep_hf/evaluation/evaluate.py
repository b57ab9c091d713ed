"""Evaluate a video against its reference, or without one: its whole frames and the faces in it.

    first pass    scenes and people, found in the reference               -> segments
    second pass   whole frames, scene by scene                            -> compare.py
    more passes   faces: crops of 512 x 512, cut from both videos by the  -> compare.py
                  same matrices, one track segment after the other;
                  as many passes as people are visible at a time

Every pass decodes the videos again and holds a few frames.  Without a reference the faces are found in the video
itself.  Frames that are aligned faces already need no second pass and are not cropped.
"""

import itertools
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np

from ..faces.alignment import crop_face, estimate_alignment
from ..faces.detector import FaceDetector
from ..faces.follower import FaceFollower, FollowedFrame
from ..faces.identity import FaceIdentity
from ..faces.yunet import YuNet
from .compare import compare_videos, inspect_video
from .networks import Networks
from .pairs import Images, VideoPair
from .results import Evaluation, Profile, Region
from .series import VideoMetrics


MAX_PROFILE_FRAMES = 500  # more columns could not be distinguished in a plot


@dataclass
class Segment:
    """Consecutive frames that are measured together: a scene of whole frames, or a track segment of one person.

    Args:
        first (`int`): Number of the first frame.
        person (`int`, *optional*): Number of the person whose face it is; `None` for whole frames.
        matrices (`list[np.ndarray | None]`): For every frame the 2 x 3 map to the crop; `None` if it is not cropped.
    """

    first: int
    person: int | None
    matrices: list[np.ndarray | None] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Number of the frame after the last one."""
        return self.first + len(self.matrices)


def evaluate_video(
    pair: VideoPair,
    networks: Networks,
    detector: FaceDetector | YuNet | None,
    *,
    faces: str | Collection[int] = "all",
    min_face_size: float = 0.0,
    name: str = "",
) -> Evaluation:
    """Measure a video against its reference or, without one, its temporal consistency.

    Args:
        pair ([`VideoPair`]): The video and its reference.
        networks ([`Networks`]): Networks of the metrics; metrics without a network are missing in the result.
        detector ([`FaceDetector`] or [`YuNet`], *optional*): Detector; `None` for frames that are aligned faces.
        faces (`"all"`, `"largest"` or a collection of `int`, defaults to `"all"`): People to measure.
        min_face_size (`float`, defaults to 0): Longer side in pixels from which a face is measured.
        name (`str`, defaults to `""`): Name of the video in the result.

    Returns:
        [`Evaluation`]

    Raises:
        ValueError: If the videos cannot be read or compared, or aligned faces are not square.
    """
    scenes, track_segments = find_segments(pair, detector, faces, min_face_size, networks.identity)
    lengths: dict[int | None, int] = {}
    for segment in track_segments:
        lengths[segment.person] = lengths.get(segment.person, 0) + len(segment.matrices)
    profile = Profile(max(lengths, key=lambda person: lengths[person], default=None))

    regions: dict[int | None, Region] = {}
    for segments in ([] if detector is None else [scenes]) + plan_passes(track_segments):
        for segment, metrics in measure_segments(pair, segments, networks, profile):
            region_name = name if segment.person is None else str(segment.person)
            region = regions.setdefault(segment.person, Region(region_name))
            region.segments.append((segment.first, metrics))
    for region in regions.values():
        region.segments.sort(key=itemgetter(0))
    return Evaluation(
        name=name,
        sources=[str(reader.path) for reader in pair.readers],
        sizes=pair.sizes,
        size=pair.size,
        scenes=[scene.first for scene in scenes],
        num_frames=scenes[-1].end,
        whole=regions.pop(None, None),
        people=[regions[person] for person in sorted(regions, key=lambda person: person or 0)],
        profile=profile,
    )


def find_segments(
    pair: VideoPair,
    detector: FaceDetector | YuNet | None,
    faces: str | Collection[int],
    min_face_size: float,
    identity: FaceIdentity | None,
) -> tuple[list[Segment], list[Segment]]:
    """Find the scenes of a video and the track segments of all people."""
    rate = float(pair.readers[-1].frame_rate)
    follower = FaceFollower(detector, rate, faces, min_face_size, identity=identity)
    scenes: list[Segment] = []
    track_segments: dict[int, Segment] = {}

    def add(followed: list[FollowedFrame]) -> None:
        for frame in followed:
            if frame.starts_scene:
                scenes.append(Segment(frame.index, None))
            scenes[-1].matrices.append(None)
            for face in frame.faces:
                matrix = None if detector is None else estimate_alignment(face.landmarks)
                segment = track_segments.setdefault(face.segment, Segment(frame.index, face.track_id))
                segment.matrices.append(matrix)

    for images in pair.read("scenes and people"):
        add(follower.step(images[-1]))
    add(follower.flush())
    return scenes, list(track_segments.values())


def plan_passes(segments: list[Segment]) -> list[list[Segment]]:
    """Distribute segments over as few passes as possible, such that those of a pass do not overlap."""
    passes: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda segment: segment.first):
        free = next((planned for planned in passes if planned[-1].end <= segment.first), None)
        if free is None:
            passes.append([segment])
        else:
            free.append(segment)
    return passes


def measure_segments(
    pair: VideoPair, segments: list[Segment], networks: Networks, profile: Profile
) -> Iterator[tuple[Segment, VideoMetrics]]:
    """Measure the segments of one pass through a video, and add their columns to the profile."""
    are_faces = segments[0].person is not None
    identity, landmarks = (networks.identity, networks.landmarks) if are_faces else (None, None)
    position = 0
    with closing(pair.read("faces" if are_faces else "whole frames")) as frames:
        for segment in segments:
            selected = itertools.islice(frames, segment.first - position, segment.end - position)
            crops = _crop(selected, segment, profile)
            if len(pair.readers) == 1:
                video = (image for (image,) in crops)
                yield segment, inspect_video(video, identity, landmarks, networks.flow)
            else:
                restored, reference = _split(crops)
                yield (
                    segment,
                    compare_videos(restored, reference, networks.lpips, identity, landmarks, networks.flow),
                )
            position = segment.end


def _split(pairs: Iterator[Images]) -> tuple[Iterator[np.ndarray], Iterator[np.ndarray]]:
    """Restored and reference frames as two iterators, to be read in turn (`itertools.tee` would hold 57 frames)."""
    references: deque[np.ndarray] = deque()

    def restored() -> Iterator[np.ndarray]:
        for image, reference in pairs:
            references.append(reference)
            yield image

    def reference() -> Iterator[np.ndarray]:
        while references:
            yield references.popleft()

    return restored(), reference()


def _crop(frames: Iterator[Images], segment: Segment, profile: Profile) -> Iterator[Images]:
    for index, (images, matrix) in enumerate(zip(frames, segment.matrices, strict=True), segment.first):
        crops = images if matrix is None else tuple(crop_face(image, matrix) for image in images)
        if segment.person == profile.person and len(profile.columns) < MAX_PROFILE_FRAMES:
            profile.columns[index] = tuple(crop[:, crop.shape[1] // 2].copy() for crop in crops)
        yield crops
