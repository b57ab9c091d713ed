"""Transfer of audio, subtitles, chapters and metadata from one video file to another.

Streams that the new container supports are copied without encoding them again. Audio and text in other formats are
converted; everything else (cover images, data, attachments, subtitles that are images) is left out. Warnings name the
streams that are converted and those that are left out.
"""

import io
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Protocol, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from ..containers import find_video_stream


# Container format -> type of a stream -> encoder for streams that the container does not support.
CONVERSIONS = {
    "mp4": {"audio": "aac", "subtitle": "mov_text"},
    "mov": {"audio": "aac", "subtitle": "mov_text"},
    "matroska": {"audio": "libopus", "subtitle": "subrip"},
    "webm": {"audio": "libopus", "subtitle": "webvtt"},
}
COPY = "copy"

# Channel layouts that both audio encoders support; others are mixed to stereo.
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
BIT_RATE_PER_CHANNEL = 96_000

# Metadata that describes the file, not the video.
FILE_METADATA = {"major_brand", "minor_version", "compatible_brands", "encoder"}


class StreamWriter(Protocol):
    """Turns the packets of a source stream into those of `target`, a stream of the new container."""

    @property
    def target(self) -> Stream:
        """The stream of the new container."""

    def convert(self, packet: av.Packet) -> list[av.Packet]:
        """Convert a packet; an empty one ends the stream."""


def plan_streams(source: InputContainer, output: OutputContainer, target: Path) -> dict[int, str]:
    """Decide for each stream of a source, except the video, whether it is copied, converted or left out.

    Args:
        source (`InputContainer`): The source; the first packets of its audio streams are read.
        output (`OutputContainer`): Any container of the format to write.
        target (`Path`): The file to write, for the warnings.

    Returns:
        `dict[int, str]`: Index of a stream -> `"copy"` or the encoder to convert it with; other streams are left out.
    """
    path = Path(source.name)
    video = find_video_stream(source, path)
    plan: dict[int, str] = {}
    converted, left_out = [], []
    for stream in source.streams:
        if stream is video:
            continue
        codec = stream.codec_context.codec if stream.codec_context else None
        name = f"stream {stream.index} ({stream.type}, {codec.canonical_name if codec else 'unknown codec'})"
        conversion = CONVERSIONS[output.format.name].get(stream.type)
        if codec is None or conversion is None:
            left_out.append(name)
        elif codec.canonical_name in output.supported_codecs and _can_copy(source, stream, output.format.name):
            plan[stream.index] = COPY
        elif stream.type == "audio" or codec.text_sub:
            plan[stream.index] = conversion
            converted.append(f"{name} to {conversion.removeprefix('lib')}")
        else:
            left_out.append(name)
    if converted:
        listed = ", ".join(converted)
        warnings.warn(f"{target} does not support all streams of {path}; converted: {listed}.", stacklevel=4)
    if left_out:
        warnings.warn(f"{target} does not include {', '.join(left_out)} of {path}.", stacklevel=4)
    return plan


def _can_copy(source: InputContainer, stream: Stream, container_format: str) -> bool:
    # FFmpeg lists too many codecs for some containers (FLAC in MOV), so a packet is written to a trial container.
    try:
        with av.open(io.BytesIO(), "w", format=container_format) as trial:
            copy = CopiedStream(stream, trial, Fraction(0))
            trial.start_encoding()
            if stream.type == "audio":  # the first line of text may be far into the file
                trial.mux(copy.convert(next(source.demux(stream))))
    except av.FFmpegError:
        return False
    return True


def carry_streams(
    source: InputContainer, output: OutputContainer, video: VideoStream, plan: dict[int, str], start: Fraction
) -> Iterator[av.Packet]:
    """Add to a new container everything that its source has besides the video.

    Args:
        source (`InputContainer`): The source; the iterator reads from it.
        output (`OutputContainer`): The container, before anything is written to it.
        video (`VideoStream`): The video stream of the new container; it gets the language and title of the source's.
        plan (`dict[int, str]`): Result of `plan_streams`.
        start (`Fraction`): Seconds on the clock of the source that correspond to time 0 of the new file.

    Returns:
        `Iterator[av.Packet]`: The packets to write, in the order of the source.
    """
    metadata = {key: value for key, value in source.metadata.items() if key.lower() not in FILE_METADATA}
    output.metadata.update(metadata)
    output.set_chapters(source.chapters())
    source_video = find_video_stream(source, Path(source.name))
    for key in ("language", "title", "handler_name"):
        if key in source_video.metadata:
            video.metadata[key] = source_video.metadata[key]

    writers: dict[int, StreamWriter] = {}
    for index, encoder in plan.items():
        stream = source.streams[index]
        writers[index] = _open_stream_writer(stream, output, encoder, start)
        writers[index].target.metadata.update(stream.metadata)
        writers[index].target.disposition = stream.disposition
    return _carry(source, writers)


def _open_stream_writer(stream: Stream, output: OutputContainer, encoder: str, start: Fraction) -> StreamWriter:
    if encoder == COPY:
        return CopiedStream(stream, output, start)
    if stream.type == "audio":
        return ConvertedAudio(cast(AudioStream, stream), output, encoder, start)
    return ConvertedSubtitles(cast(SubtitleStream, stream), output, encoder, start)


def _carry(source: InputContainer, writers: dict[int, StreamWriter]) -> Iterator[av.Packet]:
    if writers:
        for packet in source.demux([source.streams[index] for index in writers]):
            yield from writers[packet.stream.index].convert(packet)


class CopiedStream:
    """A stream whose packets are copied.

    Args:
        stream (`Stream`): Stream of the source.
        output (`OutputContainer`): Container to add a stream to.
        start (`Fraction`): Seconds on the clock of the source that correspond to time 0 of the new file.
    """

    def __init__(self, stream: Stream, output: OutputContainer, start: Fraction) -> None:
        self.target, self.start = output.add_stream_from_template(stream), start

    def convert(self, packet: av.Packet) -> list[av.Packet]:
        """Shift the times of a packet to the start of the output."""
        if packet.size == 0:  # the end of the stream
            return []
        shift = round(self.start / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = self.target
        return [packet]


class ConvertedAudio:
    """An audio stream that is decoded and encoded again.

    Args:
        stream (`AudioStream`): Stream of the source.
        output (`OutputContainer`): Container to add a stream to.
        encoder (`str`): FFmpeg's name of the encoder.
        start (`Fraction`): Seconds on the clock of the source that correspond to time 0 of the new file.
    """

    def __init__(self, stream: AudioStream, output: OutputContainer, encoder: str, start: Fraction) -> None:
        rates = av.Codec(encoder, "w").audio_rates
        rate = stream.rate if rates is None or stream.rate in rates else 48000
        layout = LAYOUTS.get(stream.channels, "stereo")
        bit_rate = BIT_RATE_PER_CHANNEL * av.AudioLayout(layout).nb_channels
        self.target = cast(AudioStream, output.add_stream(encoder, rate=rate, layout=layout, bit_rate=bit_rate))
        self.start = start
        self._next_pts: int | None = None

    def convert(self, packet: av.Packet) -> list[av.Packet]:
        """Decode a packet and encode its samples."""
        try:
            frames = cast(list[av.AudioFrame], packet.decode())
        except av.InvalidDataError:
            seconds = float((packet.pts or 0) * packet.time_base)
            warnings.warn(f"The audio at {seconds:.2f} seconds is damaged and missing in the result.", stacklevel=2)
            return []
        packets = []
        for frame in frames:
            # Containers round times by up to a millisecond; samples follow each other without gaps or overlaps
            # unless the audio is interrupted.
            time = round((cast(int, frame.pts) * cast(Fraction, frame.time_base) - self.start) * frame.sample_rate)
            if self._next_pts is None or abs(time - self._next_pts) > frame.sample_rate // 50:
                self._next_pts = time
            frame.pts, frame.time_base = self._next_pts, Fraction(1, frame.sample_rate)
            self._next_pts += frame.samples
            packets += self.target.encode(frame)
        return packets + self.target.encode(None) if packet.size == 0 else packets


class ConvertedSubtitles:
    """Subtitles that are converted from one text format to another.

    Args:
        stream (`SubtitleStream`): Stream of the source.
        output (`OutputContainer`): Container to add a stream to.
        encoder (`str`): FFmpeg's name of the encoder.
        start (`Fraction`): Seconds on the clock of the source that correspond to time 0 of the new file.
    """

    def __init__(self, stream: SubtitleStream, output: OutputContainer, encoder: str, start: Fraction) -> None:
        stream.codec_context.open(strict=False)
        self.target = cast(SubtitleStream, output.add_stream(encoder))
        self.target.codec_context.subtitle_header = stream.codec_context.subtitle_header
        self.target.codec_context.time_base = Fraction(1, 1000)
        self.source, self.start = stream, start

    def convert(self, packet: av.Packet) -> list[av.Packet]:
        """Decode a packet and encode its subtitles."""
        subtitles = self.source.codec_context.decode2(packet) if packet.size else None
        if not subtitles:
            return []
        encoded = self.target.codec_context.encode_subtitle(subtitles)
        encoded.pts = encoded.dts = cast(int, packet.pts) - round(self.start / packet.time_base)
        encoded.duration, encoded.time_base = packet.duration, packet.time_base
        encoded.stream = self.target
        return [encoded]
