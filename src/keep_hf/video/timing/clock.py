"""The clock of a file, which may restart: recordings that were joined byte by byte, streams that were interrupted.

The video gives the parts of a file. A part begins where its decoding times jump back, or jump ahead further than a
video stands still. Each part is moved to the end of the one before it. All other streams move with the video, so they
stay in step with it; where only their own clock restarts, they go on from their own end.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer
from av.format import Flags as FormatFlags
from av.stream import Stream

from ..containers import open_container
from .stream_clock import LONGEST_GAP, Shift, StreamClock, VideoPart


# These formats number their packets or count their durations, so their times cannot go back.
CONTINUOUS_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "avi")
RESTART = 0.1  # seconds; decoding times of a good file never go back
INTERLEAVING = 5.0  # seconds by which streams may be ahead of each other in a file


@dataclass(frozen=True)
class Clock:
    """What is added to the times of a file so that they go on where its clock restarts.

    Args:
        shifts (`Mapping[int, Sequence[Shift]]`): Index of a stream -> its shifts, in the order of its packets.
        first_dts (`int`): Decoding time of the first packet of the video, in units of its time base.
    """

    shifts: Mapping[int, Sequence[Shift]]
    first_dts: int = 0


class ClockCorrection:
    """Corrects the times of the packets of a file, all of a stream from its beginning."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._counts: dict[int, int] = defaultdict(int)
        self._current: dict[int, int] = defaultdict(int)

    def apply(self, packet: av.Packet) -> bool:
        """Shift the times of the next packet of its stream; returns whether it is to be used."""
        index = packet.stream.index
        shifts = self.clock.shifts.get(index)
        if not shifts or packet.size == 0:
            return True
        following = self._current[index] + 1
        if following < len(shifts) and self._counts[index] >= shifts[following].first:
            self._current[index] = following
        self._counts[index] += 1
        shift = shifts[self._current[index]]
        ticks = round(shift.seconds / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
        return not shift.is_repeated


def read_clock(path: Path, video_index: int, frame_rate: Fraction) -> Clock:
    """Read the times of all packets of a file, and find where its clock restarts.

    Args:
        path (`Path`): The file.
        video_index (`int`): Index of the video stream that is read.
        frame_rate (`Fraction`): Its frames per second, for packets without a duration.
    """
    with open_container(path) as container:
        video = container.streams[video_index]
        time_base = video.time_base or Fraction(1)
        if container.format.name in CONTINUOUS_FORMATS:
            first = next(_timed_packets(container, video), None)
            return Clock({}, (first and first.dts) or 0)
        step = max(1, round(1 / (frame_rate * time_base)))
        parts, has_restarts = _find_parts(container, video, step)
    if not (has_restarts and parts):
        return Clock({})
    ends = itertools.accumulate((before.end - after.begin for before, after in itertools.pairwise(parts)), initial=0)
    seconds = [ticks * time_base for ticks in ends]
    with open_container(path) as container:
        shifts = _find_shifts(container, video_index, parts, seconds)
    return Clock(shifts | {video_index: [Shift(part.first, each) for part, each in zip(parts, seconds, strict=True)]})


def _find_parts(container: InputContainer, video: Stream, step: int) -> tuple[list[VideoPart], bool]:
    """The parts of the video, and whether the clock of any stream restarts."""
    may_jump = bool(container.format.flags & cast(int, FormatFlags.ts_discont.value))
    parts, count = [VideoPart(0, 0)], 0
    last: dict[int, float] = {}
    heard: float | None = None  # the first time of another stream that is ahead of the video
    has_restarts = False
    for position, packet in enumerate(_timed_packets(container)):
        index, time = packet.stream.index, decoding_seconds(packet)
        if time is not None and packet.stream.type in ("audio", "video"):
            before = last.get(index, time)
            last[index] = time
            goes_back = time < before - RESTART
            has_restarts |= goes_back
            if index != video.index:
                ahead = time > last.get(video.index, time) + INTERLEAVING
                heard = time if ahead and heard is None else heard
            else:
                is_filled = heard is not None and heard < time - INTERLEAVING
                if goes_back or (may_jump and time > before + LONGEST_GAP and not is_filled):
                    parts.append(VideoPart(position, count))
                heard = None if heard is None or time > heard else heard
        if index == video.index:
            parts[-1].add(packet, step)
            count += 1
    parts = [part for part in parts if part.is_timed]
    return parts, has_restarts or len(parts) > 1


def _find_shifts(
    container: InputContainer, video_index: int, parts: Sequence[VideoPart], seconds: Sequence[Fraction]
) -> dict[int, list[Shift]]:
    clocks = {
        stream.index: StreamClock(
            [part.position for part in parts], seconds, is_dense=stream.type in ("audio", "video")
        )
        for stream in container.streams
        if stream.index != video_index and stream.type in ("audio", "video", "subtitle", "data")
    }
    video_time, part = 0.0, 0
    for position, packet in enumerate(_timed_packets(container)):
        index, time = packet.stream.index, decoding_seconds(packet)
        if index == video_index:
            while part + 1 < len(parts) and parts[part + 1].position <= position:
                part += 1
            video_time = video_time if time is None else time + float(seconds[part])
        elif index in clocks:
            duration = float((packet.duration or 0) * packet.time_base)
            clocks[index].add(position, time, duration, video_time)
    return {index: clock.shifts for index, clock in clocks.items()}


def _timed_packets(container: InputContainer, *streams: Stream) -> Iterator[av.Packet]:
    """All packets up to the end of the file, or to where it is damaged."""
    try:
        for packet in container.demux(*streams):
            if packet.size:
                yield packet
    except av.FFmpegError:
        return


def decoding_seconds(packet: av.Packet) -> float | None:
    """Decoding time of a packet in seconds; that of the first packets may be missing where frames are reordered."""
    is_ordered = packet.stream.type != "video"
    ticks = packet.pts if packet.dts is None and is_ordered else packet.dts
    return None if ticks is None else float(ticks * packet.time_base)
