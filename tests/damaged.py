"""Damaged and truncated copies of small videos."""

from collections.abc import Collection
from pathlib import Path

import av


GARBAGE = b"garbage" * 20


def damage_packets(source: Path, target: Path, damaged: Collection[int], content: bytes | float = GARBAGE) -> Path:
    """Copy the video of a file with packets (by their number in decoding order) whose content is replaced.

    `content` replaces it, or is the part of it that is kept: the rest becomes zeros.
    """
    with av.open(str(source)) as whole, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(whole.streams.video[0], opaque=True)
        for index, packet in enumerate(packet for packet in whole.demux(video=0) if packet.size):
            copy = av.Packet(bytes(packet))
            if index in damaged and isinstance(content, float):
                kept = int(content * packet.size)
                copy = av.Packet(bytes(packet)[:kept] + bytes(packet.size - kept))
            elif index in damaged:
                copy = av.Packet(content)
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
            copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, stream
            container.mux(copy)
    return target


def move_index_to_front(source: Path, target: Path) -> Path:
    """Copy an MP4 as for downloads, which can be played while they are incomplete."""
    with av.open(str(source)) as whole, av.open(str(target), "w", options={"movflags": "faststart"}) as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    return target


def truncate(source: Path, target: Path, kept: float = 0.5) -> Path:
    """Copy the first part of a file."""
    content = source.read_bytes()
    target.write_bytes(content[: int(kept * len(content))])
    return target
