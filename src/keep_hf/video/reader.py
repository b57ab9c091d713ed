"""Video files in: frames with their true timestamps.

`VideoReader` gives RGB frames as a player shows them: turned upright, colours converted by the file's own matrix and
range. Frames are uint8 of shape (h, w, 3); times are `pts * time_base` seconds.
"""

import os
import queue
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar, cast

import av
import numpy as np
from av.container import InputContainer
from av.format import Flags as FormatFlags
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream


T = TypeVar("T")

# The numbers of ITU-T H.273 for the matrices that swscale can convert: BT.709, FCC, BT.601 (two numbers), SMPTE 240M
# and BT.2020. RGB and "unspecified" need a decision of ours.
MATRICES = (1, 4, 5, 6, 7, 9)
MATRIX_RGB, MATRIX_UNSPECIFIED, MATRIX_601 = 0, 2, 6

# swscale's defaults are off by a level or two on every pixel (47 dB from YUV to RGB and back; with these, 77 dB).
# In FFmpeg's numbers: PyAV 17, the last for Python 3.10, has no names for full chroma (0x2000 going in, 0x4000 coming
# out) and accurate rounding (0x40000).
EXACT = Interpolation.BILINEAR | 0x2000 | 0x4000 | 0x40000

# swscale honours the range of YUV, but takes all grey for full range.
FULL_GREY = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class VideoFrame:
    """One frame as displayed.

    Args:
        image (`np.ndarray`): RGB uint8 of shape (h, w, 3).
        pts (`int`): When the frame appears, in units of `time_base`.
        time_base (`Fraction`): Seconds per unit.
        duration (`int`): How long it stays, in units of `time_base`.
    """

    image: np.ndarray
    pts: int
    time_base: Fraction
    duration: int


@dataclass(frozen=True)
class Colour:
    """What the YUV numbers of a file mean, in the numbers of ITU-T H.273."""

    matrix: int = int(Colorspace.ITU709)
    primaries: int = int(ColorPrimaries.BT709)
    transfer: int = int(ColorTrc.BT709)


class VideoReader:
    """A video file as a sequence of `VideoFrame`, which can be iterated over again and again.

    Every iteration opens the file anew and decodes as it goes; nothing is held in memory. Leaving the `with` block
    closes iterations that were not finished.

    Args:
        path (`str` or `os.PathLike`): A video file, in any format that FFmpeg decodes.

    Attributes:
        width, height (`int`): Of the frames as displayed, in pixels.
        rotation (`int`): Degrees, counterclockwise, by which the stored pictures are turned for display.
        frame_rate (`Fraction`): Average, in frames per second.
        time_base (`Fraction`): Seconds per unit of the timestamps.
        num_frames (`int`, *optional*): What the file says about itself; `None` if it says nothing.
        has_audio (`bool`): Whether the file has sound.

    Raises:
        ValueError: If the file is missing, not a video, or has no frame; while iterating, if it is damaged.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._unfinished: set[InputContainer] = set()
        # Who leaves the `with` block closes what another thread (see `ahead`) may be decoding at that moment.
        self._lock = threading.RLock()
        with open_container(self.path) as container:
            stream = video_stream(container, self.path)
            try:
                first = next(container.decode(stream), None)
            except av.FFmpegError as error:
                raise ValueError(f"{self.path}: the first frame cannot be decoded ({error.strerror}).") from error
            if first is None:
                raise ValueError(f"{self.path} has a video stream, but no frame in it.")

            self.has_audio = bool(container.streams.audio)
            self.num_frames = stream.frames or None
            self.time_base = cast(Fraction, first.time_base)
            # Raw streams and AVI hold no presentation times (AVI's are in decoding order, wrong with B-frames).
            self._untimed = first.pts is None or container.format.name == "avi"
            rate = stream.guessed_rate if first.pts is None else stream.average_rate
            self.frame_rate = rate or stream.guessed_rate or 1 / (first.duration * self.time_base)
            # The clock of broadcast formats starts anywhere; players subtract where the file begins.
            discontinuous = container.format.flags & cast(int, FormatFlags.ts_discont.value)
            self.start = Fraction(container.start_time or 0, av.time_base) if discontinuous else Fraction(0)

            self._read_geometry(stream, first)
            self.colour = _colour(first, self.path)
            if any(component.is_alpha for component in first.format.components):
                warnings.warn(f"{self.path}: the transparency is ignored.", stacklevel=2)
            bits = max(component.bits for component in first.format.components)
            if bits > 8:
                warnings.warn(f"{self.path} has {bits} bits per colour; the output has 8.", stacklevel=2)
            if first.interlaced_frame:
                warnings.warn(
                    f"{self.path} is interlaced and is read as it is; deinterlace it first for best results.",
                    stacklevel=2,
                )

    def _read_geometry(self, stream: VideoStream, first: av.VideoFrame) -> None:
        self._stored_size = (first.width, first.height)
        self.rotation = first.rotation
        # The display matrix sends (x, y) to (a x + c y, b x + d y), y downwards; files hold quarter turns and mirrors.
        a, b, c, d = 1, 0, 0, 1
        side_data: Any = first.side_data
        if "DISPLAYMATRIX" in side_data:
            a, b, _, c, d = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), dtype=np.int32)[:5]
        self._transposed = abs(b) > abs(a)
        self._mirrored_x, self._mirrored_y = (c < 0, b < 0) if self._transposed else (a < 0, d < 0)
        self.width, self.height = self._stored_size[::-1] if self._transposed else self._stored_size
        pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        self.pixel_aspect = 1 / pixel_aspect if self._transposed else pixel_aspect

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exception) -> None:
        with self._lock:
            for container in list(self._unfinished):
                self._close(container)

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.read()

    def read(self, start: int = 0) -> Iterator[VideoFrame]:
        """Decode the file from its beginning, and give the frames from number `start` on.

        Args:
            start (`int`, *optional*, defaults to 0): Frames to leave out; they are decoded, for their times and for
                the frames that build upon them, but not converted.

        Returns:
            `Iterator[VideoFrame]`: with the times that they have when all frames are read.

        Raises:
            ValueError: If the file is damaged.
        """
        index = previous = 0
        step = max(1, round(1 / (self.frame_rate * self.time_base)))
        origin = round(self.start / self.time_base)
        container = open_container(self.path)
        self._unfinished.add(container)
        try:
            stream = video_stream(container, self.path)
            stream.thread_type = "AUTO"
            frames = container.decode(stream)
            while (frame := self._decode_next(container, frames)) is not None:
                if (frame.width, frame.height) != self._stored_size:
                    raise ValueError(
                        f"{self.path}: the picture size changes from {self._stored_size} to "
                        f"{(frame.width, frame.height)} at frame {index}; cut the file there."
                    )
                if self._untimed or frame.pts is None:
                    pts = round(index / (self.frame_rate * self.time_base))
                else:
                    pts = frame.pts - origin
                if index and pts <= previous:
                    pts = previous + step  # a file joined or repaired badly: time must go on
                if index >= start:
                    yield VideoFrame(self._picture(frame), pts, self.time_base, frame.duration or step)
                previous = pts
                index += 1
        except av.FFmpegError as error:
            raise ValueError(
                f"{self.path}: frame {index} cannot be decoded ({error.strerror}); the file is damaged there."
            ) from error
        finally:
            self._close(container)

    def _decode_next(self, container: InputContainer, frames: Iterator[av.VideoFrame]) -> av.VideoFrame | None:
        with self._lock:
            return next(frames, None) if container in self._unfinished else None

    def _close(self, container: InputContainer) -> None:
        with self._lock:
            if container in self._unfinished:
                self._unfinished.remove(container)
                container.close()

    def _picture(self, frame: av.VideoFrame) -> np.ndarray:
        rgb = frame.reformat(
            format="rgb24",
            src_colorspace=self.colour.matrix,
            dst_colorspace=self.colour.matrix,
            interpolation=EXACT,
        )
        image = rgb.to_ndarray()
        if frame.format.name.startswith("gray") and frame.color_range == ColorRange.MPEG:
            image = FULL_GREY[image]
        if self._transposed:
            image = image.transpose(1, 0, 2)
        if self._mirrored_x:
            image = image[:, ::-1]
        if self._mirrored_y:
            image = image[::-1]
        return np.ascontiguousarray(image)


def ahead(items: Iterator[T], depth: int = 4) -> Iterator[T]:
    """Run an iterator in a thread of its own, which prepares items while others are being worked on.

    The thread ends soon after the returned iterator is closed or forgotten. An exception of `items` is raised where
    its next item would have come.

    Args:
        items (`Iterator`): What to run.
        depth (`int`, *optional*, defaults to 4): How many items may wait.

    Returns:
        `Iterator`: the same items.
    """
    waiting: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(depth)
    left = threading.Event()

    def run() -> None:
        end = None
        try:
            for item in items:
                waiting.put((item,))
                if left.is_set():
                    return
        except BaseException as error:
            end = error
        waiting.put(end)

    threading.Thread(target=run, name="ahead", daemon=True).start()
    try:
        while isinstance(got := waiting.get(), tuple):
            yield got[0]
        if got is not None:
            raise got
    finally:
        # The thread may wait for room: it finds some, sees the event and ends. It is not joined, for Python may
        # collect a forgotten iterator in any thread, even in that one.
        left.set()
        while not waiting.empty():
            waiting.get_nowait()


def open_container(path: Path) -> InputContainer:
    """Open a media file for reading."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a video file.")
    if not path.is_file():
        raise ValueError(f"{path} does not exist.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty.")
    try:
        # Old files have titles in old encodings.
        return av.open(str(path), metadata_errors="replace")
    except av.FFmpegError as error:
        raise ValueError(f"{path} is not a video, or is cut off or damaged ({error.strerror}).") from error


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Find the pictures of a video; covers are none."""
    # FFmpeg also "plays" single pictures and text (as a terminal would show it).
    name = container.format.name
    if name.startswith("image2") or name.endswith("_pipe") or name == "tty":
        raise ValueError(f"{path} is not a video, but a picture or text ({name}).")
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise ValueError(f"{path} has no video stream.")


def _colour(frame: av.VideoFrame, path: Path) -> Colour:
    matrix = frame.colorspace
    if matrix == MATRIX_RGB:
        matrix = int(Colorspace.ITU709)
    elif matrix == MATRIX_UNSPECIFIED:
        # What players assume.
        matrix = int(Colorspace.ITU709) if min(frame.width, frame.height) >= 720 else MATRIX_601
    if matrix not in MATRICES:
        raise ValueError(f"{path}: colour matrix {matrix} (ITU-T H.273) is not supported; convert the file first.")
    return Colour(matrix, frame.color_primaries, frame.color_trc)
