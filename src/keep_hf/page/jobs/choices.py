"""Which people are restored, and how strongly: a choice that does not depend on how they are numbered in a part.

The search numbers the people of each part. A person of one part is recognized in another one, and in the tracks of a
restoration, by the boxes in common frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...faces.tracking.tracks import FaceTrack
from ..requests import RestorationRequest
from .face_search import FoundPeople, FoundPerson


Strength = float | str  # see [`RestorationOptions`]
# By the number of a person in a part, their strength; `None` is that of all others. Who is missing is left out.
Chosen = Mapping[int, Strength | None]
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


@dataclass(frozen=True)
class _Change:
    """A person who is left out, or has a strength of their own."""

    places: _Places
    is_chosen: bool
    strength: Strength | None


class Choices:
    """The people of one video that a user has left out, or given a strength of their own."""

    def __init__(self) -> None:
        self._changes: list[_Change] = []

    def remember(self, found: FoundPeople, chosen: Chosen) -> None:
        """Take a choice.

        Args:
            found ([`FoundPeople`]): The people of a part.
            chosen (`Chosen`): The chosen ones.
        """
        everyone = [(_places(found, person), person.number) for person in found.people]
        earlier = [
            change
            for change in self._changes
            if not any(places.count_overlaps(change.places) for places, _ in everyone)
        ]
        self._changes = earlier + [
            _Change(places, number in chosen, chosen.get(number))
            for places, number in everyone
            if number not in chosen or chosen[number] is not None
        ]

    def recall(self, found: FoundPeople) -> Chosen:
        """The chosen people of a part: those who were not left out."""
        chosen: dict[int, Strength | None] = {}
        for person in found.people:
            places = _places(found, person)
            # People who cross have a few frames in common, too.
            change = max(self._changes, key=lambda change: places.count_overlaps(change.places), default=None)
            if change is None or not places.count_overlaps(change.places):
                chosen[person.number] = None
            elif change.is_chosen:
                chosen[person.number] = change.strength
        return chosen


def name_people(restoration: RestorationRequest, chosen: Chosen, num_people: int) -> RestorationRequest:
    """Add a choice of people to a request.

    Args:
        restoration ([`RestorationRequest`]): Without people.
        chosen (`Chosen`): At least one.
        num_people (`int`): The number of people in the part; if all of them are chosen, all faces are restored.
    """
    strengths = {number: strength for number, strength in chosen.items() if strength is not None}
    people = tuple(chosen) if len(chosen) < num_people else ()
    return replace(restoration, people=people, person_strength=strengths or None)


def use_tracks(
    restoration: RestorationRequest, found: FoundPeople, tracks: list[FaceTrack], part_start: int
) -> RestorationRequest:
    """Name the people of a request by their tracks.

    A track belongs to the person whose boxes it overlaps in most frames. One that lies outside the searched part is
    restored, too, because it could not be left out.

    Args:
        restoration ([`RestorationRequest`]): With the numbers of the people that were found.
        found ([`FoundPeople`]): The people of a part.
        tracks (`list[FaceTrack]`): All tracks of a part, which may be another one.
        part_start (`int`): Index in the video of the first frame of the part of the tracks.

    Returns:
        [`RestorationRequest`]: With the numbers of the tracks.

    Raises:
        ValueError: If a number is not that of a person, or none of the chosen people has a track.
    """
    places: Mapping[int, _Places] = {person.number: _places(found, person) for person in found.people}
    strengths = restoration.person_strength or {}
    if unknown := {*restoration.people, *strengths} - set(places):
        raise ValueError(f"There is no person {min(unknown)} in this part, in which {len(places)} were found.")
    selected: list[int] = []
    used: dict[int, Strength] = {}
    for track in tracks:
        frames = part_start + track.frames
        counts = {number: place.count_overlaps(_Places(frames, track.boxes)) for number, place in places.items()}
        best = max(counts, key=lambda number: counts[number])
        is_outside = frames[-1] < found.first_frame or frames[0] >= found.first_frame + found.num_frames
        if is_outside or (counts[best] and best in restoration.people):
            selected.append(track.track_id)
        if counts[best] and best in strengths:
            used[track.track_id] = strengths[best]
    if restoration.people and not selected:
        raise ValueError("None of the selected faces was found in this part. Choose another part, or more people.")
    return replace(restoration, people=tuple(selected) if restoration.people else (), person_strength=used or None)
