"""Writing of videos: times, images, audio and other content as in the source, resuming, and errors."""

import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from keep_hf.video.reader import VideoReader
from keep_hf.video.segments.muxer import Muxer
from keep_hf.video.segments.segment_encoder import SegmentEncoder
from keep_hf.video.writer import VideoWriter
from media import copy_clip, difference, end, gradient, packets, times, write_clip
from paths import SHARED


# Times


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25)])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_frame_rate_count_times_and_duration_are_kept(tmp_path, rate, suffix):
    source = write_clip(tmp_path / "in.mp4", frame_rate=rate, num_frames=40)
    copy_clip(source, tmp_path / f"out.{suffix}")
    reader = VideoReader(tmp_path / f"out.{suffix}")
    assert reader.frame_rate == rate
    assert reader.num_frames == 40
    assert times(tmp_path / f"out.{suffix}") == times(source) == [index / rate for index in range(40)]
    assert end(tmp_path / f"out.{suffix}") == end(source) == 40 / rate


@pytest.mark.filterwarnings("ignore:.*converted.*to opus")
@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_matroska_rounds_to_milliseconds(tmp_path, suffix):
    source = write_clip(tmp_path / "in.mp4", frame_rate=Fraction(30000, 1001), audio_codec="aac", num_frames=30)
    copy_clip(source, tmp_path / f"out.{suffix}")
    assert VideoReader(tmp_path / f"out.{suffix}").frame_rate == Fraction(30000, 1001)
    before, after = times(source), times(tmp_path / f"out.{suffix}")
    assert all(abs(a - b) <= Fraction(1, 2000) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_frame_rate(tmp_path, suffix):
    pts = [0, 40, 100, 101, 140, 400, 433, 500]
    source = write_clip(tmp_path / "in.mkv", num_frames=8, pts=pts, time_base=Fraction(1, 1000))
    copy_clip(source, tmp_path / f"out.{suffix}")
    assert times(tmp_path / f"out.{suffix}") == times(source) == [Fraction(p, 1000) for p in pts]


def test_one_frame(tmp_path):
    source = write_clip(tmp_path / "in.mp4", num_frames=1)
    copy_clip(source, tmp_path / "out.mp4")
    assert end(tmp_path / "out.mp4") == end(source) == Fraction(1, 25)


def test_broadcast_clock_starts_at_zero_with_its_audio(tmp_path):
    source = write_clip(tmp_path / "in.ts", audio_codec="aac", num_frames=25)
    with av.open(str(source)) as container:
        start = Fraction(container.start_time, av.time_base)
        first_frame = next(container.decode(video=0))
        delay = first_frame.pts * first_frame.time_base - start
    assert start > 0
    copy_clip(source, tmp_path / "out.mp4")
    assert times(source)[0] == pytest.approx(delay, abs=1e-4)
    assert times(tmp_path / "out.mp4") == times(source)
    # The packets in the transport stream have ADTS headers of 7 bytes, which MP4 does not use.
    before, after = packets(source, "audio"), packets(tmp_path / "out.mp4", "audio")
    assert [content[7:] for _, content in before] == [content for _, content in after]
    assert all(abs(a - start - b) < Fraction(1, 10_000) for (a, _), (b, _) in zip(before, after, strict=True))


def test_writer_without_source_counts_frames(tmp_path):
    with VideoWriter(tmp_path / "out.mp4", width=96, height=64, frame_rate=29.97) as writer:
        for index in range(5):
            writer.write(gradient(index, 96, 64))
    assert times(tmp_path / "out.mp4") == [index / Fraction(2997, 100) for index in range(5)]


# Images


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("colour_range", [1, 2])
@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_colour_chart(tmp_path, matrix, colour_range, suffix):
    patches = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 120, 90)]
    chart = np.repeat(np.array(patches, np.uint8), 16, axis=0)[None].repeat(32, axis=0)
    source = write_clip(tmp_path / "in.mp4", images=[chart] * 3, colour=(matrix, colour_range))
    (read, *_) = copy_clip(source, tmp_path / f"out.{suffix}", crf=4)
    assert difference(read[8::16, 8::16], chart[8::16, 8::16]) <= 3
    for frame in VideoReader(tmp_path / f"out.{suffix}"):
        assert difference(frame.image[8::16, 8::16], read[8::16, 8::16]) <= 3


def test_colours_do_not_change_when_frames_are_enlarged(tmp_path):
    # Players take small videos without a colour description for BT.601, and large ones for BT.709.
    red = np.full((64, 96, 3), (200, 30, 40), np.uint8)
    source = write_clip(tmp_path / "in.mp4", images=[red] * 2)
    with (
        VideoReader(source) as reader,
        VideoWriter(tmp_path / "out.mp4", reader, width=1536, height=1024, preset="ultrafast") as writer,
    ):
        for frame in reader:
            writer.write(cv2.resize(frame.image, (1536, 1024)), frame.pts)
    assert difference(next(iter(VideoReader(tmp_path / "out.mp4"))).image, np.full((1024, 1536, 3), red[0, 0])) <= 3


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize(("width", "height"), [(97, 63), (96, 63), (97, 64)])
def test_odd_sizes(tmp_path, suffix, width, height):
    source = write_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format="bgr0", width=width, height=height)
    copy_clip(source, tmp_path / f"out.{suffix}")
    result = [frame.image for frame in VideoReader(tmp_path / f"out.{suffix}")]
    assert len(result) == 12
    assert result[0].shape == (height, width, 3)
    assert difference(result[5], gradient(5, width, height)) <= 12


def test_pixel_aspect_ratio_is_kept(tmp_path):
    source = tmp_path / "in.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 96, 64
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        frame = av.VideoFrame.from_ndarray(gradient(0, 96, 64), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    copy_clip(source, tmp_path / "out.mp4")
    assert VideoReader(tmp_path / "out.mp4").pixel_aspect == Fraction(16, 15)


@pytest.mark.filterwarnings("ignore:.*converted.*to opus")
def test_same_input_gives_the_same_file(tmp_path):
    source = write_clip(tmp_path / "in.mp4", audio_codec="aac")
    for suffix in ("mp4", "mkv", "webm"):
        copy_clip(source, tmp_path / f"a.{suffix}")
        copy_clip(source, tmp_path / f"b.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


# Errors


def test_an_exception_leaves_nothing_behind(tmp_path):
    source = write_clip(tmp_path / "in.mp4", audio_codec="aac")
    (tmp_path / "out.mp4").write_bytes(b"an earlier result")
    with (
        pytest.raises(RuntimeError, match="stop"),
        VideoReader(source) as reader,
        VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64) as writer,
    ):
        writer.write(gradient(0, 96, 64))
        assert (tmp_path / "out.mp4.part").is_dir()
        raise RuntimeError("stop")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"an earlier result"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes, which Windows lacks")
def test_full_disk_is_reported(tmp_path):
    import resource

    random = np.random.default_rng(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with (
            pytest.raises(OSError, match=r"out\.mp4 cannot be written: File too large"),
            VideoWriter(tmp_path / "out.mp4", width=128, height=128, frame_rate=25, preset="ultrafast") as writer,
        ):
            for _ in range(100):
                writer.write(random.integers(0, 256, (128, 128, 3), dtype=np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_error_is_raised_with_one_of_the_next_frames(tmp_path, monkeypatch):
    def encode(self, frames):
        next(iter(frames))
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(SegmentEncoder, "_encode", encode)
    with (
        pytest.raises(OSError, match=r"out\.mp4 cannot be written: No space left on device"),
        VideoWriter(tmp_path / "out.mp4", width=96, height=64, frame_rate=25) as writer,
    ):
        for index in range(20):
            writer.write(gradient(index, 96, 64))
    assert writer.num_written < 8  # not only at the end
    assert list(tmp_path.iterdir()) == []


def test_invalid_arguments(tmp_path):
    source = write_clip(tmp_path / "in.mp4")
    reader = VideoReader(source)
    for name, options, message in (
        ("out.avi", {}, r"must be one of \.mp4, \.mov, \.mkv, \.webm"),
        ("nowhere/out.mp4", {}, "does not exist; create it"),
        ("in.mp4", {"source": reader}, "is the source itself"),
        ("out.mp4", {"width": 0}, "must be positive"),
        ("out.mp4", {"frame_rate": None}, "frame_rate is needed"),
        ("out.mp4", {"frame_rate": -1}, "frame_rate must be positive"),
        ("out.mp4", {"crf": 52}, "crf must be from 0 to 51"),
        ("out.mp4", {"preset": "hasty"}, "preset must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            VideoWriter(tmp_path / name, **{"width": 96, "height": 64, "frame_rate": 25, **options})
    with (
        pytest.raises(ValueError, match="pts must increase"),
        VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64) as writer,
    ):
        with pytest.raises(ValueError, match=r"image must be uint8 of shape \(64, 96, 3\)"):
            writer.write(gradient(0, 95, 64))
        writer.write(gradient(0, 96, 64), 1024)
        writer.write(gradient(0, 96, 64), 1024)
    with (
        pytest.raises(ValueError, match="no frames were written"),
        VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


# Resuming (after a kill: see test_killed.py)


def write_frames(writer: VideoWriter, indices: range, state: dict | None = None) -> None:
    for index in indices:
        writer.write(gradient(index, 96, 64))
    if state is not None:
        writer.end_segment(state)


def begin(target: Path, **options) -> None:
    """Write eight frames of a video in two segments, then raise an exception."""
    with (
        pytest.raises(RuntimeError, match="power failure"),
        VideoWriter(target, **{"width": 96, "height": 64, "frame_rate": 25, **options}) as writer,
    ):
        write_frames(writer, range(5), {"name": "first", "tensor": torch.arange(3)})
        write_frames(writer, range(5, 8), {"name": "second", "deep": ([1.5, None], {"a": "b"})})
        write_frames(writer, range(8, 10))
        raise RuntimeError("power failure")


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_resumed_after_an_exception(tmp_path, suffix):
    target, whole = tmp_path / f"out.{suffix}", tmp_path / f"whole.{suffix}"
    size = {"width": 96, "height": 64, "frame_rate": 25}
    with VideoWriter(whole, **size) as writer:
        for segment in (range(5), range(5, 8), range(8, 12)):
            write_frames(writer, segment, {})
    begin(target)
    assert not target.exists()
    with VideoWriter(target, **size, resume=True) as writer:
        assert writer.resumed == {"name": "second", "deep": ([1.5, None], {"a": "b"})}
        assert writer.num_written == 8
        left = {path.name for path in (tmp_path / f"out.{suffix}.part").iterdir()}
        assert left == {"00000.packets", "00001.packets", "state.pt", "lock"}
        with pytest.raises(ValueError, match="pts must increase from frame to frame, got 7 after 7"):
            writer.write(gradient(8, 96, 64), 7)
        write_frames(writer, range(8, 12))
    assert target.read_bytes() == whole.read_bytes()
    assert len(times(target)) == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == [target.name, whole.name]


def test_left_unfinished(tmp_path):
    target, whole = tmp_path / "out.mp4", tmp_path / "whole.mp4"
    size = {"width": 96, "height": 64, "frame_rate": 25}
    with VideoWriter(whole, **size) as writer:
        write_frames(writer, range(5), {})
        write_frames(writer, range(5, 8))
    with VideoWriter(target, **size) as writer:
        write_frames(writer, range(5), {"name": "first"})
        writer.leave_unfinished()
    assert not target.exists()
    with VideoWriter(target, **size, resume=True) as writer:
        assert writer.resumed == {"name": "first"}
        write_frames(writer, range(5, 8))
    assert target.read_bytes() == whole.read_bytes()


def test_without_resume_earlier_work_is_deleted(tmp_path):
    begin(tmp_path / "out.mp4")
    with VideoWriter(tmp_path / "out.mp4", width=96, height=64, frame_rate=25) as writer:
        assert writer.resumed is None
        assert writer.num_written == 0
        assert [path.name for path in (tmp_path / "out.mp4.part").iterdir()] == ["lock"]
        write_frames(writer, range(3))
    assert len(times(tmp_path / "out.mp4")) == 3
    assert not (tmp_path / "out.mp4.part").exists()


def test_resume_without_earlier_work(tmp_path):
    with VideoWriter(tmp_path / "out.mp4", width=96, height=64, frame_rate=25, resume=True) as writer:
        assert writer.resumed is None
        write_frames(writer, range(3), {"last": True})
        writer.end_segment(None)  # only the state is new
    assert len(times(tmp_path / "out.mp4")) == 3


def test_resume_after_everything_was_written(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Muxer, "join", lambda *_: 1 / 0)
        with (
            pytest.raises(ZeroDivisionError),
            VideoWriter(tmp_path / "out.mp4", width=96, height=64, frame_rate=25) as writer,
        ):
            write_frames(writer, range(3), {"finished": True})
    with VideoWriter(tmp_path / "out.mp4", width=96, height=64, frame_rate=25, resume=True) as writer:
        assert writer.resumed == {"finished": True}
    assert len(times(tmp_path / "out.mp4")) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 98}, "width was 96 and is 98"),
        ({"crf": 20}, "crf was 16 and is 20"),
        ({"preset": "fast"}, "preset was medium and is fast"),
        ({"frame_rate": 30}, "frame rate was 25 and is 30"),
    ],
)
def test_a_job_with_other_settings_is_not_resumed(tmp_path, options, message):
    target = tmp_path / "out.mp4"
    begin(target)
    size = {"width": 96, "height": 64, "frame_rate": 25}
    with (
        pytest.raises(ValueError, match=message + ".* or start again without resume") as caught,
        VideoWriter(target, **size | options, resume=True),
    ):
        pass
    assert "\n" not in str(caught.value)
    with VideoWriter(target, **size, resume=True) as writer:  # the error has deleted nothing
        assert writer.num_written == 8
        write_frames(writer, range(8, 9))


def test_a_job_with_a_modified_source_is_not_resumed(tmp_path):
    source = write_clip(tmp_path / "in.mp4")
    begin(tmp_path / "out.mp4", source=VideoReader(source))
    write_clip(tmp_path / "in.mp4", num_frames=30)
    with (
        pytest.raises(ValueError, match=r"size of the source was \d+ and is \d+, modification time"),
        VideoWriter(tmp_path / "out.mp4", VideoReader(source), width=96, height=64, resume=True),
    ):
        pass


def test_damaged_work_is_reported(tmp_path):
    target, folder = tmp_path / "out.mp4", tmp_path / "out.mp4.part"
    begin(target)
    whole = (folder / "state.pt").read_bytes()
    for content in (b"", b"garbage", whole[: len(whole) // 2], whole[:-100] + b"0" * 100):
        (folder / "state.pt").write_bytes(content)
        with (
            pytest.raises(ValueError, match=r"state\.pt is damaged .*; start again without resume") as caught,
            VideoWriter(target, width=96, height=64, frame_rate=25, resume=True),
        ):
            pass
        assert "\n" not in str(caught.value)
    (folder / "state.pt").write_bytes(whole)
    (folder / "00001.packets").unlink()
    with (
        pytest.raises(ValueError, match=r"00001\.packets is missing; start again"),
        VideoWriter(target, width=96, height=64, frame_rate=25, resume=True),
    ):
        pass


def test_two_writers_of_the_same_file(tmp_path):
    options = {"width": 96, "height": 64, "frame_rate": 25}
    with VideoWriter(tmp_path / "out.mp4", **options) as writer:
        write_frames(writer, range(3))
        for resume in (False, True):
            with (
                pytest.raises(ValueError, match=r"out\.mp4 is being written by another process"),
                VideoWriter(tmp_path / "out.mp4", **options, resume=resume),
            ):
                pass
        write_frames(writer, range(3, 5))
    assert len(times(tmp_path / "out.mp4")) == 5


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real clips in ../shared are missing")
def test_real_clip_with_audio(tmp_path):
    source = SHARED / "media" / "lq" / "svfr_lq3.mp4"
    copy_clip(source, tmp_path / "out.mp4", preset="veryfast")
    assert times(tmp_path / "out.mp4") == times(source)
    assert packets(tmp_path / "out.mp4", "audio") == packets(source, "audio")
    for before, after in zip(VideoReader(source), VideoReader(tmp_path / "out.mp4"), strict=True):
        assert np.abs(before.image.astype(int) - after.image).mean() < 2


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "out.mp4.part").mkdir()
    (tmp_path / "out.mp4.part" / "thesis.txt").write_text("years of work")
    with (
        pytest.raises(ValueError, match=r"out\.mp4\.part .*holds files that this program has not written"),
        VideoWriter(tmp_path / "out.mp4", width=32, height=32, frame_rate=25),
    ):
        pass
    assert (tmp_path / "out.mp4.part" / "thesis.txt").read_text() == "years of work"


def test_state_of_another_version_is_not_resumed(tmp_path):
    target = tmp_path / "out.mp4"
    begin(target)
    state = torch.load(target.with_name("out.mp4.part") / "state.pt", weights_only=True)
    for part, message in ((state, r"state\.pt has version 0"), (state["content"], "VideoWriter has version 0")):
        version, part["version"] = part["version"], 0
        torch.save(state, target.with_name("out.mp4.part") / "state.pt")
        part["version"] = version
        with (
            pytest.raises(ValueError, match=message),
            VideoWriter(target, width=96, height=64, frame_rate=25, resume=True),
        ):
            pass
