"""Which people are restored: a choice that does not depend on how they are numbered in a part.

The search numbers the people of each part. A person of one part is recognized in another one, and in the tracks of a
restoration, by the boxes in common frames.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from ...faces.tracking.tracks import FaceTrack
from .face_search import FoundPeople, FoundPerson


MIN_OVERLAP = 0.3  # intersection over union of two boxes of one face, at least


@dataclass(frozen=True)
class _Places:
    """Where a person is in the video: indices of frames `(n,)`, and boxes `(n, 4)`."""

    frames: np.ndarray
    boxes: np.ndarray

    def count_overlaps(self, other: "_Places") -> int:
        """The number of common frames in which both have the same face."""
        _, mine, theirs = np.intersect1d(self.frames, other.frames, assume_unique=True, return_indices=True)
        one, two = self.boxes[mine], other.boxes[theirs]
        sides = np.minimum(one[:, 2:], two[:, 2:]) - np.maximum(one[:, :2], two[:, :2])
        common = sides.clip(0).prod(axis=1)
        areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, two)]
        return int((common > MIN_OVERLAP * (areas[0] + areas[1] - common)).sum())


def _places(found: FoundPeople, person: FoundPerson) -> _Places:
    return _Places(found.first_frame + person.frames, person.boxes)


class Choices:
    """The people of one video that a user has left out."""

    def __init__(self) -> None:
        self._left_out: list[_Places] = []

    def remember(self, found: FoundPeople, chosen: Collection[int]) -> None:
        """Take a choice.

        Args:
            found ([`FoundPeople`]): The people of a part.
            chosen (`Collection[int]`): Numbers of the chosen ones.
        """
        for person in found.people:
            places = _places(found, person)
            self._left_out = [other for other in self._left_out if not places.count_overlaps(other)]
            if person.number not in chosen:
                self._left_out.append(places)

    def recall(self, found: FoundPeople) -> tuple[int, ...]:
        """The numbers of the chosen people of a part; those who were not left out."""
        return tuple(
            person.number
            for person in found.people
            if not any(_places(found, person).count_overlaps(other) for other in self._left_out)
        )


def select_tracks(
    found: FoundPeople, chosen: Collection[int], tracks: list[FaceTrack], part_start: int
) -> tuple[int, ...]:
    """The tracks of the chosen people.

    A track belongs to the person whose boxes it overlaps in most frames. One that lies outside the searched part is
    selected, too, because it could not be left out.

    Args:
        found ([`FoundPeople`]): The people of a part.
        chosen (`Collection[int]`): Numbers of the chosen ones.
        tracks (`list[FaceTrack]`): All tracks of a part, which may be another one.
        part_start (`int`): Index in the video of the first frame of the part of the tracks.

    Returns:
        `tuple[int, ...]`: Numbers of tracks.

    Raises:
        ValueError: If a number is not that of a person, or none of the chosen people has a track.
    """
    places: Mapping[int, _Places] = {person.number: _places(found, person) for person in found.people}
    unknown = set(chosen) - set(places)
    if unknown:
        raise ValueError(f"There is no person {min(unknown)} in this part, in which {len(places)} were found.")
    selected = []
    for track in tracks:
        frames = part_start + track.frames
        counts = {number: place.count_overlaps(_Places(frames, track.boxes)) for number, place in places.items()}
        best = max(counts, key=lambda number: counts[number])
        is_outside = frames[-1] < found.first_frame or frames[0] >= found.first_frame + found.num_frames
        if is_outside or (counts[best] and best in chosen):
            selected.append(track.track_id)
    if not selected:
        raise ValueError("None of the selected faces was found in this part. Choose another part, or more people.")
    return tuple(selected)
