"""Drawn people for the tests of tracking: each has a pattern of their own as a face."""

import cv2
import numpy as np

from keep_hf.faces.alignment import TEMPLATE
from keep_hf.faces.detection import Faces
from keep_hf.faces.tracking.tracker import FaceTracker
from keep_hf.faces.tracking.tracks import FaceTrack, PlacedFace, link_tracks


WIDTH, HEIGHT = 800, 400
RATE = 25.0

# One pattern per person, coarse enough to be visible in a small crop
PATTERNS = [np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8) for seed in range(6)]


def faces_at(*places, side=100.0, score=0.9) -> Faces:
    """Return the faces of one frame with their centres at the given places."""
    shape = (TEMPLATE - TEMPLATE.mean(axis=0)) / 250 * side
    centres = np.array(places, np.float32).reshape(-1, 2)
    return Faces(
        np.concatenate([centres - side / 2, centres + side / 2], axis=1).astype(np.float32),
        (centres[:, None] + shape).astype(np.float32),
        np.full(len(centres), score, np.float32),
    )


def draw_frame(people: dict[int, tuple[float, float]], *sides: float) -> np.ndarray:
    """Draw a frame with people, the last in front; the pattern of a person reaches a little beyond the face."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for (person, (x, y)), side in zip(people.items(), sides or [100.0] * len(people), strict=True):
        size = round(1.8 * side)
        left, top = round(x - size / 2), round(y - size / 2)
        pattern = cv2.resize(PATTERNS[person], (size, size), interpolation=cv2.INTER_CUBIC)
        rows = slice(max(top, 0), min(top + size, HEIGHT))
        columns = slice(max(left, 0), min(left + size, WIDTH))
        image[rows, columns] = pattern[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return image


class Clip:
    """Frames with people in them, and the faces that the detector finds."""

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []
        self.found: list[Faces] = []

    def add(self, people: dict[int, tuple[float, float]], seen: list[int] | None = None, side: float = 100.0) -> None:
        self.images.append(draw_frame(people, *[side] * len(people)))
        self.found.append(faces_at(*(people[person] for person in (people if seen is None else seen)), side=side))

    def place(
        self, frame_rate: float = RATE, tracker_class: type[FaceTracker] = FaceTracker, **options
    ) -> list[list[PlacedFace]]:
        tracker = tracker_class(frame_rate, **options)
        images: dict[int, np.ndarray] = {}
        placed = []
        for index, (image, found) in enumerate(zip(self.images, self.found, strict=True)):
            images[index] = image
            images.pop(index - tracker.look_ahead - 1, None)  # no older frame may be read
            placed += tracker.step(found, images)
            assert len(placed) >= index + 1 - tracker.look_ahead, "the look-ahead is longer than reported"
        return placed + tracker.flush()

    def track(self, **options) -> list[FaceTrack]:
        placed = self.place(**options)
        assert len(placed) == len(self.images)
        return link_tracks(placed)


def still(num_frames: int, *people: int) -> Clip:
    clip = Clip()
    for _ in range(num_frames):
        clip.add({person: (120 + 190 * person, 200) for person in people})
    return clip
