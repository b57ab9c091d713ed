"""The tracker for cameras: a frame is decided two frames later, instead of half a second and the reach of smoothing.

What [`FaceTracker`] decides with future frames is decided with those before, and with two after:

    smoothing       a Gaussian over the past and two frames; narrower, so that a moving face does not lag behind
    gaps            a lost face stays in place as long as the image shows it there, up to half a second, and fades out
                    towards the end of this time; as soon as the image does not show it, the person is away
    confirmation    three detections, the two frames after the first one included: a new face is not delayed further
    fades           in: as before. Out: over the two frames before the face disappears
"""

from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np

from ..detection import Faces
from .gaps import hold_face
from .person import Detection, Person
from .smoothing import smooth_causally
from .tracker import FaceTracker
from .tracks import PlacedFace


LOOK_AHEAD = 2  # frames
# Standard deviation. With the 0.2 seconds of the symmetric filter, a moving face would lag further behind.
SMOOTHING_SECONDS = 0.12


class CausalTracker(FaceTracker):
    """Follow the people of one scene with a look-ahead of two frames; the arguments are those of [`FaceTracker`]."""

    smoothing_seconds = SMOOTHING_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decide_after = LOOK_AHEAD
        # How far the faces of the last decided frame have faded in, from 1 to `fade + 1`, by person
        self.levels: dict[int, int] = {}

    @property
    def look_ahead(self) -> int:
        """Number of frames that are seen before a frame is decided."""
        return self.decide_after

    def _link(self, now: int, faces: Faces, images: Mapping[int, np.ndarray]) -> None:
        super()._link(now, faces, images)
        for person in self.people:
            if person.last < now:
                hold_face(person, now, self.people, images, self.max_gap)

    def _bridge(self, person: Person, now: int, detection: Detection, images: Mapping[int, np.ndarray]) -> None:
        """A gap was filled while it lasted, or the person was away."""

    def _smooth(self, frame: int, landmarks: Mapping[int, np.ndarray]) -> np.ndarray:
        return smooth_causally(frame, landmarks, self.sigma)

    def _select(self, present: list[tuple[float, PlacedFace]]) -> list[PlacedFace]:
        """Select the faces that are asked for and those that still fade out, and set their weights."""
        frame = self.num_decided  # is being decided
        people = {person.track_id: person for person in self.people}
        selected = {face.track_id for face in super()._select(present)}
        shown, levels = [], {}
        for _, face in present:
            person = people[face.track_id]
            level = self._fade_level(person, frame, face.track_id in selected)
            if level > 0:
                levels[face.track_id] = level
                face.weight = min(level / (self.fade + 1), self._time_left(person, frame) / (LOOK_AHEAD + 1))
                shown.append(face)
        self.levels = levels
        return shown

    def _fade_level(self, person: Person, frame: int, is_selected: bool) -> int:
        """One level more than in the frame before, or one less; at most as many as a lost face has frames left."""
        before = self.levels.get(person.track_id, 0)
        if not is_selected:
            return before - 1
        lost = next(number for number in count() if person.seen[frame - number].is_detected)
        level = self.fade + 1 if frame == self.first_frame else before + 1
        return min(level, self.fade + 1, self.max_gap + 1 - lost)

    def _time_left(self, person: Person, frame: int) -> int:
        """Number of frames until the person is away, as far as the look-ahead shows."""
        known = range(frame + 1, self.num_seen)
        return next((later - frame for later in known if later not in person.seen), LOOK_AHEAD + 1)

    def _place(self, ended: bool) -> list[list[PlacedFace]]:
        """Return the decided frames: their weights are set."""
        placed = [self.decided.pop(frame) for frame in range(self.num_placed, self.num_decided)]
        self.num_placed = self.num_decided
        return placed

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps as numbers, arrays, lists and dictionaries."""
        return super().state_dict() | {"levels": dict(self.levels)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a tracker of this class with the same arguments."""
        super().load_state_dict(state)
        self.levels = dict(state["levels"])
