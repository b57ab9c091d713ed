"""Files whose clock restarts: times go on, and sound and video stay together."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import pytest

from keep_hf.video.reader import VideoReader
from media import copy_clip, packets, times, write_clip
from transport_stream import edit_times


STREAM_IDS = {"aac": 0xC0, "mp2": 0xC0, "ac3": 0xBD}


def join(path: Path, *parts: Path) -> Path:
    """Join files as `cat` does."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def write_part(path: Path, seconds: float = 2, offset: float = 0, audio_codec: str | None = "aac") -> Path:
    """A transport stream whose clock starts at `offset` seconds."""
    clip = write_clip(
        path.with_suffix(".mkv"), num_frames=round(25 * seconds), width=32, height=32, audio_codec=audio_codec
    )
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None or packet.pts is not None:
                shift = round(offset / packet.time_base)
                packet.pts += shift
                packet.dts = None if packet.dts is None else packet.dts + shift
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return path


def continuous(path: Path, number_of_packets: int, rounding: Fraction = Fraction(1, 900)) -> None:
    audio = packets(path, "audio")
    assert len(audio) == number_of_packets
    steps = {after[0] - before[0] for before, after in itertools.pairwise(audio)}
    duration = Fraction(1024, 48000)
    # Where two parts meet, the sound may be moved by up to a tenth of a second to go on without a gap.
    assert all(abs(step - duration) <= rounding for step in steps), sorted(steps)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_joined_recordings(tmp_path, suffix):
    parts = [write_part(tmp_path / "a.ts"), write_part(tmp_path / "b.ts", 1), write_part(tmp_path / "c.ts", 3)]
    source, target = join(tmp_path / "in.ts", *parts), tmp_path / f"out.{suffix}"
    copy_clip(source, target)
    start = times(target)[0]
    assert times(target) == pytest.approx([start + Fraction(k, 25) for k in range(150)], abs=0.001)
    continuous(target, sum(len(packets(part, "audio")) for part in parts))
    assert abs(packets(target, "audio")[-1][0] - times(target)[-1]) < 0.1


def test_joined_recordings_with_converted_sound(tmp_path):
    parts = [write_part(tmp_path / "a.ts"), write_part(tmp_path / "b.ts")]
    with pytest.warns(UserWarning, match="converted: stream 1"):
        copy_clip(join(tmp_path / "in.ts", *parts), tmp_path / "out.webm")
    audio = packets(tmp_path / "out.webm", "audio")
    assert audio[-1][0] == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("offset", [1000, 80_000])
def test_a_part_that_starts_much_later_follows_at_once(tmp_path, offset):
    parts = [write_part(tmp_path / "a.ts"), write_part(tmp_path / "b.ts", 1, offset), write_part(tmp_path / "c.ts")]
    source, target = join(tmp_path / "in.ts", *parts), tmp_path / "out.mp4"
    copy_clip(source, target)
    assert times(target)[-1] - times(target)[0] == pytest.approx(124 / 25, abs=0.001)
    continuous(target, sum(len(packets(part, "audio")) for part in parts))


def test_a_long_still_image_keeps_its_time(tmp_path):
    """The sound goes on, so this is no other clock."""
    pts = [*range(10), *range(1000, 1010)]
    source = write_clip(tmp_path / "in.ts", num_frames=20, pts=pts, time_base=Fraction(1, 25))
    silent = VideoReader(source)
    assert len(silent.clock.shifts[0]) == 2  # without sound, nothing shows that time has passed
    clip = write_clip(tmp_path / "long.mkv", num_frames=1010, width=16, height=16, audio_codec="aac")
    with_sound = tmp_path / "sound.ts"
    with av.open(str(clip)) as sound, av.open(str(source)) as video, av.open(str(with_sound), "w") as target:
        streams = [target.add_stream_from_template(video.streams[0], opaque=True)]
        streams.append(target.add_stream_from_template(sound.streams[1]))
        origin = round(video.start_time * Fraction(90000, av.time_base))
        both = [(packet, streams[0]) for packet in video.demux() if packet.size]
        for packet, _ in both:
            packet.pts, packet.dts = packet.pts - origin, packet.dts - origin
        both += [(packet, streams[1]) for packet in sound.demux(audio=0) if packet.size]
        for packet, stream in sorted(both, key=lambda pair: pair[0].dts * pair[0].time_base):
            packet.stream = stream
            target.mux(packet)
    kept = [time - times(with_sound)[0] for time in times(with_sound)]
    assert kept == pytest.approx([Fraction(tick, 25) for tick in pts], abs=0.001)


@pytest.mark.parametrize("audio_codec", ["aac", "ac3"])
def test_only_the_sound_restarts(tmp_path, audio_codec):
    """The video has one clock; the sound goes on from its own end."""
    good, source = (write_part(tmp_path / name, 4, audio_codec=audio_codec) for name in ("good.ts", "in.ts"))
    second = 90_000
    edit_times(source, STREAM_IDS[audio_codec], lambda time: time if time < 3 * second else time - 2 * second)
    copy_clip(source, tmp_path / "out.mp4")
    copy_clip(good, tmp_path / "expected.mp4")
    assert times(tmp_path / "out.mp4") == times(tmp_path / "expected.mp4")
    sound, expected = packets(tmp_path / "out.mp4", "audio"), packets(tmp_path / "expected.mp4", "audio")
    assert [content for _, content in sound] == [content for _, content in expected]
    assert all(abs(a - b) < 0.001 for (a, _), (b, _) in zip(sound, expected, strict=True))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("decreasing", lambda time: time - 27_000 if time % 2 else time),
        ("jittering", lambda time: time + time * 7919 % 9000 - 4500),
        ("missing", lambda time: time if time % 3 else None),
        ("all missing", lambda time: None),
    ],
)
@pytest.mark.filterwarnings("ignore:.*converted")
def test_bad_times_of_sound(tmp_path, name, edit, suffix):
    good, source = write_part(tmp_path / "good.ts", 4), write_part(tmp_path / "in.ts", 4)
    edit_times(source, STREAM_IDS["aac"], edit)
    target = tmp_path / f"out.{suffix}"
    copy_clip(source, target)
    sound, expected = packets(target, "audio"), packets(good, "audio")
    if suffix != "webm":
        # Only transport streams have a header in each packet of AAC.
        assert len(sound) == len(expected)
        assert all(before.endswith(after) for (_, after), (_, before) in zip(sound, expected, strict=True))
    assert sound == sorted(sound, key=lambda packet: packet[0])
    origin = VideoReader(good).start
    tolerance = 0.4 if name == "decreasing" else 0.15
    assert abs(sound[-1][0] - (expected[-1][0] - origin)) < tolerance
