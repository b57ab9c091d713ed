"""Videos with known faces: what is measured in which frames."""

import gc
import math
import weakref

import numpy as np
import pytest

from conftest import KnownFaces, make_clip, make_faces
from keep_hf import Faces
from keep_hf.evaluation.evaluate import Segment, evaluate_video, plan_passes
from keep_hf.evaluation.networks import Networks
from keep_hf.evaluation.pairs import VideoPair
from keep_hf.evaluation.report import Report
from keep_hf.evaluation.series import REFERENCE_METRICS
from keep_hf.models.flow.dis import DISFlow
from media import write_lossless
from stand_ins import Angle


def two_people(num_frames: int) -> tuple[np.ndarray, np.ndarray, KnownFaces]:
    """A restored video and its reference with two faces, of which the first is brighter by 10 in the restored one."""
    truth = make_clip(num_frames, 240, 120).clip(0, 200)
    restored = truth.copy()
    restored[:, :, :120] += 10
    return restored, truth, KnownFaces([make_faces((28, 20, 64), (148, 20, 64))] * num_frames)


def test_all_people_are_measured_with_the_same_crops(tmp_path):
    restored, truth, detector = two_people(6)
    pair = VideoPair(write_lossless(tmp_path / "a.mkv", restored), write_lossless(tmp_path / "b.mkv", truth))
    found = evaluate_video(pair, Networks(identity=Angle(), flow=DISFlow()), detector, name="clip")
    assert (found.num_frames, found.scenes, [person.name for person in found.people]) == (6, [0], ["0", "1"])
    by_side = {person.join().metrics["psnr"].mean == math.inf: person.join() for person in found.people}
    changed, same = by_side[False].metrics, by_side[True].metrics
    # Mean squares of 10² in one face, of 0 in the other, and of half of 10² in the frame
    assert changed["psnr"].mean == pytest.approx(10 * math.log10(255**2 / 100), abs=1e-3)
    assert found.frames.mean["psnr"] == pytest.approx(10 * math.log10(255**2 / 50), abs=1e-3)
    assert changed["ids"].mean == pytest.approx(math.cos(math.radians(10)), abs=1e-4)
    assert (same["ids"].mean, same["ids"].sigma, same["ssim"].mean) == (
        pytest.approx(1),
        pytest.approx(0, abs=1e-6),
        1,
    )
    # All people have the same weight; whole frames are not measured as faces.
    assert found.faces.num_frames == 12
    assert found.faces.num_videos == 2
    assert found.faces.mean["ids"] == pytest.approx((1 + math.cos(math.radians(10))) / 2, abs=1e-4)
    assert found.frames.mean["ids"] is None
    assert found.frames.mean["flicker"] is not None
    assert len(changed["flicker"].values) == 5


def test_faces_are_detected_in_the_reference(tmp_path):
    restored, truth, _ = two_people(3)
    pair = VideoPair(write_lossless(tmp_path / "a.mkv", restored), write_lossless(tmp_path / "b.mkv", truth))
    shown = []

    class NoFaces:
        def detect(self, frames):
            shown.extend(frames)
            return [make_faces() for _ in frames]

    found = evaluate_video(pair, Networks(), NoFaces(), name="clip")
    np.testing.assert_array_equal(shown[:3], truth)  # then one of them in the other orientations
    assert found.people == []
    assert found.faces is None
    assert found.profile.person is None
    report = Report([found], REFERENCE_METRICS, Networks().missing(REFERENCE_METRICS), {"faces": "none"})
    assert "- clip: no faces were measured." in report.to_markdown()
    assert "\nFaces\n" not in report.to_markdown()


def test_neighbouring_frames_are_of_one_scene(tmp_path):
    scenes = np.stack([make_clip(1, 96, 64, seed=0)[0] // 2] * 8 + [255 - make_clip(1, 96, 64, seed=1)[0]] * 8)
    pair = VideoPair(write_lossless(tmp_path / "a.mkv", scenes), None)
    found = evaluate_video(pair, Networks(flow=DISFlow()), KnownFaces([make_faces()]), name="clip")
    assert found.scenes == [0, 8]
    flicker = found.whole.join().metrics["flicker"].values
    assert len(flicker) == 14
    assert max(flicker) < 0.5
    times, values = found.whole.over_time("flicker")
    assert times.tolist() == [*range(1, 8), 7.5, *range(9, 16), 15.5]
    assert np.isnan(values[[7, 15]]).all()
    assert np.isfinite(values[:7]).all()


def test_an_absence_divides_the_track(tmp_path):
    video = np.stack([make_clip(1, 160, 128)[0]] * 60)
    present, absent = make_faces((40, 20, 80)), make_faces()
    detector = KnownFaces([present] * 10 + [absent] * 30 + [present] * 20)
    pair = VideoPair(write_lossless(tmp_path / "a.mkv", video), None)
    found = evaluate_video(pair, Networks(identity=Angle()), detector, name="clip")
    (person,) = found.people
    assert [(first, segment.num_frames) for first, segment in person.segments] == [(0, 10), (40, 20)]
    assert person.join().num_frames == 30
    assert len(person.join().metrics["identity_steps"].values) == 9 + 19
    assert sorted(found.profile.columns) == [*range(10), *range(40, 60)]


def test_there_are_as_many_passes_as_people_at_a_time():
    places = ((0, 0, 5), (3, 1, 9), (5, 0, 4))
    segments = [Segment(first, person, [np.eye(2, 3)] * length) for first, person, length in places]
    first, second = plan_passes(segments)
    assert first == [segments[0], segments[2]]
    assert second == [segments[1]]
    assert plan_passes([]) == []


def test_memory_does_not_grow(tmp_path, monkeypatch):
    """Only the frames of the look-ahead are held, nearly none if they are aligned."""
    video = make_clip(150, 64, 64)
    faces: list[Faces] = [make_faces((8, 8, 48))] * 150
    monkeypatch.setattr("keep_hf.evaluation.compare.find_spec", lambda name: None)  # SSIM would take most of the time
    pair = VideoPair(write_lossless(tmp_path / "a.mkv", video), write_lossless(tmp_path / "b.mkv", video))
    alive: weakref.WeakSet = weakref.WeakSet()
    most = 0
    fit = pair._fit

    class Frame(np.ndarray):
        """An array that can be hashed and referenced weakly."""

        __hash__ = object.__hash__

    def counted(image):
        nonlocal most
        frame = fit(image).view(Frame)
        alive.add(frame)
        most = max(most, len(alive))
        return frame

    monkeypatch.setattr(pair, "_fit", counted)
    gc.disable()
    try:
        evaluate_video(pair, Networks(identity=Angle()), KnownFaces(faces), name="clip")
        with_faces, most = most, 0
        aligned = evaluate_video(pair, Networks(identity=Angle()), None, name="clip")
    finally:
        gc.enable()
    assert aligned.num_frames == 150
    assert with_faces < 60
    assert most < 20
