"""Decoding times of the joined video, and the durations in the header that follow from them."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from keep_hf.video.reader import VideoReader
from media import copy_clip, end, times, write_clip


STILL = 25_000
CASES = {
    "constant": [40 * index for index in range(20)],
    "still at the beginning": [0, *(STILL + 40 * index for index in range(19))],
    "still after two frames": [0, 40, *(STILL + 40 * index for index in range(18))],
    "still in the middle": [40 * index + (STILL if index > 9 else 0) for index in range(20)],
    "still before the last two frames": [40 * index + (STILL if index > 17 else 0) for index in range(20)],
    "still before the last frame": [40 * index + (STILL if index > 18 else 0) for index in range(20)],
    "many stills": [40 * index + STILL * (index // 3) for index in range(20)],
    "dense beginning": [0, 1, 2, 3, *(40 * index for index in range(1, 17))],
    "dense end": [*(40 * index for index in range(17)), 641, 642, 643],
    "two frames": [0, STILL],
    "one frame": [0],
}


def boxes(content: bytes, kinds: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    """The boxes of an MP4 of these kinds, at any depth."""
    position = 0
    while position + 8 <= len(content):
        size, kind = struct.unpack(">I4s", content[position : position + 8])
        body = content[position + 8 : position + size]
        if kind in (b"moov", b"trak", b"mdia", b"edts"):
            yield from boxes(body, kinds)
        elif kind in kinds:
            yield kind, body
        position += max(size, 8)


def header_durations(path: Path) -> dict[bytes, Fraction]:
    """Durations of the movie, of its only track in the movie, and of the samples of the track, in seconds."""
    found = dict(boxes(path.read_bytes(), (b"mvhd", b"tkhd", b"mdhd")))
    assert all(body[0] == 0 for body in found.values())
    movie_scale, movie = struct.unpack(">II", found[b"mvhd"][12:20])
    media_scale, media = struct.unpack(">II", found[b"mdhd"][12:20])
    (track,) = struct.unpack(">I", found[b"tkhd"][20:24])
    return {
        b"mvhd": Fraction(movie, movie_scale),
        b"tkhd": Fraction(track, movie_scale),
        b"mdhd": Fraction(media, media_scale),
    }


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("name", CASES)
def test_durations_in_the_header(tmp_path, name, suffix):
    pts = CASES[name]
    source = write_clip(tmp_path / "in.mkv", num_frames=len(pts), pts=pts, time_base=Fraction(1, 1000))
    target = tmp_path / f"out.{suffix}"
    copy_clip(source, target)
    assert times(target) == [Fraction(time, 1000) for time in pts]
    for kind, duration in header_durations(target).items():
        assert abs(duration - end(source)) <= Fraction(1, 1000), (kind, float(duration), float(end(source)))
    with av.open(str(target)) as container:
        assert abs(Fraction(container.duration, av.time_base) - end(source)) <= Fraction(1, 1000)


@pytest.mark.parametrize("name", CASES)
def test_decoding_times_increase_and_precede_the_display(tmp_path, name):
    pts = CASES[name]
    source = write_clip(tmp_path / "in.mkv", num_frames=len(pts), pts=pts, time_base=Fraction(1, 1000))
    for suffix in ("mp4", "mkv"):
        target = tmp_path / f"out.{suffix}"
        copy_clip(source, target)
        with av.open(str(target)) as container:
            found = [packet for packet in container.demux(video=0) if packet.size]
        if suffix == "mp4":
            assert all(after.dts > before.dts for before, after in pairwise(found))
            assert all(packet.dts <= packet.pts for packet in found)
        assert sorted(packet.pts * packet.time_base for packet in found) == [Fraction(time, 1000) for time in pts]


def test_a_constant_frame_rate_has_constant_decoding_times(tmp_path):
    source = write_clip(tmp_path / "in.mp4", num_frames=30, frame_rate=Fraction(30000, 1001))
    copy_clip(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        found = [packet.dts for packet in container.demux(video=0) if packet.size]
    assert len({after - before for before, after in pairwise(found)}) == 1
    assert VideoReader(tmp_path / "out.mp4").frame_rate == Fraction(30000, 1001)
