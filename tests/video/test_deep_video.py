"""Videos with more than 8 bits per colour, read and written: codec, precision, HDR, and the options of the encoder."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy as np
import pytest

from deep_media import BT709, BT2020, HDR10, HLG, LIGHT_LEVEL, PQ, X265, decode, inspect, smooth_planes, write_deep
from keep_hf.video.image_folder import ImageFolderWriter
from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter
from media import copy_clip, packets, times, write_clip


CLIP = [smooth_planes(index, 96, 64) for index in range(9)]
LOSSLESS = {"x265-params": "lossless=1:log-level=error"}
KEPT = ("matrix", "primaries", "transfer", "range", "mastering display", "light level")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("codec", [None, "h264"])
@pytest.mark.parametrize(
    ("colour", "params"),
    [((9, BT2020, PQ, 1), HDR10), ((9, BT2020, HLG, 1), "log-level=error"), ((9, BT2020, HLG, 2), HDR10)],
)
def test_hdr_is_kept(tmp_path, suffix, codec, colour, params):
    source = write_deep(tmp_path / "in.mp4", CLIP, options={"x265-params": params}, colour=colour)
    copy_clip(source, tmp_path / f"out{suffix}", codec=codec)
    before, after = inspect(source), inspect(tmp_path / f"out{suffix}")
    assert before["transfer"] == colour[2]
    assert [after[name] for name in KEPT] == [before[name] for name in KEPT]
    assert (after["light level"] == [*LIGHT_LEVEL]) == (params == HDR10)
    assert after["profile"] == ("Main 10" if codec is None else "High 10")
    for a, b in zip(decode(source), decode(tmp_path / f"out{suffix}"), strict=True):
        assert np.abs(a[0].astype(int) - b[0]).mean() < 2


@pytest.mark.parametrize(
    ("codec", "pixel_format", "colour", "expected"),
    [
        ("libx265", "yuv420p10le", (1, 1, BT709, 1), ("hevc", "Main 10")),
        ("libx264", "yuv420p10le", (1, 1, BT709, 1), ("h264", "High 10")),
        ("libx264", "yuv422p10le", (1, 1, BT709, 2), ("h264", "High 10")),
        ("libx264", "yuv420p10le", (9, 9, PQ, 1), ("hevc", "Main 10")),
        ("libx265", "yuv420p12le", (1, 1, BT709, 1), ("hevc", "Main 10")),
        ("libx265", "yuv444p10le", (1, 1, BT709, 1), ("hevc", "Main 10")),
        ("prores_ks", "yuv422p10le", (1, 1, BT709, 1), ("hevc", "Main 10")),
        ("ffv1", "yuv420p10le", (1, 1, BT709, 2), ("hevc", "Main 10")),
        ("libsvtav1", "yuv420p10le", (1, 1, BT709, 1), ("hevc", "Main 10")),
        ("libx265", "yuv420p", (1, 1, BT709, 1), ("h264", "High")),
    ],
)
def test_the_source_decides_the_codec(tmp_path, codec, pixel_format, colour, expected):
    if pixel_format == "yuv420p":
        source = write_clip(tmp_path / "in.mkv", codec=codec)
    else:
        bits = int(pixel_format[7:-2])
        luma = [planes[0] << (bits - 10) for planes in CLIP]
        chroma = np.full(
            {"420": (32, 48), "422": (64, 48), "444": (64, 96)}[pixel_format[3:6]], 1 << (bits - 1), np.uint16
        )
        frames = [[plane, chroma, chroma] for plane in luma]
        # SVT-AV1 gives the thread that calls it a real-time priority, if it may, as root: here a thread that ends.
        with ThreadPoolExecutor(1) as pool:
            source = pool.submit(
                write_deep, tmp_path / "in.mkv", frames, codec=codec, pixel_format=pixel_format, colour=colour
            ).result()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy_clip(source, tmp_path / "out.mp4")
    found = inspect(tmp_path / "out.mp4")
    assert (found["codec"], found["profile"]) == expected
    kept = KEPT[1:] if pixel_format == "yuv420p" else KEPT  # an undeclared matrix is declared
    assert [found[name] for name in kept] == [inspect(source)[name] for name in kept]


def test_frames_come_to_the_encoder_without_any_change(tmp_path, monkeypatch):
    source = write_deep(tmp_path / "in.mp4", CLIP, options=LOSSLESS)
    with VideoReader(source) as reader, VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64) as writer:
        for frame in reader.read(deep=True):
            frame_of_encoder = writer._encoding.to_frame(frame.deep, frame.pts)
            expected = CLIP[writer.num_written]
            for plane, values in zip(frame_of_encoder.planes, expected, strict=True):
                rows = np.frombuffer(memoryview(plane), np.uint16).reshape(plane.height, -1)
                assert np.array_equal(rows[:, : plane.width], values)
            writer.write(frame.deep, frame.pts, frame.duration)
    assert len(np.unique(decode(tmp_path / "out.mp4")[0][0])) > 256


def test_rgb_frames_can_be_written_as_10_bits(tmp_path):
    for transfer in (BT709, PQ):
        source = write_deep(tmp_path / "in.mp4", CLIP, options=LOSSLESS, colour=(9, 9, transfer, 1))
        with VideoReader(source) as reader, VideoWriter(tmp_path / "out.mkv", reader, width=96, height=64) as writer:
            for frame in reader:
                assert frame.deep is None
                writer.write(frame.image, frame.pts, frame.duration)
        (luma, *_), (written, *_) = CLIP[3], decode(tmp_path / "out.mkv")[3]
        assert np.abs(luma.astype(int) - written).mean() < 4


def test_times_sound_and_rotation_are_kept(tmp_path):
    pts = [0, 33, 71, 100, 140, 180, 181, 250, 300]
    options = {"pts": pts, "time_base": Fraction(1, 1000), "rotation": 90, "audio": True}
    source = write_deep(tmp_path / "in.mov", CLIP, options=LOSSLESS, **options)
    copy_clip(source, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == times(source) == [Fraction(value, 1000) for value in pts]
    assert packets(tmp_path / "out.mp4", "audio") == packets(source, "audio")
    result = VideoReader(tmp_path / "out.mp4")
    assert (result.width, result.height, result.rotation) == (64, 96, 0)
    assert np.abs(decode(tmp_path / "out.mp4")[4][0] - np.rot90(CLIP[4][0]).astype(int)).mean() < 2


def test_sources_of_8_bits_give_the_same_file_as_before(tmp_path):
    """The file that the explicit settings of 8 bits give: what the package wrote before it knew 10 bits."""
    source = write_clip(tmp_path / "in.mp4", audio_codec="aac")
    copy_clip(source, tmp_path / "out.mp4")
    copy_clip(source, tmp_path / "again.mp4", codec="h264", crf=16, preset="medium", bits=8)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()
    found = inspect(tmp_path / "out.mp4")
    assert (found["codec"], found["pixel format"]) == ("h264", "yuv420p")


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_equal_frames_are_encoded_equally_and_segments_join(tmp_path, codec):
    source = write_deep(tmp_path / "in.mp4", [smooth_planes(index, 96, 64) for index in range(40)])
    for name in ("out.mp4", "again.mp4"):
        with (
            VideoReader(source) as reader,
            VideoWriter(tmp_path / name, reader, width=96, height=64, codec=codec) as writer,
        ):
            for frame in reader.read(deep=True):
                writer.write(frame.deep, frame.pts, frame.duration)
                if writer.num_written in (3, 20):
                    writer.end_segment(None)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()
    assert times(tmp_path / "out.mp4") == times(source)
    for before, after in zip(decode(source), decode(tmp_path / "out.mp4"), strict=True):
        assert np.abs(before[0].astype(int) - after[0]).mean() < 2


def test_another_codec_is_another_job(tmp_path):
    source = write_deep(tmp_path / "in.mp4", CLIP)
    with VideoReader(source) as reader:
        with pytest.raises(KeyError), VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64) as writer:
            frame = next(reader.read(deep=True))
            writer.write(frame.deep, frame.pts, frame.duration)
            writer.end_segment(None)
            raise KeyError
        for options, message in (
            ({"codec": "h264"}, "encoder was libx265 and is libx264"),
            ({"bits": 8, "codec": "hevc"}, "pixel format was yuv420p10le and is yuv420p"),
            ({"crf": 20}, "crf was 16 and is 20"),
            ({"preset": "fast"}, "preset was medium and is fast"),
        ):
            with (
                pytest.raises(ValueError, match=message),
                VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64, resume=True, **options),
            ):
                pass


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("out.mp4", {"codec": "prores"}, "codec must be one of h264, hevc, vp9, got 'prores'"),
        ("out.mp4", {"codec": "vp9"}, r"out\.mp4 can be written with the codec h264 or hevc, not vp9"),
        ("out.webm", {"codec": "hevc"}, r"out\.webm can be written with the codec vp9, not hevc"),
        ("out.webm", {"preset": "fast"}, r"VP9, which has no presets; leave out preset='fast'"),
        ("out.webm", {"bits": 10}, r"8 bits per colour only; for 10, write \.mp4"),
        ("out.mp4", {"bits": 12}, "bits must be 8 or 10, got 12"),
        ("out.mp4", {"crf": -1}, "crf must be from 0 to 51, got -1"),
        ("out.mp4", {"preset": "hasty"}, "preset must be one of"),
    ],
)
def test_options_that_do_not_fit_are_rejected(tmp_path, name, options, message):
    with pytest.raises(ValueError, match=message):
        VideoWriter(tmp_path / name, width=96, height=64, frame_rate=25, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_encoder_is_named(tmp_path, monkeypatch):
    reader = VideoReader(write_deep(tmp_path / "in.mp4", CLIP))
    available = av.codecs_available - {"libx265"}
    monkeypatch.setattr("keep_hf.video.segments.output_format.av.codecs_available", available)
    with pytest.raises(
        ValueError, match=r"cannot encode yuv420p10le with libx265, which hevc needs; pass codec='h264'"
    ):
        VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64)
    VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64, codec="h264")


@pytest.mark.parametrize(("transfer", "lost"), [(BT709, "Write"), (PQ, "its HDR is mapped to the standard range")])
def test_webm_and_images_have_8_bits_with_a_warning(tmp_path, transfer, lost):
    reader = VideoReader(write_deep(tmp_path / "in.mp4", CLIP, colour=(9, 9, transfer, 1)))
    with pytest.warns(UserWarning, match=f"has 10 bits per colour; .*out.webm has 8.*{lost}"):
        writer = VideoWriter(tmp_path / "out.webm", reader, width=96, height=64)
    with writer:
        for frame in reader.read(deep=writer.bits > 8):
            writer.write(frame.image, frame.pts, frame.duration)
    found = inspect(tmp_path / "out.webm")
    assert found["transfer"] == BT709
    assert (
        np.abs(next(iter(VideoReader(tmp_path / "out.webm"))).image.astype(int) - next(iter(reader)).image).mean() < 3
    )
    with pytest.warns(UserWarning, match="has 10 bits per colour; .*images has 8"):
        ImageFolderWriter(tmp_path / "images", reader, width=96, height=64)


def test_hevc_for_8_bits(tmp_path):
    copy_clip(write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", codec="hevc")
    found = inspect(tmp_path / "out.mp4")
    assert (found["profile"], found["pixel format"], found["tag"]) == ("Main", "yuv420p", "hvc1")


def test_8_bits_can_be_asked_for(tmp_path):
    source = write_deep(tmp_path / "in.mp4", CLIP, colour=(9, 9, PQ, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy_clip(source, tmp_path / "out.mp4", bits=8)
    found = inspect(tmp_path / "out.mp4")
    assert (found["codec"], found["pixel format"], found["transfer"]) == ("h264", "yuv420p", BT709)


def test_odd_sides_are_kept(tmp_path):
    source = write_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format="yuv444p10le", width=97, height=63)
    copy_clip(source, tmp_path / "out.mp4")
    assert inspect(tmp_path / "out.mp4")["pixel format"] == "yuv444p10le"
    assert VideoReader(tmp_path / "out.mp4").width == 97


def test_frames_of_the_wrong_kind_are_rejected(tmp_path):
    reader = VideoReader(write_deep(tmp_path / "in.mp4", CLIP, options=X265))
    frame = next(reader.read(deep=True))
    for options in ({"width": 96, "height": 64, "bits": 8}, {"width": 192, "height": 128}):
        with (
            pytest.raises(ValueError, match="got a frame of 10 bits and 96 x 64 pixels"),
            VideoWriter(tmp_path / "out.mp4", reader, **options) as writer,
        ):
            writer.write(frame.deep)


def test_frames_of_another_size_are_fitted_into_the_first(tmp_path):
    first = write_clip(tmp_path / "first.h264", pixel_format="yuv420p10le", num_frames=3)
    second = write_clip(tmp_path / "second.h264", pixel_format="yuv420p10le", num_frames=3, width=128, height=96)
    (tmp_path / "in.h264").write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.warns(UserWarning, match="frame size changes"):
        copy_clip(tmp_path / "in.h264", tmp_path / "out.mp4")
    assert inspect(tmp_path / "out.mp4")["profile"] == "High 10"
    written = [frame.image for frame in VideoReader(tmp_path / "out.mp4")]
    assert [image.shape for image in written] == [(64, 96, 3)] * 6
    assert np.abs(written[4][32, 48].astype(int) - written[1][32, 48]).max() < 8
