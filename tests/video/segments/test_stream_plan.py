"""Audio, subtitles, chapters and metadata: copied, converted, or left out with a warning."""

import errno
import io
import itertools
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from keep_hf.video.reader import VideoReader
from media import copy_clip, packets, write_clip


@pytest.mark.parametrize(
    ("source_name", "audio_codec", "suffix"),
    [("in.mp4", "aac", "mp4"), ("in.mp4", "aac", "mkv"), ("in.mkv", "flac", "mp4"), ("in.mkv", "libopus", "webm")],
)
def test_audio_is_copied_byte_for_byte(tmp_path, source_name, audio_codec, suffix):
    source = write_clip(tmp_path / source_name, audio_codec=audio_codec, num_frames=50)
    assert VideoReader(source).has_audio
    copy_clip(source, tmp_path / f"out.{suffix}")
    before, after = packets(source, "audio"), packets(tmp_path / f"out.{suffix}", "audio")
    assert [content for _, content in before] == [content for _, content in after]
    assert all(abs(a - b) <= Fraction(1, 1000) for (a, _), (b, _) in zip(before, after, strict=True))


def measure_tone(path: Path, number: int) -> tuple[float, float, float]:
    """Frequency in Hz of an audio stream, and its start and end in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[number]
        resampler = av.AudioResampler(format="fltp")
        frames = [part for frame in container.decode(stream) for part in resampler.resample(frame)]
        begin = frames[0].pts * frames[0].time_base
        samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        for before, after in itertools.pairwise(frames):
            gap = after.pts * after.time_base - before.pts * before.time_base - Fraction(before.samples, stream.rate)
            assert abs(gap) <= Fraction(1, 900)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * stream.rate / len(samples), begin, begin + len(samples) / stream.rate


@pytest.mark.parametrize(
    ("name", "codec", "suffix", "expected"),
    [("in.mp4", "aac", "webm", "opus"), ("in.mkv", "pcm_f64le", "webm", "opus"), ("in.avi", "pcm_u8", "mp4", "aac")],
)
def test_unsupported_audio_is_converted(tmp_path, name, codec, suffix, expected):
    languages = ("dan", "eng")
    source = write_clip(tmp_path / name, audio_codec=codec, num_frames=50, languages=languages)
    target = tmp_path / f"out.{suffix}"
    with pytest.warns(UserWarning, match=rf"stream 1 \(audio, {codec}\) to {expected}, stream 2"):
        copy_clip(source, target)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        assert [stream.codec_context.codec.canonical_name for stream in after.streams.audio] == [expected, expected]
        for old, new in zip(before.streams.audio, after.streams.audio, strict=True):
            if name != "in.avi":  # which supports neither
                assert old.disposition == new.disposition
                assert old.metadata["language"] == new.metadata["language"]
    for number in range(2):
        _, begin, finish = measure_tone(source, number)
        frequency, new_begin, new_finish = measure_tone(target, number)
        assert frequency == pytest.approx(440 * (number + 1), abs=1)
        assert abs(begin - new_begin) < 0.002
        assert abs(finish - new_finish) < 0.03  # whole packets


def test_surround_sound(tmp_path):
    source = tmp_path / "in.mkv"
    with av.open(str(write_clip(tmp_path / "plain.mkv"))) as plain, av.open(str(source), "w") as container:
        video = container.add_stream_from_template(plain.streams[0], opaque=True)
        surround = container.add_stream("ac3", rate=44100, layout="5.1(side)")
        noise = av.AudioFrame.from_ndarray(np.zeros((6, 44100), np.float32), format="fltp", layout="5.1(side)")
        noise.sample_rate, noise.pts = 44100, 0
        for packet in plain.demux():
            if packet.size:
                packet.stream = video
                container.mux(packet)
        container.mux([*surround.encode(noise), *surround.encode(None)])
    with pytest.warns(UserWarning, match="ac3"):
        copy_clip(source, tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        (audio,) = container.streams.audio
        assert (audio.channels, audio.rate) == (6, 48000)


@pytest.mark.filterwarnings("ignore:.*converted")
@pytest.mark.parametrize(
    ("name", "codec", "suffix", "expected"),
    [
        ("in.mkv", "subrip", "mp4", "mov_text"),
        ("in.mkv", "ass", "mov", "mov_text"),
        ("in.mp4", "mov_text", "mkv", "subrip"),
        ("in.mp4", "mov_text", "webm", "webvtt"),
        ("in.mkv", "ass", "webm", "webvtt"),
    ],
)
def test_unsupported_subtitles_are_converted(tmp_path, name, codec, suffix, expected):
    source = write_clip(tmp_path / name, subtitle_codec=codec, num_frames=50)
    copy_clip(source, tmp_path / f"out.{suffix}")
    with av.open(str(tmp_path / f"out.{suffix}")) as container:
        (stream,) = container.streams.subtitles
        assert stream.codec_context.codec.canonical_name == expected
        assert stream.metadata["language"] == "dan"
        lines = []
        for packet in container.demux(stream):
            for line in packet.decode() if packet.size else ():
                lines.append((packet.pts * packet.time_base, packet.duration * packet.time_base, line.dialogue))
    lines = [line for line in lines if line[2]]
    assert lines == [(Fraction(n, 2), Fraction(3, 10), f"Line {n}".encode()) for n in range(4)]


def test_streams_that_are_left_out_are_named(tmp_path):
    source = tmp_path / "in.mkv"
    with av.open(str(write_clip(tmp_path / "plain.mkv"))) as plain, av.open(str(source), "w") as container:
        video = container.add_stream_from_template(plain.streams[0], opaque=True)
        container.add_attachment("font.ttf", "application/x-truetype-font", b"letters")
        for packet in plain.demux():
            if packet.size:
                packet.stream = video
                container.mux(packet)
    with pytest.warns(UserWarning, match=r"out\.mp4 does not include stream 1 \(attachment"):
        copy_clip(source, tmp_path / "out.mp4")


class FullDisk(io.BytesIO):
    """Stands for a temporary file on a disk that is full."""

    def write(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_no_reason_to_leave_a_stream_out(tmp_path, monkeypatch):
    """Cover images are tried in a temporary file."""
    source = tmp_path / "in.mp4"
    with av.open(str(write_clip(tmp_path / "plain.mp4"))) as plain, av.open(str(source), "w") as container:
        video = container.add_stream_from_template(plain.streams[0], opaque=True)
        cover = container.add_stream("mjpeg", options={"strict": "unofficial"})
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))) + cover.encode())
        for packet in plain.demux():
            if packet.size:
                packet.stream = video
                container.mux(packet)
    copy_clip(source, tmp_path / "out.mp4")
    monkeypatch.setattr("keep_hf.video.segments.stream_plan.tempfile.TemporaryFile", FullDisk)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        copy_clip(source, tmp_path / "full.mp4")
    assert not (tmp_path / "full.mp4").exists()


def test_audio_is_interleaved_with_the_video(tmp_path):
    source = write_clip(tmp_path / "in.mp4", audio_codec="aac", num_frames=500, width=32, height=32)
    copy_clip(source, tmp_path / "out.mkv")
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
        av.open(str(plain)) as video,
        av.open(str(tmp_path / "lines.srt")) as lines,
        av.open(str(source), "w") as container,
    ):
        container.metadata["title"] = "A title"
        container.set_chapters(
            [{"id": 1, "start": 0, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}]
        )
        copies = [container.add_stream_from_template(part.streams[0], opaque=True) for part in (video, lines)]
        for stream in copies:
            stream.metadata["language"] = "dan"
        for part, stream in zip((video, lines), copies, strict=True):
            for packet in part.demux():
                if packet.size:
                    packet.stream = stream
                    container.mux(packet)
    copy_clip(source, tmp_path / "out.mkv")
    assert packets(source, "subtitle") == packets(tmp_path / "out.mkv", "subtitle")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert {stream.metadata["language"] for stream in container.streams} == {"dan"}
        assert container.metadata["title"] == "A title"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["One"]
