"""Three people enter, cross, hide and leave, with two cuts: nobody is taken for somebody else, nothing else changes.

The networks that make the faces are random and small: whom they are given, and when, is what is tested.  The detector
is the package's own.
"""

from collections import defaultdict

import numpy as np
import pytest

from conftest import make_components
from keep_hf import KeepPipeline
from people import CLIPS, FRAME_RATE, HIDDEN, YUNET, Film, make_film


pytestmark = pytest.mark.skipif(
    not (CLIPS.is_dir() and YUNET.is_file()), reason="the clips and the YuNet file of ../shared are not here"
)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Film:
    return make_film(tmp_path_factory.mktemp("film"))


@pytest.fixture(scope="module")
def pipe() -> KeepPipeline:
    detector = KeepPipeline.from_pretrained("keep-tiny").detector
    pipe = KeepPipeline(**make_components(), detector=detector)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def restored(film, pipe) -> tuple:
    """Frames, and who was restored in each of them; and the scenes."""
    stream = pipe.stream(frame_rate=FRAME_RATE)
    done = list(stream.restore(film.frames))
    return np.array([frame.image for frame in done]), [frame.followed.faces for frame in done], stream.report()


def shared(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = np.prod(np.maximum(sides, 0))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


def test_the_cuts_are_found(film, restored):
    assert restored[2]["scenes"] == [0, *film.cuts]


def test_nobody_is_taken_for_somebody_else(film, restored):
    numbers, people, found, visible = defaultdict(set), defaultdict(set), 0, 0
    for index, faces in enumerate(restored[1]):
        scene = sum(index >= cut for cut in film.cuts)
        truth = film.faces[index]
        for face in faces:
            name = max(truth, key=lambda name: shared(face.box, truth[name].box))
            assert shared(face.box, truth[name].box) > 0.3 and truth[name].visible > 0.1, f"a ghost in frame {index}"
            numbers[scene, name].add(face.track_id)
            people[scene, face.track_id].add(name)
        visible += sum(face.visible > 0.7 for face in truth.values())
        found += sum(
            face.visible > 0.7 and any(shared(face.box, other.box) > 0.3 for other in faces) for face in truth.values()
        )
    assert all(len(ids) == 1 for ids in numbers.values()), dict(numbers)
    assert all(len(names) == 1 for names in people.values()), dict(people)
    assert sorted(numbers) == [(0, "A"), (0, "B"), (0, "C"), (1, "A"), (1, "C"), (2, "B")]
    assert found == visible


def test_frames_without_anybody_are_untouched(film, restored):
    frames, faces, _ = restored
    nobody = [i for i, people in enumerate(film.faces) if all(face.visible == 0 for face in people.values())]
    assert len(film.empty) > 30 and set(film.empty) <= set(nobody)
    np.testing.assert_array_equal(frames[nobody], film.frames[nobody])
    # While A is behind the pillar, only C is restored.
    hidden = [i for i in range(*film.cuts) if film.faces[i]["A"].visible == 0]
    assert len(hidden) == HIDDEN and all(len(faces[i]) == 1 for i in hidden)


def test_faces_do_not_pop(restored):
    """From frame to frame the weight of a face changes by a step of the fade at most, but at cuts."""
    _, faces, report = restored
    before: dict[int, float] = {}
    for index, people in enumerate(faces):
        now = {face.track_id: face.weight for face in people}
        if index not in report["scenes"]:
            steps = [abs(now.get(number, 0) - before.get(number, 0)) for number in {*now, *before}]
            assert max(steps, default=0) <= 1 / 5, index
        before = now


@pytest.mark.parametrize("scene", [1, 2])
def test_a_scene_is_restored_as_if_it_were_alone(film, pipe, restored, scene):
    start, end = [*film.cuts, len(film.frames)][scene - 1 : scene + 1]
    stream = pipe.stream(frame_rate=FRAME_RATE)
    alone = np.array([frame.image for frame in stream.restore(film.frames[start:end])])
    assert (alone != film.frames[start:end]).any()
    np.testing.assert_array_equal(restored[0][start:end], alone)
