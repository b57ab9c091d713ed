"""Reading of video files: frames with their true timestamps.

`VideoReader` yields RGB frames as a player shows them: rotated upright, with the colours converted by the file's own
matrix and range. Frames are uint8 of shape `(h, w, 3)`; a frame appears at `pts * time_base` seconds.
"""

import os
import queue
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

import av
import numpy as np
from av.container import InputContainer
from av.format import Flags as FormatFlags
from av.video.stream import VideoStream

from .colour import read_colour, to_rgb
from .containers import find_video_stream, open_container


T = TypeVar("T")


@dataclass(frozen=True)
class VideoFrame:
    """One frame as displayed.

    Args:
        image (`np.ndarray`): RGB uint8 of shape `(h, w, 3)`.
        pts (`int`): When the frame appears, in units of `time_base`.
        time_base (`Fraction`): Seconds per unit.
        duration (`int`): How long it is shown, in units of `time_base`.
    """

    image: np.ndarray
    pts: int
    time_base: Fraction
    duration: int


@dataclass(frozen=True)
class Orientation:
    """How stored frames are transformed for display: transposed first, then mirrored."""

    transposed: bool
    mirrored_x: bool
    mirrored_y: bool

    @classmethod
    def read(cls, frame: av.VideoFrame) -> "Orientation":
        """Read the display matrix of a frame.

        It maps (x, y) to (a x + c y, b x + d y) with y pointing down; files contain quarter turns and reflections.
        """
        side_data: Any = frame.side_data
        if "DISPLAYMATRIX" not in side_data:
            return cls(False, False, False)
        a, b, _, c, d = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), dtype=np.int32)[:5]
        return cls(True, bool(c < 0), bool(b < 0)) if abs(b) > abs(a) else cls(False, bool(a < 0), bool(d < 0))

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Transform an image `(h, w, 3)`; the result is contiguous."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        if self.mirrored_x:
            image = image[:, ::-1]
        if self.mirrored_y:
            image = image[::-1]
        return np.ascontiguousarray(image)


class VideoReader:
    """A video file as a sequence of `VideoFrame`, which can be iterated over any number of times.

    Every iteration opens the file again and decodes on demand; no frames are kept in memory. Leaving the `with` block
    closes iterations that were not finished.

    Args:
        path (`str` or `os.PathLike`): A video file, in any format that FFmpeg decodes.

    Attributes:
        width, height (`int`): Size of the frames as displayed, in pixels.
        rotation (`int`): Degrees, counterclockwise, by which the stored frames are rotated for display.
        frame_rate (`Fraction`): Average, in frames per second.
        time_base (`Fraction`): Seconds per unit of the timestamps.
        num_frames (`int`, *optional*): Number of frames according to the file; `None` if the file does not contain it.
        has_audio (`bool`): Whether the file has audio.
        colour ([`Colour`]): Meaning of the file's YUV values.
        pixel_aspect (`Fraction`): Width of a displayed pixel divided by its height.
        start (`Fraction`): Seconds on the clock of the file that correspond to time 0.

    Raises:
        ValueError: If the file is missing, is not a video, or has no frames; while iterating, if it is damaged.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._unfinished: set[InputContainer] = set()
        # Leaving the `with` block closes containers that another thread (see `prefetch`) may be decoding.
        self._lock = threading.RLock()
        with open_container(self.path) as container:
            stream = find_video_stream(container, self.path)
            first = _decode_first(container, stream, self.path)
            self.has_audio = bool(container.streams.audio)
            self.num_frames = stream.frames or None
            self._read_timing(container, stream, first)
            self._read_geometry(stream, first)
            self.colour = read_colour(first, self.path)
        _warn_of_losses(first, self.path)

    def _read_timing(self, container: InputContainer, stream: VideoStream, first: av.VideoFrame) -> None:
        self.time_base = cast(Fraction, first.time_base)
        # Raw streams and AVI have no presentation times; those of AVI are in decoding order, wrong with B-frames.
        self._has_times = first.pts is not None and container.format.name != "avi"
        rate = stream.guessed_rate if first.pts is None else stream.average_rate
        self.frame_rate = rate or stream.guessed_rate or 1 / (first.duration * self.time_base)
        # The clock of broadcast formats starts at any value; players subtract the start of the file.
        is_discontinuous = container.format.flags & cast(int, FormatFlags.ts_discont.value)
        self.start = Fraction(container.start_time or 0, av.time_base) if is_discontinuous else Fraction(0)

    def _read_geometry(self, stream: VideoStream, first: av.VideoFrame) -> None:
        self._stored_size = (first.width, first.height)
        self.rotation = first.rotation
        self._orientation = Orientation.read(first)
        pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        if self._orientation.transposed:
            self.height, self.width = self._stored_size
            self.pixel_aspect = 1 / pixel_aspect
        else:
            self.width, self.height = self._stored_size
            self.pixel_aspect = pixel_aspect

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            for container in list(self._unfinished):
                self._close(container)

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.read()

    def read(self, start: int = 0) -> Iterator[VideoFrame]:
        """Decode the file from its beginning, and yield the frames from number `start` on.

        Args:
            start (`int`, *optional*, defaults to 0): Number of frames to skip. They are decoded, because timestamps
                and later frames depend on them, but not converted to RGB.

        Returns:
            `Iterator[VideoFrame]`: The frames, with the same timestamps as when all frames are read.

        Raises:
            ValueError: If the file is damaged.
        """
        index = previous = 0
        step = max(1, round(1 / (self.frame_rate * self.time_base)))
        container = open_container(self.path)
        self._unfinished.add(container)
        try:
            stream = find_video_stream(container, self.path)
            stream.thread_type = "AUTO"
            decoded = container.decode(stream)
            while (frame := self._decode_next(container, decoded)) is not None:
                self._check_size(frame, index)
                pts = self._timestamp(frame, index)
                if index and pts <= previous:
                    pts = previous + step  # a badly joined or repaired file: timestamps must increase
                if index >= start:
                    image = self._orientation.apply(to_rgb(frame, self.colour))
                    yield VideoFrame(image, pts, self.time_base, frame.duration or step)
                previous = pts
                index += 1
        except av.FFmpegError as error:
            raise ValueError(
                f"{self.path}: frame {index} cannot be decoded ({error.strerror}); the file is damaged there."
            ) from error
        finally:
            self._close(container)

    def _decode_next(self, container: InputContainer, decoded: Iterator[av.VideoFrame]) -> av.VideoFrame | None:
        with self._lock:
            return next(decoded, None) if container in self._unfinished else None

    def _check_size(self, frame: av.VideoFrame, index: int) -> None:
        size = (frame.width, frame.height)
        if size != self._stored_size:
            raise ValueError(
                f"{self.path}: the frame size changes from {self._stored_size} to {size} at frame {index}; cut the "
                "file there."
            )

    def _timestamp(self, frame: av.VideoFrame, index: int) -> int:
        if self._has_times and frame.pts is not None:
            return frame.pts - round(self.start / self.time_base)
        return round(index / (self.frame_rate * self.time_base))

    def _close(self, container: InputContainer) -> None:
        with self._lock:
            if container in self._unfinished:
                self._unfinished.remove(container)
                container.close()


def prefetch(items: Iterator[T], depth: int = 4) -> Iterator[T]:
    """Run an iterator in a thread of its own, which prepares the next items while the caller processes others.

    The thread ends soon after the returned iterator is closed or garbage-collected. An exception of `items` is raised
    in place of the item that it prevented.

    Args:
        items (`Iterator`): The iterator to run.
        depth (`int`, *optional*, defaults to 4): Number of items prepared in advance, at most.

    Returns:
        `Iterator`: The same items.
    """
    waiting: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(depth)
    closed = threading.Event()

    def run() -> None:
        end = None
        try:
            for item in items:
                waiting.put((item,))
                if closed.is_set():
                    return
        except BaseException as error:
            end = error
        waiting.put(end)

    threading.Thread(target=run, name="prefetch", daemon=True).start()
    try:
        while isinstance(got := waiting.get(), tuple):
            yield got[0]
        if got is not None:
            raise got
    finally:
        # The thread may be blocked on a full queue: emptying it lets the thread see the event and end.  It is not
        # joined, because Python may collect an abandoned iterator in any thread, even in that one.
        closed.set()
        while not waiting.empty():
            waiting.get_nowait()


def _decode_first(container: InputContainer, stream: VideoStream, path: Path) -> av.VideoFrame:
    try:
        first = next(container.decode(stream), None)
    except av.FFmpegError as error:
        raise ValueError(f"{path}: the first frame cannot be decoded ({error.strerror}).") from error
    if first is None:
        raise ValueError(f"{path} has a video stream, but no frames.")
    return first


def _warn_of_losses(first: av.VideoFrame, path: Path) -> None:
    components = first.format.components
    bits = max(component.bits for component in components)
    if any(component.is_alpha for component in components):
        warnings.warn(f"{path}: transparency is ignored.", stacklevel=3)
    if bits > 8:
        warnings.warn(f"{path} has {bits} bits per colour; the output has 8.", stacklevel=3)
    if first.interlaced_frame:
        warnings.warn(
            f"{path} is interlaced, and its frames are not deinterlaced; deinterlace it first for best results.",
            stacklevel=3,
        )
