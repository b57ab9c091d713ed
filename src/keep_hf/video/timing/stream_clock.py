"""How one stream follows the parts of the video when the clock of the file restarts."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av


LONGEST_GAP = 30.0  # seconds; a longer jump ahead is taken for another clock
OWN_RESTART = 0.5  # seconds; smaller steps back are inaccurate times, not restarts
LARGEST_JOINT = 0.1  # seconds by which a stream may be out of step with the video to continue without a gap or a cut
NEAR = 500  # packets: a stream changes to the next part up to this far from where the video does


@dataclass(frozen=True)
class Shift:
    """What is added to the times of a stream from packet number `first` on.

    Args:
        first (`int`): Number of the packet, within its stream.
        seconds (`Fraction`): What is added.
        is_repeated (`bool`): Whether the packets are left out, because the stream was there already.
    """

    first: int
    seconds: Fraction
    is_repeated: bool = False


@dataclass
class VideoPart:
    """Packets of the video whose clock does not restart.

    Args:
        position (`int`): Number of the first packet within the file.
        first (`int`): Number of the first packet within the video.
        begin, end (`int`): Presentation times in units of the time base.
    """

    position: int
    first: int
    begin: int = 0
    end: int = 0
    is_timed: bool = False

    def add(self, packet: av.Packet, step: int) -> None:
        """Extend the part; `step` is the duration of a frame."""
        time = packet.dts if packet.pts is None else packet.pts
        if time is None:
            return
        end = time + (packet.duration or step)
        self.begin = min(self.begin, time) if self.is_timed else time
        self.end = max(self.end, end) if self.is_timed else end
        self.is_timed = True


class StreamClock:
    """Finds for each packet of a stream the part of the video to which it belongs.

    Streams are interleaved, so a stream reaches the next part a little earlier or later than the video. A packet of a
    dense stream belongs to the part in which it continues its stream; one of a sparse stream to that at its position.

    Args:
        positions (`Sequence[int]`): Number within the file of the first video packet of each part.
        seconds (`Sequence[Fraction]`): What is added to the times of each part.
        is_dense (`bool`): Whether the packets follow each other without gaps, as audio does.
    """

    def __init__(self, positions: Sequence[int], seconds: Sequence[Fraction], is_dense: bool) -> None:
        self.positions, self.seconds, self.is_dense = positions, seconds, is_dense
        self.shifts = [Shift(0, Fraction(0))]
        self._count = self._part = 0
        self._own = self._joint = Fraction(0)
        self._expected: float | None = None
        self._is_repeated = False

    def add(self, position: int, time: float | None, duration: float, video_time: float) -> None:
        """Add the next packet.

        Args:
            position (`int`): Its number within the file.
            time (`float`, *optional*): Its time on the clock of the file, in seconds.
            duration (`float`): Its duration in seconds.
            video_time (`float`): Time of the video at this position, in seconds on the corrected clock.
        """
        if time is not None:
            is_new = self._follow(position, time)
            if self.is_dense and self._expected is not None:
                self._continue(time + self._shift(self._part) - self._expected, is_new, duration, video_time)
            self._record()
            time += self._shift(self._part)
        if not self._is_repeated:
            begin = self._expected if time is None else time
            self._expected = None if begin is None else begin + duration
        self._count += 1

    def _shift(self, part: int) -> float:
        return float(self.seconds[part] + self._own + (self._joint if part == self._part else 0))

    def _follow(self, position: int, time: float) -> bool:
        """Find the part of a packet; returns whether it is a new one."""
        part = self._part_at(position)
        if self.is_dense and self._expected is not None:
            expected = self._expected
            first, last = self._part_at(position - NEAR), self._part_at(position + NEAR)
            parts = range(max(self._part, first), max(self._part, last) + 1)
            part = min(parts, key=lambda part: abs(time + self._shift(part) - expected))
        if part <= self._part:
            return False
        self._part, self._joint = part, Fraction(0)
        return True

    def _part_at(self, position: int) -> int:
        return max(0, bisect_right(self.positions, position) - 1)

    def _continue(self, ahead: float, is_new: bool, duration: float, video_time: float) -> None:
        """Adapt the shift to a packet that begins `ahead` seconds after the end of the one before it."""
        step = Fraction(ahead).limit_denominator(1_000_000)
        if is_new and abs(ahead) < LARGEST_JOINT:
            self._joint, self._is_repeated = -step, False
        elif is_new or self._is_repeated:
            self._is_repeated = ahead < -duration / 2
        elif ahead < -OWN_RESTART or (
            ahead > LONGEST_GAP and abs(ahead + (self._expected or 0) - video_time) > LONGEST_GAP
        ):
            self._own -= step

    def _record(self) -> None:
        seconds = self.seconds[self._part] + self._own + self._joint
        shift, before = Shift(self._count, seconds, self._is_repeated), self.shifts[-1]
        if (before.seconds, before.is_repeated) != (shift.seconds, shift.is_repeated):
            if self._count == 0:
                self.shifts.clear()
            self.shifts.append(shift)
