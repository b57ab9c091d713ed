"""A table of real inputs that are read and written as a restoration would do it: the output is equal to the input.

The table contains the exceptions. Run with `-s` to see the measurements.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from damaged import damage_packets, join_sizes, move_index_to_front, truncate
from keep_hf.video.reader import VideoReader
from media import copy_clip, gradient, times, write_clip


NTSC_24, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)
VARIABLE = {"pts": [0, 33, 71, 100, 140, 180, 181, 250, 300, 333, 367, 400, 600, 633], "time_base": Fraction(1, 1000)}
DROPPED = {"pts": [*range(6), *range(16, 24)], "time_base": Fraction(1, 25)}  # AVI has empty chunks there
STILL = {"pts": [*range(0, 360, 40), *range(5000, 5200, 40)], "time_base": Fraction(1, 1000)}
MILLISECONDS = "times rounded to milliseconds"  # Matroska and WebM
EIGHT_BITS = "8 bits per colour"
OPUS, AAC = "audio converted to opus", "audio converted to aac"
TEXT = "subtitles converted"
NO_ALPHA = "transparency left out"
PRIMING = "the silence at the start of AAC, removed in MP4 and MOV if the sound starts at 0, is before it"
PADDING = "the padding of the last audio packet, removed in WebM, is audible"
MPEG_AUDIO = "MP4 has the same name for MP2 and MP3"
DAMAGED = "a damaged frame is replaced by the one before"
CONCEALED = "a damaged frame was completed by the decoder"
TRUNCATED = "the file is truncated"
RESIZED = "the frame size changes"
AVERAGE = "average frame rate of the container, computed from the times that it contains"

TEXTS = {".mp4": "mov_text", ".mov": "mov_text", ".mkv": "subrip", ".webm": "webvtt"}


@dataclass
class Case:
    """An input and its output; `options` are those of `media.write_clip`, and `change` damages the file."""

    source: str
    target: str
    options: dict = field(default_factory=dict)
    exceptions: tuple[str, ...] = ()
    change: Callable[[Path, Path], Path] | None = None


def damage_some(source: Path, target: Path) -> Path:
    return damage_packets(source, target, [8, 12])


def damage_last(source: Path, target: Path) -> Path:
    return damage_packets(source, target, [13])


def conceal(source: Path, target: Path) -> Path:
    return damage_packets(source, target, [9], 0.5)


def truncate_download(source: Path, target: Path) -> Path:
    return truncate(move_index_to_front(source, source.with_name(f"front_{source.name}")), target, 0.7)


MJPEG = {"codec": "mjpeg", "pixel_format": "yuvj420p"}
CASES = [
    Case("in.mp4", "out.mp4", {"frame_rate": NTSC_24, "audio_codec": "aac"}),
    Case("in.mp4", "out.mov", {"frame_rate": NTSC, "audio_codec": "aac", "languages": ("dan", "eng")}),
    Case("in.mp4", "out.mkv", {"frame_rate": NTSC, "audio_codec": "aac"}, (MILLISECONDS, PRIMING)),
    Case("in.mp4", "out.webm", {"frame_rate": 25, "audio_codec": "aac"}, (OPUS,)),
    Case("in.mp4", "out.webm", {"frame_rate": NTSC, "audio_codec": "libopus"}, (MILLISECONDS,)),
    Case("in.mp4", "out.mp4", {"codec": "libx265", "frame_rate": 50}),
    Case("in.mp4", "out.mp4", {"codec": "libx265", "pixel_format": "yuv420p10le"}),
    Case("in.mkv", "out.mov", {"pixel_format": "yuv420p10le", "rotation": 90, "audio_codec": "aac"}),
    Case("in.mp4", "out.mp4", {"codec": "mpeg4", "frame_rate": NTSC, "audio_codec": "libmp3lame"}),
    Case("in.mp4", "out.mp4", {"rotation": 90, "audio_codec": "aac"}),
    Case("in.mp4", "out.mkv", {"rotation": -90}),
    Case("in.mov", "out.mp4", {"rotation": 180, "codec": "libx265"}),
    Case("in.mp4", "out.mp4", {"rotation": 90, "sample_aspect": Fraction(4, 3)}),
    Case("in.mp4", "out.mp4", {"sample_aspect": Fraction(16, 15), "frame_rate": NTSC_24}),
    Case("in.mkv", "out.mov", {"sample_aspect": Fraction(8, 9), "audio_codec": "flac"}, (AAC,)),
    Case("in.mkv", "out.mp4", VARIABLE | {"audio_codec": "flac", "languages": ("fra", "deu")}, (AVERAGE,)),
    Case("in.mkv", "out.webm", VARIABLE | {"audio_codec": "libopus"}),
    Case("in.mkv", "out.mkv", VARIABLE | {"codec": "libvpx-vp9", "subtitle_codec": "ass", "audio_codec": "ac3"}),
    Case("in.mp4", "out.mp4", VARIABLE | {"codec": "libx265", "audio_codec": "aac"}, (AVERAGE,)),
    Case("in.mkv", "out.mp4", {"subtitle_codec": "subrip", "audio_codec": "ac3"}, (TEXT,)),
    Case("in.mp4", "out.webm", {"subtitle_codec": "mov_text", "audio_codec": "aac"}, (TEXT, OPUS)),
    Case("in.mp4", "out.mp4", {"subtitle_codec": "mov_text"}),
    Case("in.mkv", "out.mkv", {"codec": "ffv1", "pixel_format": "bgr0", "width": 97, "height": 63}),
    Case("in.mkv", "out.mp4", {"codec": "ffv1", "pixel_format": "gray", "audio_codec": "pcm_f64le"}, (AAC,)),
    Case("in.mkv", "out.webm", {"codec": "ffv1", "pixel_format": "yuv444p10le", "width": 65}, (EIGHT_BITS,)),
    Case("in.mov", "out.mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le", "audio_codec": "pcm_s24le"}),
    Case("in.mkv", "out.mp4", {"codec": "libx265", "pixel_format": "yuv422p12le", "frame_rate": 50}),
    Case("in.mkv", "out.mkv", {"codec": "ffv1", "pixel_format": "gray10le"}),
    Case("in.mkv", "out.mp4", {"codec": "ffv1", "pixel_format": "gbrp12le", "width": 97}),
    Case("in.mov", "out.mp4", {"codec": "qtrle", "pixel_format": "argb", "frame_rate": 50}, (NO_ALPHA,)),
    Case("in.mov", "out.mp4", {"codec": "mjpeg", "pixel_format": "yuvj422p", "audio_codec": "pcm_s16le"}),
    Case("in.avi", "out.mp4", {"codec": "mjpeg", "pixel_format": "yuvj420p", "audio_codec": "pcm_u8"},
         (AAC,)),
    Case("in.avi", "out.mkv", {"codec": "mpeg4", "frame_rate": NTSC, "audio_codec": "libmp3lame"}, (MILLISECONDS,)),
    Case("in.avi", "out.mp4", {"frame_rate": NTSC_24, "height": 65, "width": 98, "pixel_format": "yuv444p"}),
    Case("in.webm", "out.webm", {"codec": "libvpx-vp9", "audio_codec": "libopus", "languages": ("dan", "eng")}),
    Case("in.webm", "out.mp4", {"codec": "libvpx-vp9", "audio_codec": "libopus", "colour": (1, 1)}, (PADDING,)),
    Case("in.webm", "out.mkv", {"codec": "libvpx-vp9", "subtitle_codec": "webvtt"}),
    Case("in.mp4", "out.mp4", {"colour": (9, 1), "audio_codec": "aac", "languages": ("dan", "eng", "fra")}),
    Case("in.mp4", "out.mkv", {"colour": (1, 2), "frame_rate": 50}),
    Case("in.mkv", "out.mp4", {"codec": "ffv1", "pixel_format": "yuv420p", "colour": (5, 2), "width": 95}),
    Case("in.ts", "out.mp4", {"codec": "mpeg2video", "frame_rate": NTSC, "audio_codec": "mp2"}, (MPEG_AUDIO,)),
    Case("in.ts", "out.mkv", {"codec": "mpeg2video", "audio_codec": "mp2"}, (MILLISECONDS,)),
    Case("in.ts", "out.webm", {"codec": "mpeg2video", "audio_codec": "mp2"}, (MILLISECONDS, OPUS)),
    Case("in.ts", "out.mov", {"codec": "mpeg2video", "frame_rate": NTSC, "audio_codec": "ac3"}),
    Case("in.wmv", "out.mp4", {"codec": "wmv2", "audio_codec": "wmav2", "num_frames": 25}, (AAC, PRIMING)),
    Case("in.wmv", "out.mkv", {"codec": "wmv2", "audio_codec": "wmav1", "num_frames": 25}, (OPUS,)),
    Case("in.avi", "out.mp4", DROPPED | {"audio_codec": "libmp3lame"}, (AVERAGE,)),
    Case("in.avi", "out.mkv", DROPPED | {"codec": "mpeg4", "audio_codec": "pcm_s16le"}, (AVERAGE,)),
    Case("in.mkv", "out.mp4", STILL | {"audio_codec": "aac"}, (AVERAGE,)),
    Case("in.mkv", "out.mov", STILL | {"codec": "libx265", "audio_codec": "flac"}, (AVERAGE, AAC)),
    Case("in.flv", "out.mp4", {"audio_codec": "libmp3lame"}),
    Case("in.flv", "out.webm", {"audio_codec": "aac"}, (OPUS,)),
    Case("2024-11-26T12:30:01.mp4", "http:out.mp4", {"audio_codec": "aac"}),
    Case("-i.mkv", "-y.mkv", {"audio_codec": "flac"}),
    Case("100%03d.mkv", "%03d.webm", {"audio_codec": "libopus", "codec": "mpeg4"}),
    Case("in.mp4", "out.mp4", {"audio_codec": "aac"}, (DAMAGED,), damage_some),
    Case("in.mkv", "out.mp4", MJPEG | VARIABLE | {"audio_codec": "aac"}, (DAMAGED, AVERAGE), damage_some),
    Case("in.mov", "out.mkv", MJPEG | {"rotation": 90, "frame_rate": NTSC}, (DAMAGED, MILLISECONDS), damage_some),
    Case("in.avi", "out.mp4", {"codec": "mpeg4", "audio_codec": "libmp3lame"}, (DAMAGED, AVERAGE), damage_some),
    Case("in.mp4", "out.mp4", {"codec": "libx265", "audio_codec": "aac"}, (DAMAGED,), damage_last),
    Case("in.mp4", "out.webm", {"codec": "mpeg4", "audio_codec": "libopus"}, (CONCEALED,), conceal),
    Case("in.mp4", "out.mp4", MJPEG, (TRUNCATED, DAMAGED, AVERAGE), truncate_download),
    Case("in.mkv", "out.mkv", MJPEG | {"audio_codec": "flac"}, (TRUNCATED,), truncate),
    Case("in.h264", "out.mp4", {"container_format": "h264"}, (RESIZED,), join_sizes),
]  # fmt: skip


@dataclass
class Content:
    """What a player reads from a file."""

    times: list[Fraction]
    duration: Fraction
    frame_rate: Fraction
    size: tuple[int, int]
    rotation: int
    sample_aspect: Fraction
    streams: list[tuple[str, str]]
    names: list[tuple[str | None, bool]]
    audio: list[tuple[Fraction, Fraction]]


def read_content(path: Path) -> Content:
    frames = list(VideoReader(path))
    with av.open(str(path)) as container:
        others = [stream for stream in container.streams if stream.type != "video"]
        kinds = [(stream.type, stream.codec_context.codec.canonical_name) for stream in others]
        names = [(stream.metadata.get("language", "und"), bool(stream.disposition & 1)) for stream in others]
        indices = [stream.index for stream in others if stream.type == "audio"]
    reader = VideoReader(path)
    last = frames[-1]
    return Content(
        times(path), (last.pts + last.duration) * last.time_base, reader.frame_rate, (reader.width, reader.height),
        reader.rotation, reader.pixel_aspect, kinds, names, [audio_interval(path, index) for index in indices],
    )  # fmt: skip


def audio_interval(path: Path, index: int) -> tuple[Fraction, Fraction]:
    """Start and end of an audio stream in seconds."""
    with av.open(str(path)) as container:
        start = VideoReader(path).start
        frames = list(container.decode(container.streams[index]))
    # The last frames of Windows Media have no time.
    last = max(number for number, frame in enumerate(frames) if frame.pts is not None)
    begin, latest = (frame.pts * frame.time_base - start for frame in (frames[0], frames[last]))
    return begin, latest + Fraction(sum(frame.samples for frame in frames[last:]), frames[last].sample_rate)


def expected_warnings(case: Case) -> list[str]:
    damage = {DAMAGED: "not be decoded", CONCEALED: "damaged parts", TRUNCATED: "truncated", RESIZED: "size changes"}
    patterns = damage | {
        OPUS: "to opus",
        AAC: "to aac",
        TEXT: "subtitle",
        EIGHT_BITS: "10 bits",
        NO_ALPHA: "transparency",
    }
    return [patterns[exception] for exception in case.exceptions if exception in patterns]


def describe(case: Case) -> str:
    return f"{case.source} {' '.join(str(value) for value in case.options.values())} -> {case.target}"[:90]


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{index}-{case.source}-{case.target}" for index, case in enumerate(CASES)]
)
def test_table(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)  # relative names, as users type them
    options = {"num_frames": 14} | case.options
    source, target = tmp_path / "whole" / case.source, Path(case.target)
    source.parent.mkdir()
    write_clip(source, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = times(source)
    source = case.change(source, Path(case.source)) if case.change else source.rename(case.source)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read = copy_clip(source, target)
        before, after = read_content(source.resolve()), read_content(target.resolve())
    messages = " ".join(str(warning.message) for warning in caught)
    assert all(pattern in messages for pattern in expected_warnings(case))
    assert bool(messages) == bool(expected_warnings(case)), messages

    written = [frame.image for frame in VideoReader(target)]
    late = max(abs(a - b) for a, b in zip(before.times, after.times, strict=True))
    error = np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(read, written, strict=True)])
    print(
        f"\n{describe(case):<90} {len(written)} frames, late {float(late) * 1000:.2f} ms, "
        f"longer {float(after.duration - before.duration) * 1000:+.2f} ms, error {error:.2f}, "
        f"{[codec for _, codec in after.streams]} {', '.join(case.exceptions)}",
        end="",
    )
    number = min(len(whole), len(before.times))
    assert before.times[:number] == whole[:number]
    assert len(before.times) == len(whole) or {TRUNCATED, RESIZED} & set(case.exceptions)
    rounding = Fraction(1, 2000) if MILLISECONDS in case.exceptions else 0
    assert late <= rounding
    assert abs(before.duration - after.duration) <= 3 * rounding
    assert after.frame_rate == before.frame_rate or AVERAGE in case.exceptions
    assert after.size == before.size
    assert after.rotation == 0
    assert after.sample_aspect == before.sample_aspect
    assert error < 1.5
    upright = gradient(3, options.get("width", 96), options.get("height", 64))
    turns = {90: 1, 180: 2, -90: 3}.get(options.get("rotation", 0), 0)
    if not options.get("pixel_format", "").startswith("gray"):
        assert np.abs(written[3].astype(int) - np.rot90(upright, turns)).mean() < 4

    assert [kind for kind, _ in after.streams] == [kind for kind, _ in before.streams]
    for (kind, old), (_, new) in zip(before.streams, after.streams, strict=True):
        converted = {"audio": {OPUS: "opus", AAC: "aac", MPEG_AUDIO: "mp3"}, "subtitle": {TEXT: TEXTS[target.suffix]}}
        allowed = [codec for exception, codec in converted[kind].items() if exception in case.exceptions]
        assert new == (allowed or [old])[0]
    if target.suffix in (".mp4", ".mov"):
        # Where no stream of a type is marked as the default, these containers mark the first.
        for kind in ("audio", "subtitle"):
            same = [number for number, stream in enumerate(before.streams) if stream[0] == kind]
            if same and not any(before.names[number][1] for number in same):
                before.names[same[0]] = (before.names[same[0]][0], True)
    assert after.names == before.names
    for (begin, finish), (new_begin, new_finish) in zip(before.audio, after.audio, strict=True):
        assert abs(begin - new_begin) < (Fraction(1024, 44100) if PRIMING in case.exceptions else Fraction(2, 1000))
        assert abs(finish - new_finish) < (
            Fraction(1, 30) if {OPUS, AAC, PADDING} & set(case.exceptions) else Fraction(2, 1000)
        )
