"""Detection in scenes whose faces are not upright, because the camera was turned and the file does not say so.

Detectors are made for upright faces.  They miss a turned face, or find it with a lower score and wrong landmarks.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .detection import Faces
from .detector import FaceDetector
from .yunet import YuNet


# Of a detector that gets single frames: which ones are searched in all orientations, and how many must agree
SEARCH_EVERY, VOTES = 4, 3


class SceneDetector:
    """Detect the faces of one scene, in the orientation in which they are upright.

    The orientation is decided once for a scene, by the first batch with a face in half of its frames or more.  Until
    then, one frame of every batch is also searched in the other three orientations.  If one of them has a better
    score, so is the whole batch; the orientation with the larger sum of scores is that of the scene.

    Args:
        detector ([`FaceDetector`] or [`YuNet`]):
            Detector of upright faces.
        turns (`int`, *optional*):
            Quarter turns, counterclockwise, after which the faces are upright; `None` while they are not known.
    """

    def __init__(self, detector: FaceDetector | YuNet, turns: int | None = None) -> None:
        self.detector = detector
        self.turns = turns

    def detect(self, frames: list[np.ndarray]) -> list[Faces]:
        """Detect the faces in the next frames of the scene.

        Args:
            frames (`list[np.ndarray]`, each of shape `(h, w, 3)`):
                RGB, uint8, at least one, all of one size.

        Returns:
            `list[Faces]`: the faces of each frame, in its own pixels.
        """
        if self.turns is not None:
            return self._detect_turned(frames, self.turns)
        turns, found = self._search(frames)
        if _is_in_half(found):
            self.turns = turns
        return found

    def _search(self, frames: list[np.ndarray]) -> tuple[int, list[Faces]]:
        """Return the best orientation of a batch, and the faces in it."""
        found = self._detect_turned(frames, 0)
        scores = [_best_score(faces) for faces in found]
        example = int(np.argmax(scores)) if any(scores) else len(frames) // 2
        other = self._find_better_turns(frames[example], scores[example])
        if other is not None:
            turned = self._detect_turned(frames, other)
            if sum(map(_best_score, turned)) > sum(scores) and _is_in_half(turned):
                return other, turned
        return 0, found

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two calls."""
        return {"turns": self.turns}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of another detector of this class."""
        self.turns = state["turns"]

    def _find_better_turns(self, frame: np.ndarray, score: float) -> int | None:
        """Return the turns, other than 0, with the best face, or `None` if no score is better than `score`."""
        found = self.detector.detect([turn(frame, turns) for turns in (1, 2, 3)])
        scores = [_best_score(faces) for faces in found]
        return 1 + int(np.argmax(scores)) if max(scores) > score else None

    def _detect_turned(self, frames: list[np.ndarray], turns: int) -> list[Faces]:
        found = self.detector.detect([turn(frame, turns) for frame in frames])
        height, width = frames[0].shape[:2]
        return [turn_back(faces, turns, width, height) for faces in found]


class CausalSceneDetector(SceneDetector):
    """Decide the orientation of a scene frame by frame.

    One frame cannot decide it: its best face may be an error of the detector.  Until the orientation is decided, every
    fourth frame is searched in all orientations.  It is decided when three of these frames agree.
    """

    def __init__(self, detector: FaceDetector | YuNet, turns: int | None = None) -> None:
        super().__init__(detector, turns)
        self.votes = [0, 0, 0, 0]  # number of searched frames by turns
        self.num_seen = 0

    def detect(self, frames: list[np.ndarray]) -> list[Faces]:
        """Detect the faces in the next frames of the scene, see [`SceneDetector`]."""
        return [self._detect_next(frame) for frame in frames]

    def _detect_next(self, frame: np.ndarray) -> Faces:
        is_searched = self.turns is None and self.num_seen % SEARCH_EVERY == 0
        self.num_seen += 1
        if not is_searched:
            return self._detect_turned([frame], self.turns or 0)[0]
        turns, (faces,) = self._search([frame])
        self.votes[turns] += len(faces) > 0
        if self.votes[turns] == VOTES:
            self.turns = turns
        return faces

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two calls, as numbers and lists."""
        return super().state_dict() | {"votes": list(self.votes), "num_seen": self.num_seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of another detector of this class."""
        super().load_state_dict(state)
        self.votes, self.num_seen = list(state["votes"]), state["num_seen"]


def turn(frame: np.ndarray, turns: int) -> np.ndarray:
    """Turn a frame `(h, w, 3)` counterclockwise by `turns` quarter turns."""
    return np.ascontiguousarray(np.rot90(frame, turns))


def turn_back(faces: Faces, turns: int, width: int, height: int) -> Faces:
    """Return faces of a turned frame in the pixels of the frame itself.

    Args:
        faces ([`Faces`]): Found in the frame after [`turn`].
        turns (`int`): Quarter turns, counterclockwise, from 0 to 3.
        width, height (`int`): Size of the frame before it was turned, in pixels.

    Returns:
        [`Faces`]: with landmarks in the order of the upright face.
    """

    def back(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        last_x, last_y = np.float32(width - 1), np.float32(height - 1)
        places = ((x, y), (last_x - y, x), (last_x - x, last_y - y), (y, last_y - x))
        return np.stack(places[turns], axis=-1)

    corners = back(faces.boxes.reshape(-1, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    return Faces(boxes, back(faces.landmarks), faces.scores)


def _best_score(faces: Faces) -> float:
    """Return the best score, or 0 if there is no face."""
    return float(faces.scores.max(initial=0))


def _is_in_half(found: list[Faces]) -> bool:
    """Return whether half of the frames or more have a face."""
    return 2 * sum(len(faces) > 0 for faces in found) >= len(found)
