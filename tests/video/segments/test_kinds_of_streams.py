"""Streams of many kinds: kept where the container accepts them, otherwise left out with a warning that names them."""

import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from keep_hf.video.reader import VideoReader
from media import copy_clip, gradient, packets, times, write_clip, write_two_videos


def copy_streams(source: Path, output: av.container.OutputContainer, types: Sequence[str]) -> None:
    with av.open(str(source)) as container:
        chosen = [stream for stream in container.streams if stream.type in types]
        targets = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in chosen}
        for packet in container.demux(chosen):
            if packet.size:
                packet.stream = targets[packet.stream.index]
                output.mux(packet)


def write_extra(path: Path, codec: str, count: int = 4) -> Path:
    """A clip with a stream of packets that nothing decodes."""
    clip = write_clip(path.with_name("clip.mkv"), num_frames=12, audio_codec="aac")
    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
        targets = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        is_data = codec in ("klv", "timed_id3", "bin_data")
        extra = output.add_data_stream(codec) if is_data else output.add_mux_stream(codec)
        for packet in source.demux():
            if packet.size:
                packet.stream = targets[packet.stream.index]
                output.mux(packet)
        for number in range(count):
            packet = av.Packet(f"packet {number}".encode())
            packet.pts = packet.dts = 100 * number
            packet.duration, packet.time_base, packet.stream = 80, Fraction(1, 1000), extra
            output.mux(packet)
    return path


def run(source: Path, target: Path, **options) -> str:
    """Copy a clip; returns the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        copy_clip(source, target, **options)
    return " ".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("codec", "name", "suffix", "is_kept"),
    [
        ("hdmv_pgs_subtitle", "in.mkv", "mkv", True),
        ("hdmv_pgs_subtitle", "in.mkv", "mp4", False),
        ("dvd_subtitle", "in.mkv", "mkv", True),
        ("dvd_subtitle", "in.mkv", "mp4", True),
        ("dvb_subtitle", "in.mkv", "mkv", True),
        ("dvb_subtitle", "in.mkv", "webm", False),
        ("bin_data", "in.mp4", "mp4", True),
        ("bin_data", "in.mp4", "mkv", False),
        ("klv", "in.ts", "mov", True),
        ("klv", "in.ts", "mp4", False),
        ("timed_id3", "in.ts", "mp4", False),  # its muxer accepts it and does not write it
    ],
)
def test_bitmap_subtitles_and_data(tmp_path, codec, name, suffix, is_kept):
    source, target = write_extra(tmp_path / name, codec), tmp_path / f"out.{suffix}"
    messages = run(source, target)
    kind = "subtitle" if "subtitle" in codec else "data"
    assert (f"does not include stream 2 ({kind}" in messages) == (not is_kept)
    if is_kept:
        origin = VideoReader(source).start
        expected = [(time - origin, content) for time, content in packets(source, kind)]
        found = packets(target, kind)
        assert [content for _, content in found] == [content for _, content in expected]
        assert all(abs(a - b) < 0.002 for (a, _), (b, _) in zip(found, expected, strict=True))
    else:
        with av.open(str(target)) as container:
            assert {stream.type for stream in container.streams} == {"video", "audio"}


@pytest.mark.parametrize(("default", "width"), [(0, 96), (1, 48), (None, 96)])
def test_the_default_video_stream_is_read(tmp_path, default, width):
    assert VideoReader(write_two_videos(tmp_path / "in.mkv", default)).width == width


def test_another_video_stream_is_read(tmp_path):
    source = write_two_videos(tmp_path / "in.mkv", 0)
    with av.open(str(source)) as container:
        indices = [stream.index for stream in container.streams.video]
        (audio,) = [stream.index for stream in container.streams.audio]
    assert [VideoReader(source, stream=index).width for index in indices] == [96, 48]
    with pytest.raises(ValueError, match=f"no video stream {audio}; choose one of {indices[0]}, {indices[1]}"):
        VideoReader(source, stream=audio)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
@pytest.mark.parametrize("default", [0, 1])
def test_further_video_streams(tmp_path, suffix, default):
    source, target = write_two_videos(tmp_path / "in.mkv", default), tmp_path / f"out.{suffix}"
    messages = run(source, target)
    other = VideoReader(source, stream=2 if default == 0 else 0)
    with av.open(str(target)) as container:
        widths = [stream.width for stream in container.streams.video]
        marked = [bool(stream.disposition & Disposition.default) for stream in container.streams.video]
    if suffix == "webm":
        assert f"does not include stream {other.stream} (video, h264)" in messages
        assert widths == [VideoReader(source).width]
        return
    assert "video" not in messages
    assert widths == [VideoReader(source).width, other.width]
    assert marked == [True, False]
    with av.open(str(target)) as container:
        copied = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=1)]
    assert all(np.array_equal(a, b.image) or np.abs(a.astype(int) - b.image).mean() < 3
               for a, b in zip(copied, other, strict=True))  # fmt: skip


def write_cover(path: Path, codec: str) -> Path:
    clip = write_clip(path.with_name("clip.mkv"), num_frames=10, audio_codec="aac")
    image = av.VideoFrame.from_ndarray(gradient(0, 32, 32), format="rgb24")
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.time_base = 32, 32, Fraction(1, 25)
    context.pix_fmt = "rgb24" if codec == "png" else "yuvj420p"
    image = image.reformat(format=context.pix_fmt)
    image.pts = 0
    (packet,) = [*context.encode(image), *context.encode(None)]
    with av.open(str(path), "w") as output:
        if path.suffix == ".mkv":
            kind = "png" if codec == "png" else "jpeg"
            output.add_attachment(f"cover.{kind}", f"image/{kind}", bytes(packet))
            output.add_attachment("font.ttf", "application/x-truetype-font", b"a font")
        else:
            stream = output.add_mux_stream(codec, width=32, height=32)
            stream.disposition = Disposition.attached_pic
        copy_streams(clip, output, ("video", "audio"))
        if path.suffix != ".mkv":
            packet.stream, packet.pts, packet.dts = stream, 0, 0
            output.mux(packet)
    return path


def covers(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams.video if stream.disposition & Disposition.attached_pic]
        return [bytes(packet) for packet in container.demux(streams) if packet.size] if streams else []


@pytest.mark.parametrize("codec", ["png", "mjpeg"])
@pytest.mark.parametrize("source_name", ["in.mp4", "in.mkv"])
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_cover_images_and_attachments(tmp_path, source_name, codec, suffix):
    source, target = write_cover(tmp_path / source_name, codec), tmp_path / f"out.{suffix}"
    (cover,) = covers(source)
    messages = run(source, target)
    is_kept = suffix in ("mp4", "mkv")
    assert covers(target) == [cover] * is_kept
    assert ("(cover image" in messages) == (not is_kept)
    if source_name == "in.mkv":
        with av.open(str(target)) as container:
            attached = [stream.data for stream in container.streams if stream.type == "attachment"]
        assert attached == [b"a font"] * (suffix == "mkv")
        assert ("(attachment, font.ttf)" in messages) == (suffix != "mkv")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
@pytest.mark.parametrize("timecode", ["01:00:00:00", "10:20:30;02"])
@pytest.mark.filterwarnings("ignore:.*converted")
def test_timecode(tmp_path, suffix, timecode):
    rate = Fraction(30000, 1001) if ";" in timecode else 25
    clip = write_clip(tmp_path / "clip.mkv", num_frames=10, frame_rate=rate)
    source, target = tmp_path / "in.mov", tmp_path / f"out.{suffix}"
    with av.open(str(source), "w") as output:
        output.metadata["timecode"] = timecode
        copy_streams(clip, output, ("video",))
    assert not run(source, target)
    with av.open(str(target)) as container:
        found = {key.lower(): value for key, value in container.streams.video[0].metadata.items()}
    assert found["timecode"] == timecode


@pytest.mark.filterwarnings("ignore:.*timecode")
def test_a_timecode_that_does_not_fit_the_frame_rate(tmp_path):
    source = write_clip(tmp_path / "in.mkv", num_frames=10, frame_rate=25, metadata={"timecode": "not a time"})
    copy_clip(source, tmp_path / "out.mp4")
    assert len(times(tmp_path / "out.mp4")) == 10


def test_a_rotation_that_is_not_a_quarter_turn(tmp_path):
    source = write_clip(tmp_path / "in.mp4", num_frames=10, rotation=45)
    with pytest.warns(UserWarning, match="in.mp4 is to be rotated by -?45 degrees"):
        VideoReader(source)


@pytest.mark.parametrize("codec", ["wmav1", "wmav2"])
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_windows_media_sound(tmp_path, codec, suffix):
    """The last frame of the decoder has no time."""
    source = write_clip(tmp_path / "in.wmv", num_frames=25, codec="wmv2", audio_codec=codec)
    target = tmp_path / f"out.{suffix}"
    assert "converted: stream 1" in run(source, target)
    assert abs(packets(target, "audio")[-1][0] - 1) < 0.1


def test_of_several_audio_streams_one_is_broken(tmp_path):
    """Packets that no decoder and no muxer accepts; the other streams are kept."""
    clip = write_clip(tmp_path / "clip.mkv", num_frames=25, audio_codec="ac3", languages=("dan", "eng", "fra"))
    source, target = tmp_path / "in.mkv", tmp_path / "out.mp4"
    with av.open(str(clip)) as container, av.open(str(source), "w") as output:
        streams = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in container.streams}
        for stream in container.streams:
            streams[stream.index].metadata.update(stream.metadata)
        for packet in container.demux():
            if packet.size:
                index = packet.stream.index
                if index == 2:
                    broken = av.Packet(b"\0" * packet.size)
                    broken.pts, broken.dts, broken.time_base = packet.pts, packet.dts, packet.time_base
                    packet = broken
                packet.stream = streams[index]
                output.mux(packet)
    run(source, target)
    with av.open(str(target)) as container:
        languages = [stream.metadata["language"] for stream in container.streams.audio]
    assert {"dan", "fra"} <= set(languages)


def test_sound_whose_format_changes(tmp_path):
    """A broadcast may change between stereo and mono; the conversion goes on."""
    clips = [write_sound(tmp_path / f"{layout}.ts", layout) for layout in ("stereo", "mono")]
    source, target = tmp_path / "in.ts", tmp_path / "out.webm"
    source.write_bytes(b"".join(clip.read_bytes() for clip in clips))
    assert "converted" in run(source, target)
    assert abs(packets(target, "audio")[-1][0] - 2) < 0.1


def write_sound(path: Path, layout: str) -> Path:
    clip = write_clip(path.with_suffix(".mkv"), num_frames=25)
    with av.open(str(path), "w") as output:
        sound = output.add_stream("ac3", rate=48000, layout=layout)
        channels = 1 if layout == "mono" else 2
        frame = av.AudioFrame.from_ndarray(np.zeros((channels, 48000), np.float32), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = 48000, 0
        encoded = [*sound.encode(frame), *sound.encode(None)]
        copy_streams(clip, output, ("video",))
        output.mux(encoded)
    return path
