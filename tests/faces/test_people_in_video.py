"""Three people enter, cross, hide and leave in a video with two cuts: no one is confused, the rest is unchanged.

The networks that restore the faces are random and small: the test is about which faces they get, and when.  The
detector is that of the package.
"""

from collections import defaultdict

import numpy as np
import pytest

from conftest import make_components
from keep_hf import KeepPipeline
from people import CLIPS, FRAME_RATE, HIDDEN, YUNET, PeopleVideo, make_video


pytestmark = [
    pytest.mark.skipif(
        not (CLIPS.is_dir() and YUNET.is_file()), reason="the clips and the YuNet file of ../shared are missing"
    ),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def video() -> PeopleVideo:
    return make_video()


@pytest.fixture(scope="module")
def pipe() -> KeepPipeline:
    detector = KeepPipeline.from_pretrained("keep-tiny").detector
    pipe = KeepPipeline(**make_components(), detector=detector)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module", params=["normal", "low"])
def latency(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def restored(video, pipe, latency) -> tuple:
    """The restored frames, the people in each of them, and the report."""
    stream = pipe.stream(frame_rate=FRAME_RATE, latency=latency, strength=1.0)
    done = list(stream.restore(video.frames))
    return np.array([frame.image for frame in done]), [frame.followed.faces for frame in done], stream.report()


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = np.prod(np.maximum(sides, 0))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


def test_the_cuts_are_found(video, restored):
    assert restored[2]["scenes"] == [0, *video.cuts]


def test_every_visible_face_is_found_and_no_one_is_confused(video, restored):
    numbers, people, found, visible = defaultdict(set), defaultdict(set), 0, 0
    for index, faces in enumerate(restored[1]):
        scene = sum(index >= cut for cut in video.cuts)
        truth = video.faces[index]
        for face in faces:
            name = max(truth, key=lambda name: overlap(face.box, truth[name].box))
            assert overlap(face.box, truth[name].box) > 0.3, f"no face in frame {index}"
            assert truth[name].visible > 0.1, f"no face in frame {index}"
            numbers[scene, name].add(face.track_id)
            people[scene, face.track_id].add(name)
        visible += sum(face.visible > 0.7 for face in truth.values())
        found += sum(
            face.visible > 0.7 and any(overlap(face.box, other.box) > 0.3 for other in faces)
            for face in truth.values()
        )
    assert all(len(ids) == 1 for ids in numbers.values()), dict(numbers)
    assert all(len(names) == 1 for names in people.values()), dict(people)
    assert sorted(numbers) == [(0, "A"), (0, "B"), (0, "C"), (1, "A"), (1, "C"), (2, "B")]
    assert visible - 2 <= found <= visible  # of about 500; some are hidden by almost a third


def test_frames_without_people_are_unchanged(video, restored):
    frames, faces, _ = restored
    without = [i for i, people in enumerate(video.faces) if all(face.visible == 0 for face in people.values())]
    assert len(video.empty) > 30
    assert set(video.empty) <= set(without)
    np.testing.assert_array_equal(frames[without], video.frames[without])
    # While A is behind the pillar, only C is restored.
    hidden = [i for i in range(*video.cuts) if video.faces[i]["A"].visible == 0]
    assert len(hidden) == HIDDEN
    assert all(len(faces[i]) == 1 for i in hidden)


def test_faces_fade_in_and_out(restored, latency):
    """From frame to frame the weight of a face changes by at most one step of the fade, except at cuts."""
    step = {"normal": 1 / 5, "low": 1 / 3}[latency]
    _, faces, report = restored
    before: dict[int, float] = {}
    for index, people in enumerate(faces):
        now = {face.track_id: face.weight for face in people}
        if index not in report["scenes"]:
            steps = [abs(now.get(number, 0) - before.get(number, 0)) for number in {*now, *before}]
            assert max(steps, default=0) <= step + 1e-9, index
        before = now


def test_a_scene_is_restored_as_if_it_were_alone(video, pipe, restored, latency):
    start, end = video.cuts
    stream = pipe.stream(frame_rate=FRAME_RATE, latency=latency, strength=1.0)
    alone = np.array([frame.image for frame in stream.restore(video.frames[start:end])])
    assert (alone != video.frames[start:end]).any()
    np.testing.assert_array_equal(restored[0][start:end], alone)
