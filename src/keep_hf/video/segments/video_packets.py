"""The packets of all segments as one stream, with decoding times that every container and player accepts."""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import cast

import av

from .encoding import Encoding
from .segment_encoder import read_segment


def read_video_packets(segments: Sequence[Path], encoding: Encoding, delay: int) -> Iterator[av.Packet]:
    """Read the packets of all segments, with decoding times that increase across their borders.

    A packet comes at most `delay` places before its turn in display order, so the k-th packet in decoding order can be
    decoded when the (k - delay)-th frame in display order appears: the smallest time not used so far. But containers
    store the differences of decoding times, and players add them up to the duration. While an image stands still the
    decoder would be far ahead, so a packet is decoded at most `lead` before the next frame that needs it: then
    decoding begins and ends `lead` before the display does.

    Args:
        segments (`Sequence[Path]`): The segments in order, at least one.
        encoding ([`Encoding`]): Settings with which they were encoded.
        delay (`int`): Number of frames by which the encoder changes their order, at most.
    """
    packets = chain.from_iterable(read_segment(segment, encoding.time_base) for segment in segments)
    # The next frame to be displayed is among this many packets.
    waiting: deque[av.Packet] = deque()
    beginning = list(islice(packets, 2 * delay + 1))
    packets = chain(beginning, packets)
    shown = sorted(cast(int, packet.pts) for packet in beginning)
    # The video may be shorter than that.
    shown += [shown[-1] + k * encoding.frame_duration for k in range(1, delay + 1)]
    lead = min(shown[delay] - shown[0], delay * encoding.frame_duration)
    times = [shown[0] - lead + k * lead // delay for k in range(delay)]
    end, last = 0, None
    for packet in chain(packets, [None] * delay):
        if packet is not None:
            waiting.append(packet)
            end = max(end, cast(int, packet.pts) + cast(int, packet.duration))
            if len(waiting) <= delay:
                continue
        if not waiting:
            return
        upcoming = min(cast(int, each.pts) for each in waiting)
        ready = waiting.popleft()
        time = max(heapq.heappushpop(times, cast(int, ready.pts)), upcoming - lead)
        ready.dts = last = time if last is None else max(time, last + 1)
        if not waiting:
            ready.duration = max(1, end - lead - last)
        yield ready
