"""Joining of encoded segments and the other streams of the source into the final video file."""

import contextlib
import heapq
import io
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from ..containers import METADATA_ERRORS, ffmpeg_name, open_container
from ..reader import VideoReader
from .other_streams import carry_streams, plan_streams
from .segment_encoder import Encoding, read_segment


class Muxer:
    """Writes the packets of segments, without encoding them again, and the other streams of a source into one file.

    Args:
        container_format (`str`): FFmpeg's name of the format, for example `"mp4"`.
        encoding ([`Encoding`]): Settings with which the segments are encoded.
        source ([`VideoReader`], *optional*): The video whose audio, subtitles, chapters and metadata are taken over.
        target (`Path`): The final file, for warnings.

    Raises:
        ValueError: If the source cannot be read.
        OSError: If the container rejects one of the streams.
    """

    def __init__(self, container_format: str, encoding: Encoding, source: VideoReader | None, target: Path) -> None:
        self.container_format, self.encoding, self.source = container_format, encoding, source
        self._plan: dict[int, str] = {}
        # What the container rejects must be known now, not after hours of work, so a trial one is opened in memory.
        trial = av.open(io.BytesIO(), "w", format=container_format, **METADATA_ERRORS)
        with contextlib.ExitStack() as resources:
            resources.enter_context(trial)
            if source is not None:
                with open_container(source.path) as container:
                    self._plan = plan_streams(container, trial, target)
            self._add_streams(trial, resources)

    def join(self, segments: Sequence[Path], path: Path) -> None:
        """Write the file.

        Args:
            segments (`Sequence[Path]`): The segments in order, at least one.
            path (`Path`): The file to write.
        """
        with contextlib.ExitStack() as resources:
            container = av.open(
                ffmpeg_name(path),
                "w",
                format=self.container_format,
                container_options=self._container_options(),
                **METADATA_ERRORS,
            )
            resources.callback(_close_quietly, container)
            stream, others = self._add_streams(container, resources)
            # Audio is interleaved with the video of its time, so that no muxer has to buffer minutes of it.
            for packet in heapq.merge(self._video_packets(stream, segments), others, key=decoding_time):
                container.mux(packet)
            container.close()

    def _container_options(self) -> dict[str, str]:
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
        self, container: OutputContainer, resources: contextlib.ExitStack
    ) -> tuple[VideoStream, Iterator[av.Packet]]:
        stream = cast(VideoStream, container.add_stream(self.encoding.encoder, rate=self.encoding.frame_rate))
        self.encoding.configure(stream.codec_context)
        others: Iterator[av.Packet] = iter(())
        if self.source is not None:
            source = resources.enter_context(open_container(self.source.path))
            others = carry_streams(source, container, stream, self._plan, self.source.start)
        container.start_encoding()
        return stream, others

    def _video_packets(self, stream: VideoStream, segments: Sequence[Path]) -> Iterator[av.Packet]:
        """The packets of all segments, with decoding times that increase across their borders.

        A packet comes at most `delay` places before its turn in display order, so the k-th packet in decoding order
        can be decoded when the (k - delay)-th frame in display order appears: the smallest time not used so far.
        """
        time_base = self.encoding.time_base
        delay = 2 if stream.codec_context.has_b_frames else 0  # x264's B-pyramid
        beginning = islice(read_segment(segments[0], time_base), 2 * delay + 1)
        shown = sorted(cast(int, packet.pts) for packet in beginning)
        # The video may be shorter than that.
        shown += [shown[-1] + k * self.encoding.frame_duration for k in range(1, delay + 1)]
        # The steps before the first frame repeat those after it; then MP4 contains the right average frame rate.
        times = [shown[k] - (shown[delay] - shown[0]) for k in range(delay)]
        for segment in segments:
            for packet in read_segment(segment, time_base):
                packet.dts = heapq.heappushpop(times, cast(int, packet.pts))
                packet.stream = stream
                yield packet


def decoding_time(packet: av.Packet) -> Fraction:
    """Decoding time of a packet in seconds, by which the packets of several streams are interleaved."""
    return Fraction(0) if packet.dts is None else packet.dts * packet.time_base


def _close_quietly(container: OutputContainer) -> None:
    # After an error the file is discarded; that it cannot be completed is no further error.
    with contextlib.suppress(av.FFmpegError, OSError):
        container.close()
