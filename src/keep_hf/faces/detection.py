"""Detected faces of one frame, and the search at two scales that both detectors share.

A frame is searched twice.  A small copy of it shows near faces as a whole; a larger copy, for frames that have the
pixels, shows far faces.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np


FAR_FACE = 160  # pixels; larger faces in the large copy are found in the small one
# A face must have the score CERTAIN if another one is larger by PART_RATIO, and not further away than its own side. In
# one clip, an ear had scores of up to 0.97; faces usually have 0.99.
PART_RATIO, CERTAIN = 3.0, 0.98


@dataclass
class Faces:
    """The faces of one frame, the best score first.

    Args:
        boxes (`np.ndarray` of shape `(n, 4)`, float32):
            Left, top, right and bottom in pixels of the frame.
        landmarks (`np.ndarray` of shape `(n, 5, 2)`, float32):
            Eyes, nose and mouth corners in pixels of the frame, from left to right as the viewer of the upright face
            sees them.
        scores (`np.ndarray` of shape `(n,)`, float32):
            Confidence from 0 to 1.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray) -> "Faces":
        """Select faces by an array of indices or a boolean mask."""
        return Faces(self.boxes[which], self.landmarks[which], self.scores[which])


def suppress(faces: Faces, overlap: float = 0.5) -> Faces:
    """Remove faces that overlap a face with a better score.

    Args:
        faces ([`Faces`]):
            The faces of one frame, in any order.
        overlap (`float`, defaults to 0.5):
            Largest shared part of the smaller of two boxes, from 0 to 1: no face lies within another one.

    Returns:
        [`Faces`]: those that are kept, the best score first.
    """
    left, top, right, bottom = faces.boxes.T
    area = (right - left) * (bottom - top)
    waiting = np.argsort(-faces.scores, kind="stable")
    kept = []
    while len(waiting):
        best, rest = waiting[0], waiting[1:]
        kept.append(best)
        width = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        height = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        waiting = rest[shared <= overlap * np.minimum(area[best], area[rest])]
    return faces[np.array(kept, dtype=int)]


def drop_parts_of_people(faces: Faces) -> Faces:
    """Remove what is probably a part of a person, such as an ear: a small and uncertain face beside a large one.

    Args:
        faces ([`Faces`]):
            The faces of one frame, with scores from 0 to 1.

    Returns:
        [`Faces`]: those that are kept, in the same order.
    """
    corners = faces.boxes.reshape(-1, 2, 2)
    centres, sides = corners.mean(axis=1), np.sqrt(np.prod(corners[:, 1] - corners[:, 0], axis=1))
    distances = np.linalg.norm(centres[:, None] - centres, axis=2)
    is_beside = (distances < sides) & (sides[:, None] * PART_RATIO < sides)  # row: the small face
    return faces[(faces.scores >= CERTAIN) | ~is_beside.any(axis=1)]


def search_near_and_far(
    frames: list[np.ndarray],
    search: Callable[[list[np.ndarray]], list[Faces]],
    near_sides: tuple[int, int],
    far_side: int,
) -> list[Faces]:
    """Search frames at a small scale for near faces and at a larger scale for far faces.

    Args:
        frames (`list[np.ndarray]`, each of shape `(h, w, 3)`):
            RGB frames, uint8, of any sizes.
        search (`Callable[[list[np.ndarray]], list[Faces]]`):
            Detector for scaled copies of the frames.
        near_sides (`tuple[int, int]`):
            Bounds in pixels for the longer side of the small copy.
        far_side (`int`):
            Longer side in pixels of the large copy.  Frames that are hardly larger than the small copy have none.

    Returns:
        `list[Faces]`: the faces of each frame, in its pixels.
    """
    sides = [max(frame.shape[:2]) for frame in frames]
    found = _search_scaled(frames, search, [float(np.clip(side, *near_sides)) / side for side in sides])
    large = [i for i, side in enumerate(sides) if side > 1.5 * near_sides[1]]
    scales = [min(far_side / sides[i], 1.0) for i in large]
    for i, scale, far in zip(large, scales, _search_scaled([frames[i] for i in large], search, scales), strict=True):
        near, small = found[i], (far.boxes[:, 2:] - far.boxes[:, :2]).max(axis=1, initial=0) * scale < FAR_FACE
        found[i] = Faces(
            np.concatenate([near.boxes, far.boxes[small]]),
            np.concatenate([near.landmarks, far.landmarks[small]]),
            np.concatenate([near.scores, far.scores[small]]),
        )
    return [suppress(faces) for faces in found]


def _search_scaled(
    frames: list[np.ndarray], search: Callable[[list[np.ndarray]], list[Faces]], scales: list[float]
) -> list[Faces]:
    copies = []
    for frame, scale in zip(frames, scales, strict=True):
        height, width = (max(round(side * scale), 1) for side in frame.shape[:2])
        copies.append(resize(frame, width, height))
    results = []
    for frame, copy, faces in zip(frames, copies, search(copies), strict=True):
        # Pixel centres keep their place: x + 1/2 of the copy is (x + 1/2) * ratio of the frame.
        ratio = (np.array(frame.shape[1::-1]) / copy.shape[1::-1]).astype(np.float32)
        boxes = (faces.boxes.reshape(-1, 2, 2) + 0.5) * ratio - 0.5
        results.append(Faces(boxes.reshape(-1, 4), (faces.landmarks + 0.5) * ratio - 0.5, faces.scores))
    return results


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize an image `(h, w, 3)` in pixels: averaged over areas if it shrinks, else interpolated linearly."""
    shrinks = width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
