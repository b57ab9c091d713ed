"""The frame rate of files that do not contain it."""

from fractions import Fraction
from itertools import islice
from pathlib import Path

import av

from ..containers import open_container


NUM_PACKETS = 100  # that are read


def measure_rate(path: Path, video_index: int) -> Fraction | None:
    """Measure the average frame rate at the beginning of a file.

    Args:
        path (`Path`): The file.
        video_index (`int`): Index of its video stream.

    Returns:
        `Fraction`, *optional*: Frames per second; `None` for a single frame, or if the file is damaged there.
    """
    times = []
    with open_container(path) as container:
        stream = container.streams[video_index]
        try:
            for packet in islice((packet for packet in container.demux(stream) if packet.size), NUM_PACKETS):
                time = packet.dts if packet.pts is None else packet.pts
                if time is not None:
                    times.append(time * packet.time_base)
        except av.FFmpegError:
            return None
    seconds = max(times) - min(times) if times else Fraction(0)
    return (len(times) - 1) / seconds if seconds > 0 else None
