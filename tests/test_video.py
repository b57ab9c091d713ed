"""Videos in and out: frames, times, colours, sound and what happens when something is wrong."""

import sys
import warnings
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media import gradient, packets, write_clip

from keep_hf.video import VideoReader, VideoWriter


SHARED = Path(__file__).resolve().parents[2] / "shared"


def copy(source: Path, target: Path, **options) -> list[np.ndarray]:
    """Read and write all frames, as a restoration that changes nothing would."""
    images = []
    with (
        VideoReader(source) as reader,
        VideoWriter(target, reader, width=reader.width, height=reader.height, **options) as writer,
    ):
        for frame in reader:
            images.append(frame.image)
            writer.write(frame.image, frame.pts, frame.duration)
    return images


def times(path: Path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in VideoReader(path)]


def end(path: Path) -> Fraction:
    *_, last = VideoReader(path)
    return (last.pts + last.duration) * last.time_base


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


# Times


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25)])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_rate_count_times_and_duration_survive(tmp_path, rate, suffix):
    source = write_clip(tmp_path / "in.mp4", frame_rate=rate, num_frames=40)
    copy(source, tmp_path / f"out.{suffix}")
    reader = VideoReader(tmp_path / f"out.{suffix}")
    assert reader.frame_rate == rate
    assert reader.num_frames == 40
    assert times(tmp_path / f"out.{suffix}") == times(source) == [index / rate for index in range(40)]
    assert end(tmp_path / f"out.{suffix}") == end(source) == 40 / rate


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_matroska_rounds_to_milliseconds(tmp_path, suffix):
    source = write_clip(tmp_path / "in.mp4", frame_rate=Fraction(30000, 1001), audio_codec="aac", num_frames=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # webm cannot hold AAC
        copy(source, tmp_path / f"out.{suffix}")
    assert VideoReader(tmp_path / f"out.{suffix}").frame_rate == Fraction(30000, 1001)
    before, after = times(source), times(tmp_path / f"out.{suffix}")
    assert all(abs(a - b) <= Fraction(1, 2000) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_rate(tmp_path, suffix):
    pts = [0, 40, 100, 101, 140, 400, 433, 500]
    source = write_clip(tmp_path / "in.mkv", num_frames=8, pts=pts, time_base=Fraction(1, 1000))
    copy(source, tmp_path / f"out.{suffix}")
    assert times(tmp_path / f"out.{suffix}") == times(source) == [Fraction(p, 1000) for p in pts]


def test_one_frame(tmp_path):
    source = write_clip(tmp_path / "in.mp4", num_frames=1)
    copy(source, tmp_path / "out.mp4")
    assert end(tmp_path / "out.mp4") == end(source) == Fraction(1, 25)


@pytest.mark.parametrize(("name", "container_format"), [("in.avi", None), ("in.h264", "h264")])
def test_formats_without_presentation_times(tmp_path, name, container_format):
    # H.264 with B-frames in AVI: the file's own numbers are in decoding order.
    source = write_clip(tmp_path / name, frame_rate=Fraction(30000, 1001), container_format=container_format)
    assert times(source) == [index * Fraction(1001, 30000) for index in range(12)]


def test_broadcast_clock_starts_at_zero_with_its_sound(tmp_path):
    source = write_clip(tmp_path / "in.ts", audio_codec="aac", num_frames=25)
    with av.open(str(source)) as container:
        start = Fraction(container.start_time, av.time_base)
        first_picture = next(container.decode(video=0))
        delay = first_picture.pts * first_picture.time_base - start
    assert start > 0
    copy(source, tmp_path / "out.mp4")
    assert times(source)[0] == pytest.approx(delay, abs=1e-4)
    assert times(tmp_path / "out.mp4") == times(source)
    # As ADTS the packets had headers of 7 bytes, which MP4 has no use for.
    before, after = packets(source, "audio"), packets(tmp_path / "out.mp4", "audio")
    assert [content[7:] for _, content in before] == [content for _, content in after]
    assert all(abs(a - start - b) < Fraction(1, 10_000) for (a, _), (b, _) in zip(before, after, strict=True))


def test_writer_without_source_counts_frames(tmp_path):
    with VideoWriter(tmp_path / "out.mp4", width=96, height=64, frame_rate=29.97) as writer:
        for index in range(5):
            writer.write(gradient(index, 96, 64))
    assert times(tmp_path / "out.mp4") == [index / Fraction(2997, 100) for index in range(5)]


# Pictures


def test_reader_can_be_iterated_again_and_left_early(tmp_path):
    with VideoReader(write_clip(tmp_path / "in.mp4")) as reader:
        first = [frame.image for frame in reader]
        for _ in reader:
            break
        second = [frame.image for frame in reader]
    assert len(first) == 12
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert difference(first[3], gradient(3, 96, 64)) <= 6


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("colour_range", [1, 2])
@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_colour_chart(tmp_path, matrix, colour_range, suffix):
    patches = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 120, 90)]
    chart = np.repeat(np.array(patches, np.uint8), 16, axis=0)[None].repeat(32, axis=0)
    source = write_clip(tmp_path / "in.mp4", images=[chart] * 3, colour=(matrix, colour_range))
    (read, *_) = copy(source, tmp_path / f"out.{suffix}", crf=4)
    assert difference(read[8::16, 8::16], chart[8::16, 8::16]) <= 3
    for frame in VideoReader(tmp_path / f"out.{suffix}"):
        assert difference(frame.image[8::16, 8::16], read[8::16, 8::16]) <= 3


def test_enlarging_keeps_the_meaning_of_the_colours(tmp_path):
    # Unlabelled small video is BT.601 to a player, unlabelled large video is BT.709.
    red = np.full((64, 96, 3), (200, 30, 40), np.uint8)
    source = write_clip(tmp_path / "in.mp4", images=[red] * 2)
    with (
        VideoReader(source) as reader,
        VideoWriter(tmp_path / "out.mp4", reader, width=1536, height=1024, preset="ultrafast") as writer,
    ):
        for frame in reader:
            writer.write(cv2.resize(frame.image, (1536, 1024)), frame.pts)
    assert difference(next(iter(VideoReader(tmp_path / "out.mp4"))).image, np.full((1024, 1536, 3), red[0, 0])) <= 3


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("ten_bit.mkv", "libx264", "yuv420p10le"),
        ("four_four_four.mp4", "libx264", "yuv444p"),
        ("motion_jpeg.avi", "mjpeg", "yuvj420p"),
        ("rgb.mkv", "ffv1", "bgr0"),
        ("mpeg2.mpg", "mpeg2video", "yuv420p"),
    ],
)
def test_pixel_formats(tmp_path, name, codec, pixel_format):
    source = write_clip(tmp_path / name, codec=codec, pixel_format=pixel_format)
    images = copy(source, tmp_path / "out.mp4", crf=4)
    result = [frame.image for frame in VideoReader(tmp_path / "out.mp4")]
    assert len(images) == len(result) == 12
    for index in range(12):
        expected = gradient(index, 96, 64)
        assert images[index].dtype == np.uint8
        assert np.abs(images[index].astype(int) - expected).mean() < 2.5
        assert np.abs(result[index].astype(int) - images[index]).mean() < 1.5


@pytest.mark.parametrize("colour", [None, (6, 1), (6, 2)])
def test_grey(tmp_path, colour):
    grey = np.repeat(gradient(0, 96, 64)[..., :1], 3, axis=2)
    grey[:8, :8], grey[:8, 8:16] = 0, 255
    # The numbers of a grey picture go into the file as they are.
    stored = np.rint(16 + grey * (219 / 255)).astype(np.uint8) if colour == (6, 1) else grey
    source = write_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format="gray", images=[stored] * 2, colour=colour)
    read = copy(source, tmp_path / "out.mp4", crf=4)[0]
    assert np.array_equal(read[..., 0], read[..., 1])
    assert difference(read, grey) <= 1
    result = next(iter(VideoReader(tmp_path / "out.mp4"))).image
    assert np.abs(result.astype(int) - grey).mean() < 1.5


def test_transparency_is_ignored_with_a_warning(tmp_path):
    source = write_clip(tmp_path / "in.mov", codec="qtrle", pixel_format="argb")
    with pytest.warns(UserWarning, match="transparency"):
        reader = VideoReader(source)
    assert difference(next(iter(reader)).image, gradient(0, 96, 64)) == 0


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_rotation_is_applied_once(tmp_path, rotation, turns):
    source = write_clip(tmp_path / "in.mp4", rotation=rotation)
    upright = np.rot90(gradient(0, 96, 64), turns)
    with VideoReader(source) as reader:
        assert abs(reader.rotation) == abs(rotation)
        assert (reader.height, reader.width) == upright.shape[:2]
    copy(source, tmp_path / "out.mp4")
    result = VideoReader(tmp_path / "out.mp4")
    assert result.rotation == 0
    for path in (source, tmp_path / "out.mp4"):
        assert np.abs(next(iter(VideoReader(path))).image.astype(int) - upright).mean() < 3


def test_mirrored(tmp_path):
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 96, 64
        stream.set_display_rotation(0, hflip=True)
        picture = av.VideoFrame.from_ndarray(gradient(0, 96, 64), format="rgb24")
        container.mux([*stream.encode(picture), *stream.encode(None)])
    assert np.abs(next(iter(VideoReader(path))).image.astype(int) - gradient(0, 96, 64)[:, ::-1]).mean() < 3


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize(("width", "height"), [(97, 63), (96, 63), (97, 64)])
def test_odd_sizes(tmp_path, suffix, width, height):
    source = write_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format="bgr0", width=width, height=height)
    copy(source, tmp_path / f"out.{suffix}")
    result = [frame.image for frame in VideoReader(tmp_path / f"out.{suffix}")]
    assert len(result) == 12
    assert result[0].shape == (height, width, 3)
    assert difference(result[5], gradient(5, width, height)) <= 12


def test_pixels_that_are_not_square_stay_so(tmp_path):
    source = tmp_path / "in.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 96, 64
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        picture = av.VideoFrame.from_ndarray(gradient(0, 96, 64), format="rgb24")
        container.mux([*stream.encode(picture), *stream.encode(None)])
    copy(source, tmp_path / "out.mp4")
    assert VideoReader(tmp_path / "out.mp4").pixel_aspect == Fraction(16, 15)


# Everything that is not pictures


@pytest.mark.parametrize(
    ("source_name", "audio_codec", "suffix"),
    [("in.mp4", "aac", "mp4"), ("in.mp4", "aac", "mkv"), ("in.mkv", "flac", "mp4"), ("in.mkv", "libopus", "webm")],
)
def test_sound_is_copied_byte_for_byte(tmp_path, source_name, audio_codec, suffix):
    source = write_clip(tmp_path / source_name, audio_codec=audio_codec, num_frames=50)
    assert VideoReader(source).has_audio
    copy(source, tmp_path / f"out.{suffix}")
    before, after = packets(source, "audio"), packets(tmp_path / f"out.{suffix}", "audio")
    assert [content for _, content in before] == [content for _, content in after]
    assert all(abs(a - b) <= Fraction(1, 1000) for (a, _), (b, _) in zip(before, after, strict=True))


def test_sound_that_does_not_fit_is_named(tmp_path):
    source = write_clip(tmp_path / "in.mp4", audio_codec="aac")
    with pytest.warns(UserWarning, match=r"out\.webm does not get stream 1 \(audio, aac\)"):
        copy(source, tmp_path / "out.webm")
    assert not VideoReader(tmp_path / "out.webm").has_audio
    assert len(times(tmp_path / "out.webm")) == 12


def test_sound_lies_beside_its_pictures_in_the_file(tmp_path):
    source = write_clip(tmp_path / "in.mp4", audio_codec="aac", num_frames=500, width=32, height=32)
    copy(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        order = [(packet.stream.type, packet.pts * packet.time_base) for packet in container.demux() if packet.size]
    latest = {"video": Fraction(0), "audio": Fraction(0)}
    for kind, time in order:
        latest[kind] = max(latest[kind], time)
        assert abs(latest["video"] - latest["audio"]) < 1


def test_subtitles_metadata_and_chapters(tmp_path):
    plain = write_clip(tmp_path / "plain.mkv", num_frames=50)
    (tmp_path / "lines.srt").write_text("1\n00:00:00,200 --> 00:00:01,000\nGood evening\n")
    source = tmp_path / "in.mkv"
    with (
        av.open(str(plain)) as pictures,
        av.open(str(tmp_path / "lines.srt")) as lines,
        av.open(str(source), "w") as container,
    ):
        container.metadata["title"] = "A film"
        container.set_chapters(
            [{"id": 1, "start": 0, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}]
        )
        copies = [container.add_stream_from_template(part.streams[0], opaque=True) for part in (pictures, lines)]
        for stream in copies:
            stream.metadata["language"] = "dan"
        for part, stream in zip((pictures, lines), copies, strict=True):
            for packet in part.demux():
                if packet.size:
                    packet.stream = stream
                    container.mux(packet)
    copy(source, tmp_path / "out.mkv")
    assert packets(source, "subtitle") == packets(tmp_path / "out.mkv", "subtitle")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert {stream.metadata["language"] for stream in container.streams} == {"dan"}
        assert container.metadata["title"] == "A film"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["One"]
    with pytest.warns(UserWarning, match=r"stream 1 \(subtitle, subrip\)"):
        copy(source, tmp_path / "out.mp4")


def test_same_input_gives_the_same_file(tmp_path):
    source = write_clip(tmp_path / "in.mp4", audio_codec="aac")
    for suffix in ("mp4", "mkv"):
        copy(source, tmp_path / f"a.{suffix}")
        copy(source, tmp_path / f"b.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


# When something is wrong


def test_an_exception_leaves_nothing_behind(tmp_path):
    source = write_clip(tmp_path / "in.mp4", audio_codec="aac")
    (tmp_path / "out.mp4").write_bytes(b"an earlier result")
    with (
        pytest.raises(RuntimeError, match="stop"),
        VideoReader(source) as reader,
        VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64) as writer,
    ):
        writer.write(gradient(0, 96, 64))
        assert (tmp_path / "out.part.mp4").exists()
        raise RuntimeError("stop")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"an earlier result"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes, which Windows lacks")
def test_full_disk_is_one_clear_line(tmp_path):
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


def test_inputs_that_are_not_videos(tmp_path):
    cv2.imwrite(str(tmp_path / "picture.jpg"), np.zeros((64, 64, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("Dear diary\n" * 50)
    (tmp_path / "notes.mp4").write_text("Dear diary\n" * 50)
    (tmp_path / "empty.mp4").touch()
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="stereo")
        samples.sample_rate = 48000
        container.mux([*stream.encode(samples), *stream.encode(None)])
    for name, message in (
        ("missing.mp4", "does not exist"),
        (".", "is a folder"),
        ("empty.mp4", "is empty"),
        ("notes.txt", "is not a video"),
        ("notes.mp4", "is not a video"),
        ("picture.jpg", "is not a video"),
        ("picture.png", "is not a video"),
        ("sound.wav", "has no video stream"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            VideoReader(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_cut_files(tmp_path):
    # Without its index at the end an MP4 cannot be read; with it in front, or in Matroska, it just ends early.
    source = write_clip(tmp_path / "in.mp4", num_frames=60)
    (tmp_path / "cut.mp4").write_bytes(source.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"cut\.mp4 is not a video, or is cut off or damaged"):
        VideoReader(tmp_path / "cut.mp4")
    source = write_clip(tmp_path / "in.mkv", num_frames=60)
    content = source.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    assert 10 < len(times(tmp_path / "cut.mkv")) < 50


def test_damaged_frame_is_named(tmp_path):
    source = write_clip(tmp_path / "in.mkv", codec="mjpeg", pixel_format="yuvj420p")
    damaged = tmp_path / "damaged.mkv"
    with av.open(str(source)) as whole, av.open(str(damaged), "w") as container:
        stream = container.add_stream_from_template(whole.streams[0], opaque=True)
        for index, packet in enumerate(packet for packet in whole.demux() if packet.size):
            rubbish = av.Packet(b"rubbish" * 20 if index == 9 else bytes(packet))
            rubbish.pts, rubbish.dts, rubbish.time_base = packet.pts, packet.dts, packet.time_base
            rubbish.stream = stream
            container.mux(rubbish)
    seen = 0
    with pytest.raises(ValueError, match=r"damaged\.mkv: frame 9 cannot be decoded"):
        for _ in VideoReader(damaged):
            seen += 1
    assert seen == 9


def test_video_without_frames(tmp_path):
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 96, 64
        container.start_encoding()
    with pytest.raises(ValueError, match=r"in\.mkv"):
        VideoReader(tmp_path / "in.mkv")


def test_output_arguments(tmp_path):
    source = write_clip(tmp_path / "in.mp4")
    reader = VideoReader(source)
    for name, options, message in (
        ("out.avi", {}, r"must be one of \.mp4, \.mov, \.mkv, \.webm"),
        ("nowhere/out.mp4", {}, "does not exist; create it"),
        ("in.mp4", {"like": reader}, "is the source itself"),
        ("out.mp4", {"width": 0}, "must be positive"),
        ("out.mp4", {"frame_rate": None}, "frame_rate is needed"),
        ("out.mp4", {"frame_rate": -1}, "frame_rate must be positive"),
        ("out.mp4", {"crf": 52}, "crf must be from 0 to 51"),
        ("out.mp4", {"preset": "hasty"}, "preset must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            VideoWriter(tmp_path / name, **{"width": 96, "height": 64, "frame_rate": 25, **options})
    with (
        pytest.raises(ValueError, match="pts must grow"),
        VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64) as writer,
    ):
        with pytest.raises(ValueError, match=r"image must be uint8 of shape \(64, 96, 3\)"):
            writer.write(gradient(0, 95, 64))
        writer.write(gradient(0, 96, 64), 1024)
        writer.write(gradient(0, 96, 64), 1024)
    with (
        pytest.raises(ValueError, match="no frame was written"),
        VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real clips of ../shared are not here")
def test_real_clip_with_sound(tmp_path):
    source = SHARED / "media" / "lq" / "svfr_lq3.mp4"
    copy(source, tmp_path / "out.mp4", preset="veryfast")
    assert times(tmp_path / "out.mp4") == times(source)
    assert packets(tmp_path / "out.mp4", "audio") == packets(source, "audio")
    for before, after in zip(VideoReader(source), VideoReader(tmp_path / "out.mp4"), strict=True):
        assert np.abs(before.image.astype(int) - after.image).mean() < 2
