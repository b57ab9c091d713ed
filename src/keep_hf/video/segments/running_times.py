"""Times of packets that every container accepts: none is missing, and decoding times never decrease."""

import math
from fractions import Fraction

import av


SHORTEST_STEP = Fraction(1, 1000)  # seconds


class RunningTimes:
    """Repairs the times of the packets of one stream.

    Args:
        is_sparse (`bool`): Whether packets may have the same time, as subtitles and data.
        has_reordering (`bool`): Whether presentation times may differ from decoding times, as those of video.
    """

    def __init__(self, is_sparse: bool, has_reordering: bool) -> None:
        self.is_sparse, self.has_reordering = is_sparse, has_reordering
        self._untimed: list[av.Packet] = []
        self._last: int | None = None
        self._next = 0

    def repair(self, packet: av.Packet) -> list[av.Packet]:
        """Set the times of a packet; returns the packets to write, which may be none yet."""
        if packet.dts is None and (packet.pts is None or not self.has_reordering):
            packet.dts = packet.pts
        if packet.dts is None and self._last is None:
            self._untimed.append(packet)  # their times follow from those of the first packet that has one
            return []
        packets = [*self._untimed, packet]
        if self._untimed:
            self._untimed = []
            self._next = (packet.dts or 0) - sum(earlier.duration or 0 for earlier in packets[:-1])
        for each in packets:
            self._set(each)
        return packets

    def finish(self) -> list[av.Packet]:
        """The packets of a stream of which none had a time."""
        packets, self._untimed = self._untimed, []
        for packet in packets:
            self._set(packet)
        return packets

    def _set(self, packet: av.Packet) -> None:
        dts = self._next if packet.dts is None else packet.dts
        if self._last is not None:
            # The units of the new container may be coarser; a millisecond is one step in any of them.
            step = 0 if self.is_sparse else max(1, math.ceil(SHORTEST_STEP / packet.time_base))
            dts = dts if dts > self._last else self._last + step
        if not self.has_reordering:
            packet.pts = dts
        elif packet.pts is not None:
            packet.pts = max(packet.pts, dts)
        packet.dts = self._last = dts
        self._next = dts + (packet.duration or 0)
