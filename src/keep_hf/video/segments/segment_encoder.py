"""Encoding of frames, in a thread, into segments: files of packets that are independent and can be joined.

The encoder starts from scratch with each segment and always has the same settings, so the packets of a segment never
refer to those of another, and one header is valid for all of them.
"""

import os
import queue
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

import av
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from ..deep.deep_image import DeepImage
from .encoding import Encoding


# Number of frames that wait for the encoder, at most.
QUEUE_SIZE = 4

# Before each packet in the file: presentation time, duration, size in bytes, whether it is a key frame.
HEADER = struct.Struct("<qqI?")


class TimedImage(NamedTuple):
    """An image to encode, with its time and duration in units of the encoding's time base."""

    image: np.ndarray | DeepImage
    pts: int
    duration: int


class SegmentEncoder:
    """Encodes frames into a file of packets, in a thread of its own.

    Args:
        path (`Path`): The file to write.
        encoding ([`Encoding`]): Settings of the encoder.

    Attributes:
        checksum (`int`): CRC-32 of the file, once it is finished.

    Raises:
        OSError: From `write` or `finish`, if an earlier frame could not be written.
    """

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self.path, self.encoding = path, encoding
        self._images: queue.Queue[TimedImage | None] = queue.Queue(QUEUE_SIZE)
        self._error: Exception | None = None
        self.checksum = 0
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def write(self, image: np.ndarray | DeepImage, pts: int, duration: int) -> None:
        """Hand the next frame to the thread; blocks while the queue is full."""
        if self._error is not None:
            raise self._error
        self._images.put(TimedImage(image, pts, duration))

    def finish(self) -> None:
        """Wait until all frames are in the file and the file is on the disk."""
        self.abandon()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """Wait for the thread, whether or not it failed."""
        self._images.put(None)
        self._thread.join()

    def _run(self) -> None:
        images = iter(self._images.get, None)
        try:
            with open(self.path, "wb") as file:
                for packet, duration in self._encode(images):
                    content = bytes(packet)
                    for part in (HEADER.pack(packet.pts, duration, len(content), packet.is_keyframe), content):
                        self.checksum = zlib.crc32(part, self.checksum)
                        file.write(part)
                file.flush()
                os.fsync(file.fileno())
        except Exception as error:
            self._error = error
            for _ in images:  # so that `write` does not block before it raises the error
                pass

    def _encode(self, images: Iterable[TimedImage]) -> Iterator[tuple[av.Packet, int]]:
        context = cast(VideoCodecContext, av.CodecContext.create(self.encoding.encoder, "w"))
        self.encoding.configure(context)
        context.flags |= int(Flags.global_header)  # one header, in the final file
        durations: dict[int, int] = {}
        for image, pts, duration in images:
            durations[pts] = duration
            for packet in context.encode(self.encoding.to_frame(image, pts)):
                yield packet, durations.pop(cast(int, packet.pts))
        for packet in context.encode(None):
            yield packet, durations.pop(cast(int, packet.pts))


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with open(path, "rb") as file:
        while part := file.read(2**20):
            value = zlib.crc32(part, value)
    return value


def read_segment(path: Path, time_base: Fraction) -> Iterator[av.Packet]:
    """Read the packets of a segment in decoding order; the caller sets their decoding times."""
    with open(path, "rb") as file:
        while header := file.read(HEADER.size):
            pts, duration, size, is_keyframe = HEADER.unpack(header)
            packet = av.Packet(file.read(size))
            packet.pts, packet.duration, packet.is_keyframe = pts, duration, is_keyframe
            packet.time_base = time_base
            yield packet
