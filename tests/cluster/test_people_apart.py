"""People are numbered as in the whole video, although scenes are numbered apart."""

from itertools import chain

import numpy as np

from keep_hf.cluster.people import RecordedPeople, renumber
from keep_hf.faces.tracking.known_people import KnownPeople
from keep_hf.restoration.state import pack


ANNA, BEN, CARL = np.eye(3, dtype=np.float32)
# The people of each scene, who appear together or one after the other
SCENES = [[[ANNA, BEN]], [[CARL], [ANNA]], [[BEN]], [[BEN, CARL, ANNA]]]


def number_scene(known: KnownPeople, scene: list[list[np.ndarray]]) -> list[int]:
    numbers: list[int] = []
    for together in scene:
        numbers += known.number(together, numbers)
    for number, descriptor in zip(numbers, chain.from_iterable(scene), strict=True):
        known.remember(number, descriptor)
    return numbers


def test_numbers_are_those_of_the_whole_video():
    whole, joined = KnownPeople(), KnownPeople()
    for scene in SCENES:
        apart = RecordedPeople()
        local = number_scene(apart, scene)
        assert local == list(range(len(local)))
        numbers = renumber(apart.record, joined)
        assert [numbers[number] for number in local] == number_scene(whole, scene)
    assert joined.next_id == 3


def test_the_record_is_part_of_the_state():
    first, second = RecordedPeople(), RecordedPeople()
    number_scene(first, SCENES[0])
    pack(first.state_dict())
    second.load_state_dict(first.state_dict())
    assert renumber(second.record, KnownPeople()) == {0: 0, 1: 1}
