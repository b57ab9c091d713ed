"""What an interrupted restoration leaves, how it is resumed, and that only the same job is."""

import errno
import json
import sys
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.kill import compare
from conftest import SIZE, make_clip, make_components
from damaged import damage_packets
from keep_hf import KeepPipeline, __version__
from keep_hf.faces.follower import FaceFollower
from keep_hf.models.recursion import KalmanRecursion
from keep_hf.video.open import open_video
from keep_hf.video.segments.muxer import Muxer
from media import write_clip
from restored import NO_FACES, ONE, TWO, Identity, make_source


pytestmark = pytest.mark.slow


def fail_at_step(monkeypatch, number: int, error: BaseException) -> list:
    """Let the recursion fail at one of its steps; the list gets an entry for every step."""
    step, calls = KalmanRecursion.step, []

    def counted(self, *args, **options):
        calls.append(None)
        if len(calls) == number:
            raise error
        return step(self, *args, **options)

    monkeypatch.setattr(KalmanRecursion, "step", counted)
    return calls


@pytest.mark.parametrize("error", [KeyboardInterrupt("now"), RuntimeError("now")])
def test_nothing_is_left_of_a_run_that_fails_in_its_first_segment(make_pipe, tmp_path, monkeypatch, error):
    source = make_source(tmp_path / "in.mp4")
    calls = fail_at_step(monkeypatch, 7, error)
    pipe, freed = make_pipe(*[ONE] * 9, gain_window=4), []
    monkeypatch.setattr(pipe, "maybe_free_model_hooks", lambda: freed.append(True))
    with pytest.raises(type(error)):
        pipe.restore_video(source, tmp_path / "out.mp4")
    assert len(calls) == 7
    assert freed
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("target", ["out.mp4", "images"])
def test_a_failed_run_is_resumed(make_pipe, tmp_path, monkeypatch, target):
    source = make_source(tmp_path / "in.mp4", 30, frame_rate=5)
    expected_report = make_pipe(*[TWO] * 30, gain_window=4).restore_video(
        source, tmp_path / f"whole_{target}", segment_frames=4
    )
    expected = [frame.image for frame in open_video(tmp_path / f"whole_{target}", 5).read()]

    calls = fail_at_step(monkeypatch, 22, RuntimeError("now"))
    with pytest.raises(RuntimeError, match="now"):
        make_pipe(*[TWO] * 30, gain_window=4).restore_video(source, tmp_path / target, segment_frames=4)
    assert (tmp_path / f"{target}.part").is_dir()
    assert not (tmp_path / target).exists()

    pipe = make_pipe(*[TWO] * 30, gain_window=4)
    report = pipe.restore_video(source, tmp_path / target, segment_frames=4, resume=True)
    assert len(calls) < 22 + 30, "it started from the first frame"
    result = [frame.image for frame in open_video(tmp_path / target, 5).read()]
    np.testing.assert_array_equal(result, expected)
    assert report["tracks"] == expected_report["tracks"]
    assert report["frames"] == 30
    assert not (tmp_path / f"{target}.part").exists()


@pytest.mark.filterwarnings("ignore:.*could not be decoded", "ignore:.*damaged parts")
def test_a_damaged_video_is_resumed(make_pipe, tmp_path, monkeypatch):
    """Frames that are shown again lie before and after the interruption, and at the border of segments."""
    whole = make_source(tmp_path / "whole.mp4", 30, frame_rate=5)
    source = damage_packets(whole, tmp_path / "in.mp4", [3, 4, 15, 16, 17, 25])
    expected_report = make_pipe(*[TWO] * 30, gain_window=4).restore_video(
        source, tmp_path / "expected.mp4", segment_frames=4
    )
    calls = fail_at_step(monkeypatch, 22, RuntimeError("now"))
    with pytest.raises(RuntimeError, match="now"):
        make_pipe(*[TWO] * 30, gain_window=4).restore_video(source, tmp_path / "out.mp4", segment_frames=4)
    report = make_pipe(*[TWO] * 30, gain_window=4).restore_video(
        source, tmp_path / "out.mp4", segment_frames=4, resume=True
    )
    assert len(calls) < 22 + 30
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "expected.mp4").read_bytes()
    for name in ("frames", "tracks", "damaged_frames"):
        assert report[name] == expected_report[name]
    assert report["damaged_frames"] >= 6


def test_a_strict_run_that_fails_is_resumed_without_strict(make_pipe, tmp_path):
    whole = make_source(tmp_path / "whole.mp4", 30, frame_rate=5)
    source = damage_packets(whole, tmp_path / "in.mp4", [25])
    pipe = make_pipe(*[ONE] * 30, gain_window=4)
    with pytest.raises(ValueError, match="cannot be decoded"):
        pipe.restore_video(source, tmp_path / "out.mp4", segment_frames=4, strict=True)
    assert (tmp_path / "out.mp4.part").is_dir()
    pipe = make_pipe(*[ONE] * 30, gain_window=4)
    with pytest.warns(UserWarning, match="could not be decoded"):
        pipe.restore_video(source, tmp_path / "out.mp4", segment_frames=4, resume=True)
    assert pipe.detector.num_seen < 30


def test_a_failed_joining_is_repeated_without_restoring(make_pipe, tmp_path, monkeypatch):
    source, target = make_source(tmp_path / "in.mp4", 12, frame_rate=5), tmp_path / "out.mp4"
    # Saved states are read without numpy's numbers.
    options = {"segment_frames": 5, "upscale": np.int64(2), "crf": np.int64(18)}
    with monkeypatch.context() as patch:
        patch.setattr(Muxer, "_write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        with pytest.raises(OSError, match="No space left"):
            make_pipe(*[ONE] * 12, gain_window=4).restore_video(source, target, **options)
    pipe = make_pipe(*[ONE] * 12, gain_window=4)
    report = pipe.restore_video(source, target, **options, resume=True)
    assert json.loads(json.dumps(report))["size"] == [2 * 168, 2 * 112]
    assert pipe.detector.num_seen == 0
    assert report["frames"] == 12
    assert not (tmp_path / "out.mp4.part").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL, which Windows lacks")
def test_a_killed_run_is_resumed(components, tmp_path, monkeypatch):
    """benchmarks/kill.py does the same more often, and with a larger network."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    source = write_clip(tmp_path / "in.mp4", images=list(make_clip(100, SIZE, SIZE)), audio_codec="aac")
    KeepPipeline(**components, gain_window=4).save_pretrained(tmp_path / "model")
    assert compare(source, str(tmp_path / "model"), times=1, segment_frames=5, aligned=True) == 1


def test_without_resume_an_unfinished_run_is_replaced(make_pipe, tmp_path, monkeypatch):
    source = make_source(tmp_path / "in.mp4", 30, frame_rate=5)
    fail_at_step(monkeypatch, 20, RuntimeError("now"))
    with pytest.raises(RuntimeError, match="now"):
        make_pipe(*[ONE] * 30, gain_window=4).restore_video(source, tmp_path / "out.mp4", segment_frames=4)
    assert (tmp_path / "out.mp4.part").is_dir()
    make_pipe(*[ONE] * 30, gain_window=4).restore_video(source, tmp_path / "out.mp4", strength=0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_strengths_of_people_are_reported_and_survive_an_interruption(make_pipe, tmp_path):
    source = make_source(tmp_path / "in.mp4", 20, frame_rate=5)
    options = {"strength": 0.5, "person_strength": {1: 0}, "segment_frames": 4}

    def restore(name: str, **changes) -> dict:
        return make_pipe(*[TWO] * 20, gain_window=4).restore_video(source, tmp_path / name, **options | changes)

    report = restore("whole.mp4")
    assert [track["strength"]["weight"] for track in report["tracks"]] == [0.5, 0]
    assert report["options"]["person_strength"] == {1: 0}
    with patch.object(FaceFollower, "flush", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        restore("out.mp4")
    with pytest.raises(ValueError, match=r"person_strength was \{1: 0.0\} and is \{1: 0.25\}"):
        restore("out.mp4", resume=True, person_strength={1: 0.25})
    resumed = restore("out.mp4", resume=True)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert resumed["tracks"] == report["tracks"]
    with pytest.warns(UserWarning, match="in.mp4: no person with the number 2, 5, which person_strength has"):
        restore("out.mp4", person_strength={1: 0, 5: 1, 2: 1})


def test_options_with_the_same_result_are_the_same_job(make_pipe, tmp_path):
    """With `gain_mode="official"`, `"auto"` is 1 for all people."""
    source = make_source(tmp_path / "in.mp4", 20, frame_rate=5)

    def restore(**options) -> dict:
        pipe = make_pipe(*[TWO] * 20, gain_window=4)
        return pipe.restore_video(source, tmp_path / "out.mp4", gain_mode="official", segment_frames=4, **options)

    with patch.object(FaceFollower, "flush", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        restore(person_strength={1: "auto"})
    report = restore(strength=1, person_strength={1: 1}, resume=True)
    assert report["options"]["person_strength"] == {1: 1}
    assert [track["strength"]["weight"] for track in report["tracks"]] == [1, 1]


# Only the same job is resumed.


def enlarge(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=2, fy=2)


def brighten(image: np.ndarray) -> np.ndarray:
    return cv2.add(enlarge(image), 20)


@pytest.fixture
def interrupted(make_pipe, tmp_path):
    """An image folder without faces, and the target of its restoration, which was interrupted after some segments."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for index, image in enumerate(make_clip(30, SIZE, SIZE)):
        Image.fromarray(image).save(source / f"{index:02d}.png")
    options = {"frame_rate": 5, "upscale": 2, "background": enlarge, "strength": np.float64(1), "segment_frames": 2}
    with patch.object(FaceFollower, "flush", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        make_pipe(NO_FACES, gain_window=4).restore_video(source, target, **options)

    def resume(config: dict, **changes):
        pipe = make_pipe(NO_FACES, **{"gain_window": 4} | config)
        return pipe.restore_video(source, target, resume=True, **options | changes)

    return resume


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        ({}, {"frame_rate": 10}, "frame_rate was 5.0 and is 10.0"),
        ({}, {"background": brighten}, r"background was \S*\.enlarge and is \S*\.brighten"),
        ({}, {"background": None}, r"background was \S*\.enlarge and is None"),
        ({}, {"strength": 0.5, "gain_mode": "official"}, "gain_mode was stream and is official, strength was 1.0 and"),
        ({"gain_window": 8}, {}, "gain_window was 4 and is 8"),
        ({"fidelity": 0.5}, {}, "fidelity was 1.0 and is 0.5"),
        ({"identity": Identity()}, {}, "weights of identity was None and is [0-9a-f]{8}"),
        ({"vq": make_components(seed=1)["vq"]}, {}, "weights was [0-9a-f]{8} and is [0-9a-f]{8}"),
    ],
)
def test_another_job_is_not_resumed(interrupted, config, changes, message):
    with pytest.raises(ValueError, match=rf"out was started as another job: {message}.* start again without resume"):
        interrupted(config, **changes)
    assert interrupted({})["frames"] == 30


def test_the_job_of_another_version_is_not_resumed(interrupted, monkeypatch):
    monkeypatch.setattr("keep_hf.pipeline.connected_pipeline.__version__", "0.0.7")
    with pytest.raises(ValueError, match=rf"another job: version of keep_hf was {__version__} and is 0\.0\.7"):
        interrupted({})


def test_a_state_of_another_version_is_not_resumed(interrupted, monkeypatch):
    monkeypatch.setattr("keep_hf.restoration.stream.STATE_VERSION", 0)
    with pytest.raises(ValueError, match="state of FaceStream has version 4, but this version of keep_hf reads"):
        interrupted({})
