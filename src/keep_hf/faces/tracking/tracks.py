"""The result of tracking: the faces of every frame, or, the other way round, one track per person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class PlacedFace:
    """The final place of a person in one frame.

    Args:
        track_id (`int`):
            Number of the person; the same in all scenes in which the person is recognized.
        segment (`int`):
            Number of the track segment, a run of consecutive frames; a person who was away starts a new one.
        box (`np.ndarray` of shape `(4,)`, float32):
            Left, top, right and bottom in pixels of the frame.
        landmarks (`np.ndarray` of shape `(5, 2)`, float64):
            Eyes, nose and mouth corners in pixels of the frame, smoothed along time.
        score (`float`):
            Confidence of the detector, from 0 to 1; exactly 0 where the face was not detected but interpolated.
        weight (`float`, defaults to 1.0):
            Weight of the restored face against the frame, in (0, 1]; below 1 while it fades in or out.
    """

    track_id: int
    segment: int
    box: np.ndarray
    landmarks: np.ndarray
    score: float
    weight: float = 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return the fields as numbers and arrays."""
        return dict(vars(self))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "PlacedFace":
        """Rebuild a placed face from its `state_dict`."""
        return cls(**state)


@dataclass
class FaceTrack:
    """One person in all frames of a video in which they are restored.

    Args:
        track_id (`int`):
            Number of the person, in the order of their first appearance.
        frames (`np.ndarray` of shape `(n,)`, int64):
            Indices of the frames, ascending, of all scenes; a step of more than one is an absence.
        boxes (`np.ndarray` of shape `(n, 4)`, float32):
            Left, top, right and bottom in pixels of the frame.
        landmarks (`np.ndarray` of shape `(n, 5, 2)`, float64):
            Eyes, nose and mouth corners in pixels of the frame, see [`Faces`]; smoothed along time.
        scores (`np.ndarray` of shape `(n,)`, float32):
            Confidence of the detector, from 0 to 1; exactly 0 where the face was not detected but interpolated.
    """

    track_id: int
    frames: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def appearances(self, longest_gap: int = 0) -> list[tuple[int, int]]:
        """Return the first and the last frame of each appearance.

        Args:
            longest_gap (`int`, defaults to 0): Number of frames for which an absence does not end an appearance.
        """
        ends = np.flatnonzero(np.diff(self.frames) > longest_gap + 1)
        firsts, lasts = self.frames[np.append(0, ends + 1)], self.frames[np.append(ends, -1)]
        return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def link_tracks(frames: Sequence[Sequence[PlacedFace]]) -> list[FaceTrack]:
    """Collect the faces of every person.

    Args:
        frames (`Sequence[Sequence[PlacedFace]]`): The faces of each frame of a video, in order.

    Returns:
        `list[FaceTrack]`: one track per person, in the order of their numbers.
    """
    people: dict[int, list[tuple[int, PlacedFace]]] = {}
    for index, faces in enumerate(frames):
        for face in faces:
            people.setdefault(face.track_id, []).append((index, face))
    return [
        FaceTrack(
            track_id,
            np.array([index for index, _ in places]),
            np.array([face.box for _, face in places], np.float32),
            np.array([face.landmarks for _, face in places]),
            np.array([face.score for _, face in places], np.float32),
        )
        for track_id, places in sorted(people.items())
    ]
