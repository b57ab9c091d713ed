"""The writers of all streams of a source besides its video, and everything else that is taken over from it."""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from ..containers import find_video_stream, is_cover
from ..reader import VideoReader
from ..timing.clock import ClockCorrection
from .converted_audio import ConvertedAudio
from .converted_subtitles import ConvertedSubtitles
from .copied_stream import CopiedCover, CopiedStream


# Container format -> type of a stream -> encoder for streams that the container does not support.
CONVERSIONS = {
    "mp4": {"audio": "aac", "subtitle": "mov_text"},
    "mov": {"audio": "aac", "subtitle": "mov_text"},
    "matroska": {"audio": "libopus", "subtitle": "subrip"},
    "webm": {"audio": "libopus", "subtitle": "webvtt"},
}
COPY = "copy"

# Metadata that describes the file, not the video.
FILE_METADATA = {"major_brand", "minor_version", "compatible_brands", "encoder"}


class StreamWriter(Protocol):
    """Turns the packets of a source stream into those of `target`, a stream of the new container."""

    @property
    def target(self) -> Stream:
        """The stream of the new container."""

    @property
    def damaged(self) -> list[float]:
        """Times in seconds, in the new file, of packets that cannot be decoded."""

    def convert(self, packet: av.Packet) -> list[av.Packet]:
        """Convert a packet; an empty one ends the stream."""


class Attachment(NamedTuple):
    """A file inside a Matroska file."""

    name: str
    mime_type: str
    content: bytes


@dataclass(frozen=True)
class StreamPlan:
    """What is taken over from a source besides its video.

    Args:
        streams (`Mapping[int, str]`): Index of a stream -> `"copy"` or the encoder to convert it with; other streams
            are left out.
        covers (`Sequence[Attachment]`): Cover images that become attachments.
        timecode (`str`, *optional*): Time of the first frame, as hours, minutes, seconds and frames.
    """

    streams: Mapping[int, str] = field(default_factory=dict)
    covers: Sequence[Attachment] = ()
    timecode: str | None = None


def open_stream_writer(stream: Stream, output: OutputContainer, action: str, start: Fraction) -> StreamWriter:
    """Add a stream to a new container.

    Args:
        stream (`Stream`): Stream of the source.
        output (`OutputContainer`): The container, before anything is written to it.
        action (`str`): `"copy"` or the encoder to convert the stream with.
        start (`Fraction`): Seconds on the clock of the source that correspond to time 0 of the new file.
    """
    writer: StreamWriter
    if is_cover(stream):
        return CopiedCover(stream, output)
    if action == COPY:
        writer = CopiedStream(stream, output, start)
    elif stream.type == "audio":
        writer = ConvertedAudio(cast(AudioStream, stream), output, action, start)
    else:
        writer = ConvertedSubtitles(cast(SubtitleStream, stream), output, action, start)
    writer.target.metadata.update(stream.metadata)
    # The restored video is the default one.
    others = ~Disposition.default if stream.type == "video" else ~Disposition(0)
    writer.target.disposition = stream.disposition & others
    return writer


def carry_streams(
    source: InputContainer, output: OutputContainer, video: VideoStream, plan: StreamPlan, reader: VideoReader
) -> Iterator[av.Packet]:
    """Add to a new container everything that its source has besides the video.

    Args:
        source (`InputContainer`): The source; the iterator reads from it.
        output (`OutputContainer`): The container, before anything is written to it.
        video (`VideoStream`): The video stream of the new container; it gets the language and title of the source's.
        plan ([`StreamPlan`]): What is taken over.
        reader ([`VideoReader`]): The reader of the source, for its clock.

    Returns:
        `Iterator[av.Packet]`: The packets to write, in the order of the source.
    """
    metadata = {key: value for key, value in source.metadata.items() if key.lower() not in FILE_METADATA}
    output.metadata.update(metadata)
    output.set_chapters(source.chapters())
    source_video = find_video_stream(source, Path(source.name), reader.stream)
    for key in ("language", "title", "handler_name"):
        if key in source_video.metadata:
            video.metadata[key] = source_video.metadata[key]
    if plan.timecode:
        video.metadata["timecode"] = plan.timecode
    if any(source.streams[index].type == "video" for index in plan.streams):
        video.disposition = Disposition.default
    writers = {
        index: open_stream_writer(source.streams[index], output, action, reader.start)
        for index, action in plan.streams.items()
    }
    for cover in plan.covers:
        output.add_attachment(*cover)
    return _carry(source, writers, reader)


def _carry(source: InputContainer, writers: Mapping[int, StreamWriter], reader: VideoReader) -> Iterator[av.Packet]:
    for packet in read_packets(source, writers, reader):
        yield from writers[packet.stream.index].convert(packet)


def read_packets(source: InputContainer, indices: Collection[int], reader: VideoReader) -> Iterator[av.Packet]:
    """Read the packets of some streams up to the end, or to where the file is damaged, on the corrected clock."""
    if not indices:
        return
    correction = ClockCorrection(reader.clock)
    with contextlib.suppress(av.FFmpegError):
        for packet in source.demux([source.streams[index] for index in indices]):
            if correction.apply(packet):
                yield packet
