"""The people of a whole video: who of them is in a new scene.

Within a scene, people are followed by place and appearance. Across a cut, only the face itself counts: its embedding,
if there is a face recognition network, otherwise its appearance. The appearance contains light and colours of the
scene, so that its threshold is high: it recognizes a person to whom a cut returns, as in a dialogue. A person who is
not recognized gets a new number. That is the lesser error: two people under one number cannot be selected separately.

A number is final. It is given when a person is confirmed, from what has been seen until then, so that the numbers of a
stream are those of the whole video. Nothing but the number depends on the scenes before.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..alignment import crop_face, estimate_alignment
from ..identity import FaceIdentity


# Least similarities across scenes. Portraits of two people had less than 0.30 and 0.76 in 99 % of the pairs
# (`python -m benchmarks.recognition`).
SAME_IDENTITY = 0.5
SAME_APPEARANCE = 0.95
CROP_SIZE = 256  # pixels
MAX_DESCRIPTORS = 4  # remembered of one person, those of the latest scenes
MAX_KNOWN = 256  # people remembered; the person whose last scene is the longest ago is forgotten


class KnownPeople:
    """Numbers people in the order of their first appearance, and recognizes them in later scenes.

    Args:
        identity ([`FaceIdentity`], *optional*): Face recognition network; without it the appearance counts.
    """

    def __init__(self, identity: FaceIdentity | None = None) -> None:
        self.identity = identity
        self.threshold = SAME_APPEARANCE if identity is None else SAME_IDENTITY
        self.next_id = 0
        # One per scene, each of length 1; by number, ordered by the last scene
        self.descriptors: dict[int, list[np.ndarray]] = {}

    @property
    def criterion(self) -> str:
        """By what people are recognized: `"identity"` or `"appearance"`."""
        return "appearance" if self.identity is None else "identity"

    def embed(self, image: np.ndarray, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Compute the embeddings of faces in one frame.

        Args:
            image (`np.ndarray` of shape `(h, w, 3)`): RGB, uint8.
            faces (`Sequence[np.ndarray]`, each of shape `(5, 2)`): Their landmarks in pixels of the frame.

        Returns:
            `np.ndarray` of shape `(n, d)`, float32: rows of length 1.
        """
        assert self.identity is not None
        crops = [crop_face(image, estimate_alignment(face, CROP_SIZE), CROP_SIZE) for face in faces]
        return self.identity.embed(crops)

    def number(self, descriptors: Sequence[np.ndarray], taken: Collection[int]) -> list[int]:
        """Return the numbers of people who have appeared in a scene in the same frame.

        Args:
            descriptors (`Sequence[np.ndarray]`, each of shape `(d,)`): Their embeddings or appearances.
            taken (`Collection[int]`): The numbers of the other people of the scene.

        Returns:
            `list[int]`: The best matches first, each person at most once; all others get a new number.
        """
        matches = [
            (max(float(known @ descriptor) for known in remembered), index, number)
            for index, descriptor in enumerate(descriptors)
            for number, remembered in self.descriptors.items()
            if number not in taken
        ]
        numbers: dict[int, int] = {}
        for similarity, index, number in sorted(matches, key=lambda match: -match[0]):
            if similarity > self.threshold and index not in numbers and number not in numbers.values():
                numbers[index] = number
        for index in range(len(descriptors)):
            if index not in numbers:
                numbers[index] = self.next_id
                self.next_id += 1
        return [numbers[index] for index in range(len(descriptors))]

    def remember(self, number: int, descriptor: np.ndarray) -> None:
        """Remember a person after their scene, by all that was seen of them in it."""
        remembered = self.descriptors.pop(number, [])
        self.descriptors[number] = [*remembered, descriptor][-MAX_DESCRIPTORS:]
        if len(self.descriptors) > MAX_KNOWN:
            del self.descriptors[next(iter(self.descriptors))]

    def state_dict(self) -> dict[str, Any]:
        """Return the people as numbers, arrays, lists and dictionaries."""
        return {"next_id": self.next_id, "descriptors": {n: list(known) for n, known in self.descriptors.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state; the network must be the same."""
        self.next_id = state["next_id"]
        self.descriptors = {number: list(known) for number, known in state["descriptors"].items()}
