"""Track segments: a person in consecutive frames of one scene, found in a video and cut out of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from keep_hf.faces.alignment import crop_face, estimate_alignment
from keep_hf.faces.detector import FaceDetector
from keep_hf.faces.follower import FaceFollower, FollowedFrame
from keep_hf.faces.yunet import YuNet
from keep_hf.video.reader import prefetch
from keep_hf.video.writer import Source


@dataclass
class Segment:
    """A person in consecutive frames of a scene.

    Attributes:
        person (`int`): Number of the person in the video.
        scene (`int`): Number of the scene.
        first_frame (`int`): Index of the first frame.
        sizes (`list[float]`): Longer side of the face's box in each frame, in pixels.
        landmarks (`list[np.ndarray]`): Smoothed landmarks `(5, 2)` in each frame, in pixels.
    """

    person: int
    scene: int
    first_frame: int
    sizes: list[float] = field(default_factory=list)
    landmarks: list[np.ndarray] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def last_frame(self) -> int:
        return self.first_frame + len(self) - 1

    @property
    def face_size(self) -> float:
        """The median of the sizes."""
        return float(np.median(self.sizes))

    def divide(self, max_frames: int) -> "list[Segment]":
        """Divide the segment into as few parts as possible, of about equal lengths."""
        num_parts = -(-len(self) // max_frames)
        ends = [len(self) * i // num_parts for i in range(num_parts + 1)]
        return [
            Segment(self.person, self.scene, self.first_frame + a, self.sizes[a:b], self.landmarks[a:b])
            for a, b in pairwise(ends)
        ]


def find_segments(reader: Source, detector: YuNet | FaceDetector, faces: str) -> list[Segment]:
    """Follow the people of a video.

    Args:
        reader ([`VideoReader`], [`AnimationReader`] or [`ImageFolderReader`]): The video.
        detector ([`YuNet`] or [`FaceDetector`]): Finds the faces.
        faces (`str`): "all" or "largest".

    Returns:
        `list[Segment]`: in the order of their first frames.
    """
    follower = FaceFollower(detector, float(reader.frame_rate), faces)

    def followed() -> Iterator[FollowedFrame]:
        for frame in prefetch(reader.read()):
            yield from follower.step(frame.image)
        yield from follower.flush()

    segments: dict[int, Segment] = {}
    scene = -1
    for frame in followed():
        scene += frame.starts_scene
        for face in frame.faces:
            segment = segments.setdefault(face.segment, Segment(face.track_id, scene, frame.index))
            segment.sizes.append(float((face.box[2:] - face.box[:2]).max()))
            segment.landmarks.append(face.landmarks)
    return list(segments.values())


def cut_segments(
    reader: Source, segments: list[Segment], size: int
) -> Iterator[tuple[Segment, list[np.ndarray], np.ndarray]]:
    """Cut the aligned faces of segments out of a video.

    Yields:
        `tuple[Segment, list[np.ndarray], np.ndarray]`: a segment, once its last frame is read; its crops
        `(size, size, 3)`, uint8, RGB; and the landmarks `(n, 5, 2)` in pixels of the crops.
    """
    waiting = sorted(segments, key=lambda segment: segment.first_frame, reverse=True)
    running: list[tuple[Segment, list[np.ndarray], list[np.ndarray]]] = []
    for index, frame in enumerate(prefetch(reader.read())):
        while waiting and waiting[-1].first_frame == index:
            running.append((waiting.pop(), [], []))
        for segment, crops, landmarks in running:
            points = segment.landmarks[len(crops)]
            matrix = estimate_alignment(points, size)
            crops.append(crop_face(frame.image, matrix, size))
            landmarks.append(points @ matrix[:, :2].T + matrix[:, 2])
        for segment, crops, landmarks in running:
            if segment.last_frame == index:
                yield segment, crops, np.stack(landmarks)
        running = [cut for cut in running if cut[0].last_frame > index]
        if not waiting and not running:
            break
