"""Decoding of a video stream: its frames, and a place in time for each frame that cannot be decoded.

Everything is decoded in one thread. With several, an error is reported late, frames beside it may be lost, and the
H.264 decoder of FFmpeg sometimes returns a damaged frame without its mark: two readings of a file could differ.
The restoration of a frame takes many times as long as its decoding, and runs beside it.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from ..media_files import MAX_PIXELS
from ..timing.clock import Clock, ClockCorrection


# Number of frames by which a decoder may confuse the order after an error.
REORDER_DEPTH = 4
# Seconds by which times decrease at most within one recording; beyond, recordings were joined.
RESTART = 1


@dataclass(frozen=True)
class DecodedFrame:
    """A frame, or the place of one that cannot be decoded.

    Args:
        frame (`av.VideoFrame`, *optional*): `None` if it cannot be decoded.
        pts (`int`, *optional*): When it appears, in units of the time base of the stream; `None` if the file does not
            contain that.
    """

    frame: av.VideoFrame | None
    pts: int | None

    @property
    def is_concealed(self) -> bool:
        """Whether parts of the frame are damaged, and the decoder filled them from the frames around it."""
        return self.frame is not None and self.frame.is_corrupt


def decode_frames(
    container: InputContainer, stream: VideoStream, clock: Clock, has_times: bool = True
) -> Iterator[DecodedFrame]:
    """Decode the frames of a stream, which may be damaged.

    Args:
        container (`InputContainer`): The file, open.
        stream (`VideoStream`): Its video.
        clock ([`Clock`]): Where the clock of the file restarts.
        has_times (`bool`, *optional*, defaults to `True`): Whether the file contains the times at which frames appear.

    Returns:
        `Iterator[DecodedFrame]`: In the order of display, those that cannot be decoded included.
    """
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    ledger = _Ledger(has_times)
    frames = _decode_packets(container, stream, clock, ledger)
    for frame in _in_display_order(frames) if has_times else frames:
        yield from (DecodedFrame(None, pts) for pts in ledger.lost_before(frame))
        yield DecodedFrame(frame, frame.pts)
    yield from (DecodedFrame(None, pts) for pts in ledger.lost_at_end())


def _decode_packets(
    container: InputContainer, stream: VideoStream, clock: Clock, ledger: "_Ledger"
) -> Iterator[av.VideoFrame]:
    for packet in _read_packets(container, stream, clock):
        ledger.add(packet)
        if _is_cut_off(packet, container):
            ledger.fail(packet)
            continue
        try:
            yield from stream.decode(packet)
        except av.FFmpegError:
            ledger.fail(packet)


def _in_display_order(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Sort frames that a decoder returned too late or too early after an error."""
    held: list[av.VideoFrame] = []
    for frame in frames:
        times = [other.pts for other in held if other.pts is not None]
        if frame.pts is None or (times and frame.pts < min(times) - RESTART / cast(Fraction, frame.time_base)):
            # The clock restarts, or there is none: earlier frames come first.
            yield from held
            held = []
        held.append(frame)
        held.sort(key=lambda other: other.pts or 0)
        if len(held) > REORDER_DEPTH:
            yield held.pop(0)
    yield from held


def _read_packets(container: InputContainer, stream: VideoStream, clock: Clock) -> Iterator[av.Packet]:
    """The packets of the stream, then an empty one, at which a decoder returns the frames that it holds."""
    correction = ClockCorrection(clock)
    is_progressing = True
    while is_progressing:
        is_progressing = False
        try:
            for packet in container.demux(stream):
                # An empty packet in the middle stands for a frame that was not recorded.
                if packet.size:
                    is_progressing = True
                    correction.apply(packet)
                    yield packet
            break
        except av.FFmpegError:
            continue  # the container is damaged here; it may be readable behind this place
    end = av.Packet()
    end.stream, end.time_base = stream, cast(Fraction, stream.time_base)
    yield end


def _is_cut_off(packet: av.Packet, container: InputContainer) -> bool:
    """Whether the file ends within a packet. In MPEG-TS, the mark of such packets means that a part may be missing."""
    return packet.is_corrupt and container.format.name != "mpegts"


class _Ledger:
    """Which packets have become frames.

    Most decoders do not return an error for every frame that is lost: after a damaged key frame, H.264 is silent until
    the next one. In a stream where every packet became a frame so far, every packet from the first error on that does
    not is therefore a lost frame. In other streams (fields in packets of their own, packets that are never shown) only
    the packets with an error are.
    """

    def __init__(self, has_times: bool = True) -> None:
        self._has_times = has_times
        self._waiting: list[int] = []  # heap of the times of packets whose frames have not appeared
        self._failed: set[int] = set()
        # For each packet without a time that failed: the number of frames that the decoder held, which come before it.
        self._failed_without_time: list[int] = []
        self._num_decoded = 0
        self._num_frames = 0
        self._has_failed = False
        self._is_one_to_one = True
        self._starts_with_key_frame: bool | None = None

    def add(self, packet: av.Packet) -> None:
        """A packet is passed to the decoder."""
        if self._starts_with_key_frame is None:
            self._starts_with_key_frame = packet.is_keyframe
        # Frames before the start of an edit list are decoded, but not shown.
        is_shown = packet.size > 0 and not packet.is_discard
        self._num_decoded += int(is_shown)
        if is_shown and packet.pts is not None and self._has_times:
            heapq.heappush(self._waiting, packet.pts)

    def fail(self, packet: av.Packet) -> None:
        """The decoder returned an error for it."""
        self._has_failed = True
        if packet.pts is None or not self._has_times:
            self._num_decoded -= 1
            self._failed_without_time.append(self._num_decoded - self._num_frames)
        else:
            self._failed.add(packet.pts)

    def lost_before(self, frame: av.VideoFrame) -> list[int | None]:
        """The times of frames that were lost between the previous frame and this one."""
        passed = self._pop_until(frame.pts) if self._has_times else []
        num_without_time = self._count_due(frame)
        lost = self._lost(passed)
        if self._num_frames == 0:
            # Frames before the first key frame are no damage if they only precede it in the order of display.
            lost = [] if self._starts_with_key_frame and not self._has_failed else list(passed)
        elif passed and not self._has_failed:
            self._is_one_to_one = False
        self._num_frames += 1
        return [*lost, *[None] * num_without_time]

    def lost_at_end(self) -> list[int | None]:
        """The times of frames that were lost after the last frame."""
        return [*self._lost(sorted(self._waiting)), *[None] * len(self._failed_without_time)]

    def _count_due(self, frame: av.VideoFrame) -> int:
        if frame.is_corrupt and self._failed_without_time:
            self._failed_without_time.pop(0)  # this frame was returned in spite of the error: it is damaged, not lost
        num_due = sum(held <= 0 for held in self._failed_without_time)
        self._failed_without_time = [held - 1 for held in self._failed_without_time if held > 0]
        return num_due

    def _pop_until(self, pts: int | None) -> list[int]:
        passed = []
        while pts is not None and self._waiting and self._waiting[0] <= pts:
            passed.append(heapq.heappop(self._waiting))
        return [time for time in passed if time != pts]

    def _lost(self, passed: list[int]) -> list[int]:
        if not self._has_failed:
            return []
        return [pts for pts in passed if self._is_one_to_one or pts in self._failed]
