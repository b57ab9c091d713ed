"""Damaged and truncated copies of small videos."""

import itertools
from collections.abc import Collection
from pathlib import Path

import av

from media import write_clip


GARBAGE = b"garbage" * 20


def damage_packets(source: Path, target: Path, damaged: Collection[int], content: bytes | float = GARBAGE) -> Path:
    """Copy a file, with packets of its video (by their number in decoding order) whose content is replaced.

    `content` replaces it, or is the part of it that is kept: the rest becomes zeros.
    """
    with av.open(str(source)) as whole, av.open(str(target), "w") as container:
        streams = {stream.index: container.add_stream_from_template(stream, opaque=True) for stream in whole.streams}
        numbers = itertools.count()
        for packet in whole.demux():
            if packet.size == 0:
                continue
            copy = av.Packet(bytes(packet))
            if packet.stream.type == "video" and next(numbers) in damaged:
                kept = int(content * packet.size) if isinstance(content, float) else 0
                copy = av.Packet(bytes(packet)[:kept] + bytes(packet.size - kept) if kept else content)
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
            copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
            copy.stream = streams[packet.stream.index]
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


def join_sizes(source: Path, target: Path, size: tuple[int, int] = (128, 96)) -> Path:
    """Append a video of another size and 6 frames to a raw stream."""
    other = write_clip(
        target.with_name(f"other_{target.name}"), width=size[0], height=size[1], num_frames=6, container_format="h264"
    )
    target.write_bytes(source.read_bytes() + other.read_bytes())
    return target
