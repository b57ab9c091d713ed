"""From file to file: what stays, what is left behind when it breaks off, and how it goes on."""

import sys
from fractions import Fraction

import numpy as np
import pytest

from benchmarks.kill import compare
from conftest import SIZE, make_clip, make_faces
from keep_hf import KeepPipeline
from keep_hf.models.recursion import KalmanRecursion
from keep_hf.video.open import open_video
from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter
from media import packets, write_clip


ONE = make_faces((40, 24, SIZE))
TWO = make_faces((8, 16, SIZE), (96, 40, SIZE))


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=-1)


def restore(pipe, video, **options) -> np.ndarray:
    """Restored frames, uint8 (t, h, w, 3)."""
    return np.rint(pipe(video, output_type="np", **options).frames[0] * 255).astype(np.uint8)


def make_source(path, num_frames=9, **options):
    images = list(make_clip(num_frames, 168, 112))
    return write_clip(path, images=images, audio_codec="aac", **options)


def test_a_restored_file_keeps_everything_else(make_pipe, tmp_path):
    rate = Fraction(30000, 1001)
    time_base = Fraction(1, 30000)
    # A variable rate: one frame stays twice as long
    pts = [1001 * (i + (i > 4)) for i in range(9)]
    source = make_source(tmp_path / "in.mp4", frame_rate=rate, pts=pts, time_base=time_base)
    target = tmp_path / "out.mp4"
    pipe = make_pipe(*[ONE] * 9, gain_window=4)
    report = pipe.restore_video(source, target)

    with VideoReader(source) as before, VideoReader(target) as after:
        assert after.frame_rate == before.frame_rate
        assert (after.width, after.height) == (168, 112)
        given, written = list(before), list(after)
    assert len(written) == 9
    assert [frame.pts * frame.time_base for frame in written] == [frame.pts * frame.time_base for frame in given]
    assert packets(target, "audio") == packets(source, "audio")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]

    # The pictures are those of a call with the same frames, through the same codec.
    again = tmp_path / "again.mp4"
    decoded = np.stack([frame.image for frame in given])
    expected = restore(pipe, decoded, frame_rate=float(before.frame_rate))
    assert changed(decoded, expected).any()
    with VideoReader(source) as reader, VideoWriter(again, reader, width=168, height=112) as writer:
        for frame, image in zip(reader, expected, strict=True):
            writer.write(image, frame.pts, frame.duration)
    assert again.read_bytes() == target.read_bytes()

    assert report["frames"] == 9 and report["size"] == [168, 112]
    assert report["source"] == str(source) and report["target"] == str(target)
    (track,) = report["tracks"]
    assert track["id"] == 0 and track["frames"] == 9 and track["filled_frames"] == 0
    assert track["first_frame"] == 0 and track["last_frame"] == 8 and track["face_size"] == SIZE
    assert report["scenes"] == [0] and report["peak_memory_bytes"]["host"] > 2**20
    assert {"detect", "align", "observe", "flow", "recursion", "paste", "total"} <= report["seconds"].keys()


def test_a_file_can_grow(make_pipe, tmp_path):
    source = make_source(tmp_path / "in.mp4", 3)
    make_pipe(*[ONE] * 3).restore_video(source, tmp_path / "out.mkv", upscale=2)
    with VideoReader(tmp_path / "out.mkv") as reader:
        assert (reader.width, reader.height) == (336, 224)


def test_a_file_of_aligned_crops(make_pipe, tmp_path):
    source = write_clip(tmp_path / "in.mp4", images=list(make_clip(5, 32, 32)), audio_codec="aac")
    report = make_pipe().restore_video(source, tmp_path / "out.mp4", aligned=True)
    assert report["size"] == [SIZE, SIZE] and len(report["tracks"]) == 1 and report["frames"] == 5
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.width, reader.height) == (SIZE, SIZE)
        assert len(list(reader)) == 5


def break_at(monkeypatch, call: int, error: BaseException) -> list:
    """Let the recursion fail at one of its steps; the list grows with each of them."""
    step, calls = KalmanRecursion.step, []

    def broken(self, *args, **options):
        calls.append(None)
        if len(calls) == call:
            raise error
        return step(self, *args, **options)

    monkeypatch.setattr(KalmanRecursion, "step", broken)
    return calls


@pytest.mark.parametrize("error", [KeyboardInterrupt("now"), RuntimeError("now")])
def test_nothing_is_left_of_a_restoration_that_broke_off_at_once(make_pipe, tmp_path, monkeypatch, error):
    source = make_source(tmp_path / "in.mp4")
    calls = break_at(monkeypatch, 7, error)
    with pytest.raises(type(error)):
        make_pipe(*[ONE] * 9, gain_window=4).restore_video(source, tmp_path / "out.mp4")
    assert len(calls) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "pictures"])
def test_a_restoration_that_broke_off_goes_on(make_pipe, tmp_path, monkeypatch, target):
    source = make_source(tmp_path / "in.mp4", 60)
    pipe = make_pipe(*[TWO] * 60, gain_window=4)
    expected_report = pipe.restore_video(source, tmp_path / f"whole_{target}", segment_frames=8)
    expected = [frame.image for frame in open_video(tmp_path / f"whole_{target}", 25).read()]

    calls = break_at(monkeypatch, 30, RuntimeError("now"))
    pipe = make_pipe(*[TWO] * 60, gain_window=4)
    with pytest.raises(RuntimeError, match="now"):
        pipe.restore_video(source, tmp_path / target, segment_frames=8)
    assert (tmp_path / f"{target}.part").is_dir() and not (tmp_path / target).exists()
    # Not with other settings
    with pytest.raises(ValueError, match="strength"):
        pipe.restore_video(source, tmp_path / target, strength=0.5, resume=True)

    report = make_pipe(*[TWO] * 60, gain_window=4).restore_video(
        source, tmp_path / target, segment_frames=8, resume=True
    )
    assert len(calls) < 30 + 60, "it began from the start"
    result = [frame.image for frame in open_video(tmp_path / target, 25).read()]
    np.testing.assert_array_equal(result, expected)
    assert report["tracks"] == expected_report["tracks"] and report["frames"] == 60
    assert not (tmp_path / f"{target}.part").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL, which Windows lacks")
def test_a_killed_restoration_goes_on(components, tmp_path, monkeypatch):
    """benchmarks/kill.py kills more often, and a real restoration."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    source = write_clip(tmp_path / "in.mp4", images=list(make_clip(120, SIZE, SIZE)), audio_codec="aac")
    KeepPipeline(**components, gain_window=4).save_pretrained(tmp_path / "model")
    assert compare(source, str(tmp_path / "model"), times=3, segment_frames=10, aligned=True) == 3


def test_without_resume_an_unfinished_run_is_begun_anew(make_pipe, tmp_path, monkeypatch):
    source = make_source(tmp_path / "in.mp4", 60)
    break_at(monkeypatch, 30, RuntimeError("now"))
    with pytest.raises(RuntimeError, match="now"):
        make_pipe(*[ONE] * 60, gain_window=4).restore_video(source, tmp_path / "out.mp4", segment_frames=8)
    make_pipe(*[ONE] * 60, gain_window=4).restore_video(source, tmp_path / "out.mp4", strength=0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("target", ["missing/out.mp4", "out.gif", "in.mp4"])
def test_a_target_that_cannot_be_written_is_known_before_any_work(make_pipe, tmp_path, target):
    source = make_source(tmp_path / "in.mp4", 3)
    pipe = make_pipe(*[ONE] * 3)
    with pytest.raises(ValueError, match=target):
        pipe.restore_video(source, tmp_path / target)
    assert pipe.detector.num_seen == 0


def test_the_report_tells_likeness_where_it_can(make_pipe, tmp_path):
    class Likeness:
        """Faces are alike by the cosine of their pictures."""

        def embed(self, faces):
            rows = np.stack(faces).reshape(len(faces), -1).astype(np.float32)
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    source = make_source(tmp_path / "in.mp4")
    pipe = make_pipe(*[ONE] * 9, identity=Likeness())
    (track,) = pipe.restore_video(source, tmp_path / "out.mp4")["tracks"]
    assert 0.3 < track["identity"] < 1
    (track,) = make_pipe(*[ONE] * 9).restore_video(source, tmp_path / "out.mp4")["tracks"]
    assert "identity" not in track
