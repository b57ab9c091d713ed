"""The encoding of pictures, in a thread, into files of packets that stand alone and can be joined.

The encoder starts anew with each file and has the same settings every time, so packets of one file never refer to
those of another, and all go under the same header.
"""

import os
import queue
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from .reader import EXACT, Colour


PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")

# x264's AVX-512 code reads memory that was never written when the width is no multiple of 128, and so encodes the same
# frames differently each time; without it the result is that of plain C. (Found with x264 165 under MALLOC_PERTURB_.)
CPU_AVX512_SKX = 256  # OpenCV's number, which its Python module does not name
REPRODUCIBLE = {"x264-params": "asm=avx2"} if cv2.checkHardwareSupport(CPU_AVX512_SKX) else {}

# What x264 writes depends on the number of its threads, so it must not be that of the machine's cores.
THREADS = 8
# Frames that wait for the encoder.
WAITING = 4

# What stands before each packet in the file: presentation time, duration, size in bytes, whether it is a key frame.
HEADER = struct.Struct("<qqI?")


@dataclass(frozen=True)
class Encoding:
    """The settings of an encoder, "libx264" or "libvpx-vp9"; see `VideoWriter` for what they mean."""

    encoder: str
    width: int
    height: int
    frame_rate: Fraction
    time_base: Fraction
    crf: int
    preset: str
    colour: Colour
    pixel_aspect: Fraction

    def configure(self, context: VideoCodecContext) -> None:
        """Set up an encoder that is not open yet."""
        options = {"crf": str(self.crf)}
        if self.encoder == "libx264":
            options |= {"preset": self.preset} | REPRODUCIBLE
        else:
            options |= {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
        context.options = options
        context.width, context.height = self.width, self.height
        context.framerate, context.time_base = self.frame_rate, self.time_base
        # x264 takes odd sides only in 4:4:4; padding would show and cropping would lose a line.
        odd = self.width % 2 or self.height % 2
        context.pix_fmt = "yuv444p" if odd and self.encoder == "libx264" else "yuv420p"
        context.thread_type = "FRAME"  # PyAV's default cuts each picture into slices, which costs quality
        context.thread_count = THREADS
        # Always limited range, which every player shows right: swscale's full range is off by a level.
        context.colorspace, context.color_range = self.colour.matrix, ColorRange.MPEG
        context.color_primaries, context.color_trc = self.colour.primaries, self.colour.transfer
        context.sample_aspect_ratio = self.pixel_aspect


class SegmentEncoder:
    """Encodes frames into a file of packets, in a thread of its own.

    Args:
        path (`Path`): The file to write.
        encoding (`Encoding`): How.

    Raises:
        OSError: From `write` or `finish`, if a frame given before could not be written.
    """

    def __init__(self, path: Path, encoding: Encoding):
        self.path, self.encoding = path, encoding
        self._frames: queue.Queue[tuple[np.ndarray, int, int] | None] = queue.Queue(WAITING)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def write(self, image: np.ndarray, pts: int, duration: int) -> None:
        if self._error is not None:
            raise self._error
        self._frames.put((image, pts, duration))

    def finish(self) -> None:
        """Wait until all frames are in the file and the file is on the disk."""
        self.abandon()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """Wait for the thread, whatever came of its work."""
        self._frames.put(None)
        self._thread.join()

    def _run(self) -> None:
        frames = iter(self._frames.get, None)
        try:
            with open(self.path, "wb") as file:
                for packet, duration in self._encode(frames):
                    content = bytes(packet)
                    file.write(HEADER.pack(packet.pts, duration, len(content), packet.is_keyframe))
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except Exception as error:
            self._error = error
            for _ in frames:  # until `write` sees the error
                pass

    def _encode(self, frames: Iterable[tuple[np.ndarray, int, int]]) -> Iterator[tuple[av.Packet, int]]:
        context = cast(VideoCodecContext, av.CodecContext.create(self.encoding.encoder, "w"))
        self.encoding.configure(context)
        context.flags |= int(Flags.global_header)  # the header stands in the final file, once
        durations = {}
        for image, pts, duration in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            picture.colorspace = self.encoding.colour.matrix  # PyAV 17 would forget BT.2020 otherwise
            picture = picture.reformat(
                format=context.pix_fmt,
                dst_colorspace=self.encoding.colour.matrix,
                dst_color_range=ColorRange.MPEG,
                interpolation=EXACT,
            )
            picture.pts, picture.time_base = pts, self.encoding.time_base
            durations[pts] = duration
            for packet in context.encode(picture):
                yield packet, durations.pop(cast(int, packet.pts))
        for packet in context.encode(None):
            yield packet, durations.pop(cast(int, packet.pts))


def read_segment(path: Path, time_base: Fraction) -> Iterator[av.Packet]:
    """Read the packets of a file, in the order of decoding; decoding times are left to the caller."""
    with open(path, "rb") as file:
        while header := file.read(HEADER.size):
            pts, duration, size, is_keyframe = HEADER.unpack(header)
            packet = av.Packet(file.read(size))
            packet.pts, packet.duration, packet.is_keyframe = pts, duration, is_keyframe
            packet.time_base = time_base
            yield packet
