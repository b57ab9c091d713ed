"""Restoration from file to file: what is kept of the source, and the report."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from conftest import SIZE, make_clip
from damaged import damage_packets, truncate
from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter
from media import packets, times, write_clip
from restored import ONE, Identity, changed, make_source, restore


def test_a_restored_file_keeps_everything_else(make_pipe, tmp_path):
    rate = Fraction(30000, 1001)
    time_base = Fraction(1, 30000)
    # A variable rate: one frame stays twice as long
    pts = [1001 * (i + (i > 4)) for i in range(9)]
    source = make_source(tmp_path / "in.mp4", frame_rate=rate, pts=pts, time_base=time_base)
    target = tmp_path / "out.mp4"
    pipe = make_pipe(*[ONE] * 9, gain_window=4)
    report = pipe.restore_video(source, target, strength=1.0)

    with VideoReader(source) as before, VideoReader(target) as after:
        assert after.frame_rate == before.frame_rate
        assert (after.width, after.height) == (168, 112)
        given, written = list(before), list(after)
    assert len(written) == 9
    assert [frame.pts * frame.time_base for frame in written] == [frame.pts * frame.time_base for frame in given]
    assert packets(target, "audio") == packets(source, "audio")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]

    # The images are those of a call with the same frames, encoded in the same way.
    again = tmp_path / "again.mp4"
    decoded = np.stack([frame.image for frame in given])
    expected = restore(pipe, decoded, frame_rate=float(before.frame_rate))
    assert changed(decoded, expected).any()
    with VideoReader(source) as reader, VideoWriter(again, reader, width=168, height=112) as writer:
        for frame, image in zip(reader, expected, strict=True):
            writer.write(image, frame.pts, frame.duration)
    assert again.read_bytes() == target.read_bytes()

    assert report["frames"] == 9
    assert report["size"] == [168, 112]
    assert report["source"] == str(source)
    assert report["target"] == str(target)
    (track,) = report["tracks"]
    assert track["id"] == 0
    assert track["frames"] == 9
    assert track["filled_frames"] == 0
    assert track["first_frame"] == 0
    assert track["last_frame"] == 8
    assert track["face_size"] == SIZE
    assert report["scenes"] == [0]
    assert report["warnings"] == []
    assert report["damaged_frames"] == report["resized_frames"] == 0
    assert report["truncated"] is False
    assert report["peak_memory_bytes"]["host"] > 2**20
    assert {"detect", "align", "observe", "flow", "recursion", "paste", "total"} <= report["seconds"].keys()


def test_a_file_can_be_enlarged(make_pipe, tmp_path):
    source = make_source(tmp_path / "in.mp4", 3)
    make_pipe(*[ONE] * 3).restore_video(source, tmp_path / "out.mkv", upscale=2)
    with VideoReader(tmp_path / "out.mkv") as reader:
        assert (reader.width, reader.height) == (336, 224)


def test_a_file_of_aligned_crops(make_pipe, tmp_path):
    source = write_clip(tmp_path / "in.mp4", images=list(make_clip(5, 32, 32)), audio_codec="aac")
    report = make_pipe().restore_video(source, tmp_path / "out.mp4", aligned=True)
    assert report["size"] == [SIZE, SIZE]
    assert len(report["tracks"]) == 1
    assert report["frames"] == 5
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.width, reader.height) == (SIZE, SIZE)
        assert len(list(reader)) == 5


@pytest.mark.parametrize("target", ["missing/out.mp4", "out.gif", "in.mp4"])
def test_a_target_that_cannot_be_written_is_reported_before_any_work(make_pipe, tmp_path, target):
    source = make_source(tmp_path / "in.mp4", 3)
    pipe = make_pipe(*[ONE] * 3)
    with pytest.raises(ValueError, match=target):
        pipe.restore_video(source, tmp_path / target)
    assert pipe.detector.num_seen == 0


def test_the_report_has_the_similarity_with_a_face_recognition_network(make_pipe, tmp_path):
    source = make_source(tmp_path / "in.mp4")
    (track,) = make_pipe(*[ONE] * 9, identity=Identity()).restore_video(source, tmp_path / "out.mp4")["tracks"]
    assert 0.3 < track["identity"] < 1
    (track,) = make_pipe(*[ONE] * 9).restore_video(source, tmp_path / "out.mp4")["tracks"]
    assert "identity" not in track


def test_a_damaged_source_is_restored_and_reported(make_pipe, tmp_path):
    source = damage_packets(make_source(tmp_path / "whole.mp4", 20), tmp_path / "in.mp4", [9, 10])
    with pytest.warns(UserWarning, match=r"in\.mp4: 2 frames could not be decoded"):
        report = make_pipe(*[ONE] * 20, gain_window=4).restore_video(source, tmp_path / "out.mp4")
    assert report["frames"] == 20
    assert report["damaged_frames"] == 2
    assert report["truncated"] is False
    (message,) = report["warnings"]
    assert "the last good frame is shown again" in message
    assert times(tmp_path / "out.mp4") == times(tmp_path / "whole.mp4")
    with pytest.raises(ValueError, match=r"in\.mp4: frame \d+ cannot be decoded"):
        make_pipe(*[ONE] * 20).restore_video(source, tmp_path / "strict.mp4", strict=True)


def test_a_truncated_source_is_restored_and_reported(make_pipe, tmp_path):
    whole = write_clip(tmp_path / "whole.mkv", images=list(make_clip(30, 168, 112)))
    source = truncate(whole, tmp_path / "in.mkv")
    pipe = make_pipe(*[ONE] * 30, gain_window=4)
    with pytest.raises(ValueError, match=r"in\.mkv is truncated"):
        pipe.restore_video(source, tmp_path / "out.mkv", strict=True)
    assert pipe.detector.num_seen == 0
    with pytest.warns(UserWarning, match=r"in\.mkv is truncated: it announces 30 frames"):
        report = pipe.restore_video(source, tmp_path / "out.mkv")
    assert report["truncated"] is True
    assert report["announced_frames"] == 30
    assert 3 < report["frames"] < 30
    assert f"{report['frames']} could be read" in report["warnings"][-1]
    assert len(times(tmp_path / "out.mkv")) == report["frames"]


def test_an_animated_image_becomes_a_video(make_pipe, tmp_path):
    first, *rest = [Image.fromarray(image) for image in make_clip(9, 168, 112)]
    source, durations = tmp_path / "in.webp", [40, 80, 120, 40, 40, 200, 40, 40, 60]
    first.save(source, save_all=True, append_images=rest, duration=durations, lossless=True)
    report = make_pipe(*[ONE] * 9, gain_window=4).restore_video(source, tmp_path / "out.mp4")
    assert report["frames"] == 9
    assert times(tmp_path / "out.mp4") == [Fraction(sum(durations[:index]), 1000) for index in range(9)]
    assert len(make_pipe(*[ONE] * 9, gain_window=4)(source, output_type="np").frames[0]) == 9
