"""The memory of the tracker: the people of a scene, where they were seen recently, and their appearance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .appearance import normalize


@dataclass
class Sighting:
    """The face of a person in one frame.

    Args:
        box (`np.ndarray` of shape `(4,)`, float32): Left, top, right and bottom in pixels of the frame.
        landmarks (`np.ndarray` of shape `(5, 2)`, float32): Eyes, nose and mouth corners in pixels of the frame.
        score (`float`): Confidence of the detector; 0 where the face was not detected but interpolated.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return float((self.box[2:] - self.box[:2]).max())

    @property
    def is_detected(self) -> bool:
        """Whether the detector found the face, or its place was interpolated."""
        return self.score > 0


@dataclass
class Detection:
    """A detected face that is not assigned to a person yet.

    Args:
        face ([`Sighting`]): The face.
        appearance (`np.ndarray` of shape `(768,)`, float32): From [`compute_appearance`].
    """

    face: Sighting
    appearance: np.ndarray


@dataclass(eq=False)  # compared by identity: fields are arrays
class Person:
    """A person in the scene.

    Args:
        usual_appearance (`np.ndarray` of shape `(768,)`, float32): Running mean of the appearances, of length 1.
        latest_appearance (`np.ndarray` of shape `(768,)`, float32): That of the last detection.
        seen (`dict[int, Sighting]`): By frame; frames that no later decision needs are removed.
        last (`int`): The last frame with a detection.
        velocity (`np.ndarray` of shape `(2,)`, float32): Mean motion of the landmarks in pixels per frame.
        track_id (`int`): Number of the person; -1 until they are confirmed for the first time.
        embedding_sum (`np.ndarray` of shape `(d,)`, *optional*): Sum of the embeddings of some detections; `None`
            without a face recognition network.
        num_embedded, last_embedded (`int`): Number of these detections, and frame of the last one.
        confirmed (`bool`): Whether the present run of frames has enough detections.
        large_enough (`bool`): Whether the face was large enough in the last decided frame.
    """

    usual_appearance: np.ndarray
    latest_appearance: np.ndarray
    seen: dict[int, Sighting] = field(default_factory=dict)
    last: int = -1
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))
    track_id: int = -1
    embedding_sum: np.ndarray | None = None
    num_embedded: int = 0
    last_embedded: int = -1
    confirmed: bool = False
    large_enough: bool = False

    @property
    def descriptor(self) -> np.ndarray:
        """By what the person is recognized in another scene: the mean embedding, or the usual appearance."""
        return self.usual_appearance if self.embedding_sum is None else normalize(self.embedding_sum)

    def similarity(self, appearance: np.ndarray) -> float:
        """Return the similarity, from -1 to 1, to the usual or to the latest appearance, whichever is larger."""
        return float(max(self.usual_appearance @ appearance, self.latest_appearance @ appearance))

    def distance(self, face: Sighting, now: int) -> float:
        """Return the distance of a face from the place that the motion of the person predicts.

        Args:
            face ([`Sighting`]): A face in frame `now`.
            now (`int`): Index of the frame.

        Returns:
            `float`: in sides of the face; a change of its size adds to the distance.
        """
        before = self.seen[self.last]
        side_before, side_now = (np.sqrt(np.prod(box[2:] - box[:2])) for box in (before.box, face.box))
        predicted = before.landmarks + self.velocity * (now - self.last)
        offset = np.linalg.norm(face.landmarks - predicted, axis=1).mean() / max(side_before, side_now)
        return float(offset + 0.5 * abs(np.log(side_now / side_before)))

    def add(self, now: int, detection: Detection, max_gap: int) -> None:
        """Add a detection in frame `now`; after more than `max_gap` frames without one the motion is unknown."""
        face = detection.face
        if self.last in self.seen and now - self.last <= max_gap + 1:
            step = (face.landmarks - self.seen[self.last].landmarks).mean(axis=0) / (now - self.last)
            # Half of the newest step: landmarks are noisy, and a wrong prediction is worse than none.
            self.velocity = (0.5 * self.velocity + 0.5 * step).astype(np.float32)
        else:
            self.velocity = np.zeros(2, np.float32)
        self.usual_appearance = normalize(0.9 * self.usual_appearance + 0.1 * detection.appearance)
        self.latest_appearance = detection.appearance
        self.seen[now] = face
        self.last = now

    def add_embedding(self, now: int, embedding: np.ndarray) -> None:
        """Add the embedding of the detection in frame `now`."""
        self.embedding_sum = embedding if self.embedding_sum is None else self.embedding_sum + embedding
        self.num_embedded += 1
        self.last_embedded = now

    def run_around(self, frame: int, radius: int) -> dict[int, Sighting]:
        """Return the consecutive sightings around a frame with one, at most `radius` frames to either side."""
        first = last = frame
        while first > frame - radius and first - 1 in self.seen:
            first -= 1
        while last < frame + radius and last + 1 in self.seen:
            last += 1
        return {i: self.seen[i] for i in range(first, last + 1)}

    def state_dict(self) -> dict[str, Any]:
        """Return the fields as numbers, arrays and dictionaries."""
        return vars(self) | {"seen": {frame: dict(vars(face)) for frame, face in self.seen.items()}}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Person":
        """Rebuild a person from their `state_dict`."""
        seen = {frame: Sighting(**face) for frame, face in state["seen"].items()}
        return cls(**{**state, "seen": seen})
