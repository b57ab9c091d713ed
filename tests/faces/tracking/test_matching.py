"""Which detection is assigned to which person."""

import numpy as np

from keep_hf.faces.tracking.matching import Match, match_people
from keep_hf.faces.tracking.person import Detection, Person, Sighting
from patterned_people import faces_at


MAX_GAP = 12


def appearance(similarity: float) -> np.ndarray:
    """An appearance with this similarity to `appearance(1.0)`."""
    return np.array([similarity, np.sqrt(1 - similarity**2)], np.float32)


def person(similarity: float, place: tuple[float, float], last: int = 0) -> Person:
    faces = faces_at(place)
    made = Person(appearance(similarity), appearance(similarity))
    made.add(last, Detection(Sighting(faces.boxes[0], faces.landmarks[0], 0.9), appearance(similarity)), MAX_GAP)
    return made


def detection(place: tuple[float, float]) -> Detection:
    faces = faces_at(place)
    return Detection(Sighting(faces.boxes[0], faces.landmarks[0], 0.9), appearance(1.0))


def assign(people: list[Person], detections: list[Detection], now: int) -> list[tuple[int, int]]:
    return [(match.person, match.detection) for match in match_people(people, detections, now, MAX_GAP)]


def test_motion_and_appearance_precede_the_appearance_alone():
    """The first person looks exactly like the face, but was elsewhere; the second one was there two frames ago."""
    people = [person(1.0, (600, 200)), person(0.6, (200, 200))]
    assert assign(people, [detection((220, 200))], now=2) == [(1, 0)]
    assert assign(people[:1], [detection((220, 200))], now=2) == [(0, 0)]
    assert sorted([Match(True, -1.0, 0, 0), Match(False, 0.5, 1, 0)])[0].person == 1


def test_the_closest_pairs_are_assigned_first():
    people = [person(0.9, (200, 200)), person(0.9, (230, 200))]
    assert assign(people, [detection((232, 200)), detection((205, 200))], now=1) == [(1, 0), (0, 1)]


def test_a_person_who_was_seen_in_the_last_frame_is_not_matched_by_appearance_alone():
    assert assign([person(1.0, (600, 200))], [detection((200, 200))], now=1) == []
    assert assign([person(1.0, (600, 200))], [detection((200, 200))], now=2) == [(0, 0)]


def test_the_distance_may_grow_while_a_face_is_lost():
    assert assign([person(0.6, (200, 200))], [detection((260, 200))], now=1) == []
    assert assign([person(0.6, (200, 200))], [detection((260, 200))], now=5) == [(0, 0)]


def test_people_of_another_appearance_are_not_matched():
    assert assign([person(0.4, (200, 200))], [detection((200, 200))], now=1) == []
    # After the longest gap, only the appearance counts, and it must be more similar.
    assert assign([person(0.8, (200, 200))], [detection((200, 200))], now=MAX_GAP + 1) == [(0, 0)]
    assert assign([person(0.8, (200, 200))], [detection((200, 200))], now=MAX_GAP + 2) == []
