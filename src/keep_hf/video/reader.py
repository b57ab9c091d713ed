"""Reading of video files: frames with their true timestamps.

`VideoReader` yields RGB frames as a player shows them: rotated upright, with the colours converted by the file's own
matrix and range. Frames are uint8 of shape `(h, w, 3)`; a frame appears at `pts * time_base` seconds.
"""

import contextlib
import functools
import os
import queue
import threading
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast

import av
from av.container import InputContainer
from av.format import Flags as FormatFlags
from av.video.stream import VideoStream

from .containers import find_video_stream, open_container
from .decoding.conversion import FrameConverter
from .decoding.damage import Damage
from .decoding.frames import DecodedFrame, decode_frames
from .decoding.source import FrameSource, VideoFrame
from .decoding.truncation import announced_frames, is_cut_off, stops_early
from .media_files import MAX_PIXELS
from .timing.clock import Clock, read_clock
from .timing.frame_rate import measure_rate
from .timing.frame_times import FrameTimes


T = TypeVar("T")
# Formats whose index leads to the key frame before any time.
INDEXED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
# Frames per second. FFmpeg takes the resolution of the clock, such as 1000, for the rate of some files whose rate
# varies, for example what browsers record.
PLAUSIBLE_RATE = 120


class _ClosedError(Exception):
    """The reader was closed while another thread decoded."""


class VideoReader(FrameSource):
    """A video file as a sequence of `VideoFrame`, which can be iterated over any number of times.

    Every iteration opens the file again and decodes on demand; no frames are kept in memory. Leaving the `with` block
    closes iterations that were not finished.

    In the place of a frame that cannot be decoded, the last good frame is shown again. A truncated file ends where its
    content ends, and frames of another size are fitted into the size of the first. Warnings at the end of the file
    count them.

    Args:
        path (`str` or `os.PathLike`): A video file, in any format that FFmpeg decodes.
        stream (`int`, *optional*): Index of the video stream in the file, counted from 0 over streams of all types. By
            default the stream that is marked as the default, or else the first.
        strict (`bool`, *optional*, defaults to `False`): Raise an error instead of these warnings.

    Attributes:
        stream (`int`): Index of the stream in the file.
        width, height (`int`): Size of the frames as displayed, in pixels.
        rotation (`int`): Degrees, counterclockwise, by which the stored frames are rotated for display.
        frame_rate (`Fraction`): Average, in frames per second.
        time_base (`Fraction`): Seconds per unit of the timestamps.
        num_frames (`int`, *optional*): Number of frames according to the file; `None` if the file does not contain it.
        audio_streams (`list[int]`): Indices of the audio streams in the file.
        codec (`str`): FFmpeg's name of the codec.
        colour ([`Colour`]): How the RGB frames become YUV values of 8 bits: as in the file, except for HDR, whose
            frames are mapped to the standard range.
        deep ([`DeepFormat`], *optional*): Meaning of the file's values if it has more than 8 bits per colour.
        pixel_aspect (`Fraction`): Width of a displayed pixel divided by its height.
        start (`Fraction`): Seconds on the clock of the file that correspond to time 0.
        damage ([`Damage`]): What was damaged, once an iteration has reached the end of the file.

    Raises:
        ValueError: If the file is missing, is not a video, or has no frames or no such stream; with `strict`, if it is
            truncated and, while iterating, if it is damaged.
    """

    def __init__(self, path: str | os.PathLike, stream: int | None = None, strict: bool = False) -> None:
        super().__init__(Path(path), strict)
        self._unfinished: set[InputContainer] = set()
        # Leaving the `with` block closes containers that another thread (see `prefetch`) may be decoding.
        self._lock = threading.RLock()
        with open_container(self.path) as container:
            video = find_video_stream(container, self.path, stream)
            self.stream = video.index
            self._is_cut_off = is_cut_off(container, self.path)
            if strict and self._is_cut_off:
                raise ValueError(
                    f"{self.path} is truncated: it ends before the end that its header announces. Without strict, it "
                    "is read up to there."
                )
            first = _decode_first(container, video, self.path)
            self.audio_streams = [audio.index for audio in container.streams.audio]
            self.num_frames = video.frames or None
            self.codec = video.codec_context.codec.canonical_name
            self._converter = FrameConverter(first, self.path)
            self.colour, self.deep = self._converter.colour, self._converter.deep
            self._read_timing(container, video, first)
            self._num_announced = announced_frames(container, video, self.frame_rate)
            self._read_geometry(video, first)
        _warn_of_losses(first, self.path)

    def _read_timing(self, container: InputContainer, stream: VideoStream, first: av.VideoFrame) -> None:
        self.time_base = cast(Fraction, first.time_base)
        # FFmpeg guesses presentation times for AVI, which has none.
        self._times = (
            "decoding" if container.format.name == "avi" else "presentation" if first.pts is not None else "none"
        )
        rate = stream.guessed_rate if first.pts is None else stream.average_rate
        self.frame_rate = rate or stream.guessed_rate or 1 / (first.duration * self.time_base)
        if first.pts is not None and self.frame_rate > PLAUSIBLE_RATE:
            measured = measure_rate(self.path, stream.index)
            # Where it is about the same, the rate that the file contains is the exact one.
            self.frame_rate = measured if measured and 2 * measured < self.frame_rate else self.frame_rate
        # The clock of broadcast formats starts at any value; players subtract the start of the file.
        self._has_index = container.format.name in INDEXED_FORMATS
        is_discontinuous = container.format.flags & cast(int, FormatFlags.ts_discont.value)
        self.start = Fraction(container.start_time or 0, av.time_base) if is_discontinuous else Fraction(0)

    def _read_geometry(self, stream: VideoStream, first: av.VideoFrame) -> None:
        self._stored_size = (first.width, first.height)
        self.rotation = first.rotation
        self.width, self.height = self._converter.size
        pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        self.pixel_aspect = 1 / pixel_aspect if self._converter.orientation.transposed else pixel_aspect

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            for container in list(self._unfinished):
                self._close(container)

    @property
    def can_seek(self) -> bool:
        """Whether `read` can begin in the middle: the file has an index, and its clock does not restart."""
        return self._has_index and self._times == "presentation" and not self.clock.shifts

    def read(self, start: int = 0, *, deep: bool = False, from_pts: int | None = None) -> Iterator[VideoFrame]:
        """Decode the file from its beginning, and yield the frames from number `start` on.

        Args:
            start (`int`, *optional*, defaults to 0): Number of frames to skip. They are decoded, because timestamps
                and later frames depend on them, but not converted to RGB.
            deep (`bool`, *optional*, defaults to `False`): Also return the frames of videos with more than 8 bits per
                colour as 10-bit YUV, which doubles their memory.
            from_pts (`int`, *optional*): Begin at the key frame before the frame with this timestamp, which becomes
                number 0; needs `can_seek`. What a decoder makes of a file may depend on where it begins: compare the
                frames where that matters.

        Returns:
            `Iterator[VideoFrame]`: The frames, with the same timestamps as when all frames are read.

        Raises:
            ValueError: If the file is damaged and the reader is strict.
        """
        damage = Damage(is_cut_off=self._is_cut_off, num_announced=self._num_announced)
        # Another thread may close the reader (see `prefetch`); the frames then end early.
        with contextlib.suppress(_ClosedError):
            yield from self._read(start, damage, deep, from_pts)
            self._report(damage)

    def _read(self, start: int, damage: Damage, deep: bool, from_pts: int | None) -> Iterator[VideoFrame]:
        times, good, end = self._open_times(), None, 0
        for decoded in self._decode(from_pts):
            index = damage.num_read
            good = decoded.frame or good
            pts = times.next(decoded.pts, decoded.frame.dts if decoded.frame else None)
            if from_pts is not None and pts < from_pts:
                continue
            self._record(decoded, damage)
            if good is None:
                continue
            damage.num_read += 1
            duration = (decoded.frame.duration if decoded.frame else 0) or times.step
            end = pts + duration
            if index >= start:
                image = self._converter.to_image(good)
                deep_image = self._converter.to_deep_image(good, image) if deep else None
                yield VideoFrame(image, pts, self.time_base, duration, deep_image)
        damage.stops_early = not self._is_cut_off and stops_early(self.path, self.stream, float(end * self.time_base))
        if self.strict and damage.stops_early:
            raise ValueError(f"{damage.messages(self.path)[-1]} Without strict, the video ends there.")

    def _decode(self, from_pts: int | None) -> Iterator[DecodedFrame]:
        container = open_container(self.path)
        self._unfinished.add(container)
        try:
            stream = find_video_stream(container, self.path, self.stream)
            if from_pts is not None:
                container.seek(from_pts + round(self.start / self.time_base), stream=stream)
            decoded = decode_frames(container, stream, self.clock, has_times=self._times == "presentation")
            while (frame := self._decode_next(container, decoded)) is not None:
                yield frame
        finally:
            self._close(container)

    def _decode_next(self, container: InputContainer, decoded: Iterator[DecodedFrame]) -> DecodedFrame | None:
        with self._lock:
            if container not in self._unfinished:
                raise _ClosedError
            return next(decoded, None)

    def _record(self, decoded: DecodedFrame, damage: Damage) -> None:
        """Count the damage of a frame.

        Raises:
            ValueError: If there is any, and the reader is strict.
        """
        frame = decoded.frame
        if frame is None and damage.num_read == 0:
            damage.num_left_out += 1
        elif frame is None:
            damage.add_repeated()
        elif decoded.is_concealed:
            damage.add_concealed()
        if self.strict and damage.num_damaged:
            raise ValueError(
                f"{self.path}: frame {damage.num_read} cannot be decoded; the file is damaged there. Without strict, "
                "the last good frame is shown again."
            )
        size = self._stored_size if frame is None else (frame.width, frame.height)
        damage.num_resized += int(size != self._stored_size)
        if self.strict and damage.num_resized:
            raise ValueError(
                f"{self.path}: the frame size changes from {self._stored_size} to {size} at frame {damage.num_read}. "
                "Without strict, the following frames are fitted into the first size."
            )

    @property
    def has_audio(self) -> bool:
        """Whether the file has audio."""
        return bool(self.audio_streams)

    @functools.cached_property
    def clock(self) -> Clock:
        """Where the clock of the file restarts; the first use reads the whole file."""
        return read_clock(self.path, self.stream, self.frame_rate)

    def _open_times(self) -> FrameTimes:
        start = round(self.start / self.time_base)
        return FrameTimes(self._times, self.frame_rate, self.time_base, start, self.clock.first_dts)

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
    decoded = decode_frames(container, stream, Clock({}))
    first = next((decoded.frame for decoded in decoded if decoded.frame is not None), None)
    if first is None:
        raise ValueError(
            f"{path} has a video stream, but no frame of it can be decoded: it is damaged, or its frames have more "
            f"than {MAX_PIXELS:,} pixels."
        )
    return first


def _warn_of_losses(first: av.VideoFrame, path: Path) -> None:
    components = first.format.components
    if any(component.is_alpha for component in components):
        warnings.warn(f"{path}: transparency is ignored.", stacklevel=3)
    if first.rotation % 90:
        warnings.warn(
            f"{path} is to be rotated by {first.rotation} degrees for display; only quarter turns are applied.",
            stacklevel=3,
        )
    if first.interlaced_frame:
        warnings.warn(
            f"{path} is interlaced, and its frames are not deinterlaced; deinterlace it first for best results.",
            stacklevel=3,
        )
