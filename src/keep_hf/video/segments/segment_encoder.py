"""Encoding of frames, in a thread, into segments: files of packets that are independent and can be joined.

The encoder starts from scratch with each segment and always has the same settings, so the packets of a segment never
refer to those of another, and one header is valid for all of them.
"""

import os
import queue
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from ..colour import Colour, from_rgb


PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")

# x264's AVX-512 code reads uninitialised memory when the width is not a multiple of 128, and then encodes the same
# frames differently each time; without it the result is that of plain C. (Found with x264 165 under MALLOC_PERTURB_.)
CPU_AVX512_SKX = 256  # OpenCV's constant, which its Python module does not export
REPRODUCIBLE = {"x264-params": "asm=avx2"} if cv2.checkHardwareSupport(CPU_AVX512_SKX) else {}

# The output of x264 depends on its number of threads, so that must not be the number of cores of the machine.
THREADS = 8
# Number of frames that wait for the encoder, at most.
QUEUE_SIZE = 4

# Before each packet in the file: presentation time, duration, size in bytes, whether it is a key frame.
HEADER = struct.Struct("<qqI?")


@dataclass(frozen=True)
class Encoding:
    """Settings of an encoder.

    Args:
        encoder (`str`): `"libx264"` or `"libvpx-vp9"`.
        width, height (`int`): Size of the frames in pixels.
        frame_rate (`Fraction`): Frames per second.
        time_base (`Fraction`): Seconds per unit of the timestamps.
        crf (`int`): Constant rate factor, from 0 (lossless) to 51.
        preset (`str`): One of `PRESETS`; for x264 only.
        colour ([`Colour`]): Colour description to convert to and to declare.
        pixel_aspect (`Fraction`): Width of a pixel divided by its height.
    """

    encoder: str
    width: int
    height: int
    frame_rate: Fraction
    time_base: Fraction
    crf: int
    preset: str
    colour: Colour
    pixel_aspect: Fraction

    @property
    def pixel_format(self) -> str:
        """The pixel format of the encoded video."""
        # x264 accepts odd sides only in 4:4:4; padding would be visible and cropping would lose a line.
        is_odd = self.width % 2 or self.height % 2
        return "yuv444p" if is_odd and self.encoder == "libx264" else "yuv420p"

    @property
    def frame_duration(self) -> int:
        """Duration of a frame at the frame rate, in units of `time_base`."""
        return max(1, round(1 / (self.frame_rate * self.time_base)))

    def configure(self, context: VideoCodecContext) -> None:
        """Apply the settings to an encoder that is not open yet."""
        options = {"crf": str(self.crf)}
        if self.encoder == "libx264":
            options |= {"preset": self.preset} | REPRODUCIBLE
        else:
            options |= {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
        context.options = options
        context.width, context.height = self.width, self.height
        context.framerate, context.time_base = self.frame_rate, self.time_base
        context.pix_fmt = self.pixel_format
        context.thread_type = "FRAME"  # PyAV's default divides each frame into slices, which reduces quality
        context.thread_count = THREADS
        context.colorspace, context.color_range = self.colour.matrix, ColorRange.MPEG
        context.color_primaries, context.color_trc = self.colour.primaries, self.colour.transfer
        context.sample_aspect_ratio = self.pixel_aspect

    def to_frame(self, image: np.ndarray, pts: int) -> av.VideoFrame:
        """Convert an RGB image, uint8 of shape `(height, width, 3)`, to a frame for the encoder."""
        frame = from_rgb(image, self.colour, self.pixel_format)
        frame.pts, frame.time_base = pts, self.time_base
        return frame


class TimedImage(NamedTuple):
    """An image to encode, with its time and duration in units of the encoding's time base."""

    image: np.ndarray
    pts: int
    duration: int


class SegmentEncoder:
    """Encodes frames into a file of packets, in a thread of its own.

    Args:
        path (`Path`): The file to write.
        encoding ([`Encoding`]): Settings of the encoder.

    Raises:
        OSError: From `write` or `finish`, if an earlier frame could not be written.
    """

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self.path, self.encoding = path, encoding
        self._images: queue.Queue[TimedImage | None] = queue.Queue(QUEUE_SIZE)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def write(self, image: np.ndarray, pts: int, duration: int) -> None:
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
                    file.write(HEADER.pack(packet.pts, duration, len(content), packet.is_keyframe))
                    file.write(content)
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


def read_segment(path: Path, time_base: Fraction) -> Iterator[av.Packet]:
    """Read the packets of a segment in decoding order; the caller sets their decoding times."""
    with open(path, "rb") as file:
        while header := file.read(HEADER.size):
            pts, duration, size, is_keyframe = HEADER.unpack(header)
            packet = av.Packet(file.read(size))
            packet.pts, packet.duration, packet.is_keyframe = pts, duration, is_keyframe
            packet.time_base = time_base
            yield packet
