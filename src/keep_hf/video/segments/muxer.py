"""Joining of encoded segments and the other streams of the source into the final video file."""

import contextlib
import dataclasses
import errno
import heapq
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from ..containers import METADATA_ERRORS, ffmpeg_name, open_container
from ..reader import VideoReader
from .encoding import Encoding
from .stream_plan import plan_streams
from .stream_writers import CONVERSIONS, StreamPlan, carry_streams
from .video_packets import read_video_packets


# With these, the same file can be written once the cause is removed.
SYSTEM_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
SYSTEM_ERRORS |= {errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Muxer:
    """Writes the packets of segments, without encoding them again, and the other streams of a source into one file.

    Args:
        container_format (`str`): FFmpeg's name of the format, for example `"mp4"`.
        encoding ([`Encoding`]): Settings with which the segments are encoded.
        source ([`VideoReader`], *optional*): The video whose audio, subtitles, chapters and metadata are taken over.
            All its packets are read, to find out what the container accepts.
        target (`Path`): The final file, for warnings.

    Raises:
        ValueError: If the source cannot be read.
        OSError: If the container rejects the video.
    """

    def __init__(self, container_format: str, encoding: Encoding, source: VideoReader | None, target: Path) -> None:
        self.container_format, self.encoding, self.source, self.target = container_format, encoding, source, target
        # What the container rejects must be known now, not after hours of work.
        plan = StreamPlan() if source is None else plan_streams(source, container_format, self._options(), target)
        try:
            self._try(plan)
        except av.FFmpegError:
            if not plan.timecode:
                raise
            warnings.warn(f"{target} does not include the timecode {plan.timecode} of its source.", stacklevel=3)
            plan = dataclasses.replace(plan, timecode=None)
            self._try(plan)
        self._plan = plan

    def _try(self, plan: StreamPlan) -> None:
        trial = av.open(io.BytesIO(), "w", format=self.container_format, **METADATA_ERRORS)
        with contextlib.ExitStack() as resources:
            resources.enter_context(trial)
            self._add_streams(trial, plan, resources)

    def join(self, segments: Sequence[Path], path: Path) -> None:
        """Write the file.

        All other streams have been tried. If one fails all the same, the audio is converted and everything else left
        out, then the audio, too; warnings say so.

        Args:
            segments (`Sequence[Path]`): The segments in order, at least one.
            path (`Path`): The file to write.

        Raises:
            OSError: If the disk is full, for example.
        """
        sound = {
            index: CONVERSIONS[self.container_format]["audio"]
            for index in self._plan.streams
            if self.source and index in self.source.audio_streams
        }
        attempts = [(self._plan, "")]
        if sound:
            attempts.append((StreamPlan(sound), "only the audio is taken over, converted"))
        attempts.append((StreamPlan(), "all of them are left out"))
        for number, (plan, _) in enumerate(attempts):
            try:
                return self._write(segments, path, plan)
            except Exception as error:
                is_system_error = isinstance(error, OSError) and error.errno in SYSTEM_ERRORS
                if is_system_error or isinstance(error, MemoryError) or not plan.streams:
                    raise
                warnings.warn(
                    f"{self.target} cannot be written with all other streams of its source ({error}); "
                    f"{attempts[number + 1][1]}.",
                    stacklevel=4,
                )

    def _write(self, segments: Sequence[Path], path: Path, plan: StreamPlan) -> None:
        with contextlib.ExitStack() as resources:
            container = av.open(
                ffmpeg_name(path),
                "w",
                format=self.container_format,
                container_options=self._options(),
                **METADATA_ERRORS,
            )
            resources.callback(_close_quietly, container)
            stream, others = self._add_streams(container, plan, resources)
            # Audio is interleaved with the video of its time, so that no muxer has to buffer minutes of it.
            for packet in heapq.merge(self._video_packets(stream, segments), others, key=decoding_time):
                container.mux(packet)
            container.close()

    def _options(self) -> dict[str, str]:
        options = {"fflags": "+bitexact"}  # no random numbers and no dates in the file
        if self.container_format in ("mp4", "mov"):
            options["movflags"] = "faststart"  # can be played while it is downloaded
            # A video that starts later than its audio does so in these units, 1/1000 by default.
            options["movie_timescale"] = str(min(math.lcm(1000, self.encoding.time_base.denominator), 2**31 - 1))
        else:
            # AAC starts a little before 0; Matroska would shift the video with it.
            options["avoid_negative_ts"] = "disabled"
        return options

    def _add_streams(
        self, container: OutputContainer, plan: StreamPlan, resources: contextlib.ExitStack
    ) -> tuple[VideoStream, Iterator[av.Packet]]:
        stream = cast(VideoStream, container.add_stream(self.encoding.encoder, rate=self.encoding.frame_rate))
        self.encoding.configure(stream.codec_context)
        if self.encoding.encoder == "libx265" and self.container_format in ("mp4", "mov"):
            stream.codec_context.codec_tag = "hvc1"  # Apple's players do not know FFmpeg's default, hev1
        others: Iterator[av.Packet] = iter(())
        if self.source is not None:
            source = resources.enter_context(open_container(self.source.path))
            others = carry_streams(source, container, stream, plan, self.source)
        container.start_encoding()
        return stream, others

    def _video_packets(self, stream: VideoStream, segments: Sequence[Path]) -> Iterator[av.Packet]:
        # The B-pyramid of x264 and x265; FFmpeg does not report that of x265.
        delay = 2 if stream.codec_context.has_b_frames or self.encoding.encoder == "libx265" else 0
        for packet in read_video_packets(segments, self.encoding, delay):
            packet.stream = stream
            yield packet


def decoding_time(packet: av.Packet) -> Fraction:
    """Decoding time of a packet in seconds, by which the packets of several streams are interleaved."""
    return Fraction(0) if packet.dts is None else packet.dts * packet.time_base


def _close_quietly(container: OutputContainer) -> None:
    # After an error the file is discarded; that it cannot be completed is no further error.
    with contextlib.suppress(av.FFmpegError, OSError):
        container.close()
