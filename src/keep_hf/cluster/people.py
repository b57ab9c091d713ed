"""People of scenes that are restored apart: numbered within a scene first, and as in the whole video at the end.

Nothing of a scene but the numbers of its people depends on the scenes before. A worker therefore records what it asks
for when it numbers them. When all scenes are there, the same is asked again, in the order of the scenes.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..faces.identity import FaceIdentity
from ..faces.tracking.known_people import KnownPeople


class RecordedPeople(KnownPeople):
    """Numbers the people of one scene from 0, and records what is asked.

    Args:
        identity ([`FaceIdentity`], *optional*): See [`KnownPeople`].

    Attributes:
        record (`list[dict]`): The arguments of all calls of `number` and `remember`, in order.
    """

    def __init__(self, identity: FaceIdentity | None = None) -> None:
        super().__init__(identity)
        self.record: list[dict[str, Any]] = []

    def number(self, descriptors: Sequence[np.ndarray], taken: Collection[int]) -> list[int]:
        """Number the people of the scene."""
        if descriptors:
            self.record.append({"descriptors": list(descriptors), "taken": sorted(taken)})
        return super().number(descriptors, taken)

    def remember(self, number: int, descriptor: np.ndarray) -> None:
        """Remember a person after the scene."""
        self.record.append({"number": number, "descriptor": descriptor})
        super().remember(number, descriptor)

    def state_dict(self) -> dict[str, Any]:
        """Return the people and the record."""
        return super().state_dict() | {"record": list(self.record)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        super().load_state_dict(state)
        self.record = list(state["record"])


def renumber(record: Sequence[Mapping[str, Any]], known: KnownPeople) -> dict[int, int]:
    """Number the people of the next scene as in the whole video.

    Args:
        record (`Sequence[Mapping]`): From the [`RecordedPeople`] of the scene.
        known ([`KnownPeople`]): The people of the scenes before; those of this scene are added.

    Returns:
        `dict[int, int]`: Number in the scene -> number in the video.
    """
    numbers: dict[int, int] = {}
    for call in record:
        if "descriptors" in call:
            found = known.number(call["descriptors"], [numbers[number] for number in call["taken"]])
            numbers |= dict(enumerate(found, start=len(numbers)))
        else:
            known.remember(numbers[call["number"]], call["descriptor"])
    return numbers
