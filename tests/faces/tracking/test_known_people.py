"""Numbers of people across scenes: who is recognized, who gets a new number, what is remembered."""

import numpy as np
import torch

from keep_hf.faces.tracking.known_people import MAX_DESCRIPTORS, MAX_KNOWN, SAME_APPEARANCE, KnownPeople
from keep_hf.restoration.state import pack, unpack


AXES = np.eye(300, dtype=np.float32)


def blend(similarity: float, person: int, other: int = 299) -> np.ndarray:
    """A descriptor with a given similarity to that of a person."""
    return (similarity * AXES[person] + np.sqrt(1 - similarity**2) * AXES[other]).astype(np.float32)


def test_numbers_follow_the_order_of_first_appearance():
    known = KnownPeople()
    assert known.number([AXES[0], AXES[1]], ()) == [0, 1]
    assert known.number([AXES[2]], (0, 1)) == [2]


def test_a_person_is_recognized_above_the_threshold():
    known = KnownPeople()
    known.number([AXES[0]], ())
    known.remember(0, AXES[0])
    assert known.number([blend(SAME_APPEARANCE + 0.01, 0)], ()) == [0]
    assert known.number([blend(SAME_APPEARANCE - 0.01, 0)], ()) == [1]


def test_each_person_is_in_a_scene_once_and_the_best_match_counts():
    known = KnownPeople()
    for person in range(2):
        known.number([AXES[person]], ())
        known.remember(person, AXES[person])
    assert known.number([AXES[0]], (0,)) == [2]
    assert known.number([blend(0.97, 1), blend(0.99, 1), AXES[0]], ()) == [3, 1, 0]


def test_a_person_has_several_appearances():
    known = KnownPeople()
    known.number([AXES[0]], ())
    for axis in range(MAX_DESCRIPTORS + 1):
        known.remember(0, AXES[axis])
    assert [known.number([AXES[axis]], ()) for axis in (1, MAX_DESCRIPTORS, 0)] == [[0], [0], [1]]


def test_memory_is_bounded_and_numbers_are_not_used_again():
    known = KnownPeople()
    for person in range(MAX_KNOWN + 1):
        known.number([AXES[person]], ())
        known.remember(person, AXES[person])
        known.remember(0, AXES[0])  # is in every scene
    assert len(known.descriptors) == MAX_KNOWN
    assert known.number([AXES[0], AXES[1], AXES[2]], ()) == [0, MAX_KNOWN + 1, 2]


def test_people_are_known_after_saving_and_loading():
    first, second = KnownPeople(), KnownPeople()
    for known in (first, second):
        assert known.number([AXES[0], AXES[1]], ()) == [0, 1]
    first.remember(1, AXES[1])
    second.load_state_dict(unpack(pack(first.state_dict()), torch.device("cpu")))
    assert second.number([AXES[1], AXES[0]], ()) == [1, 2]
