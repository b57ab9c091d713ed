"""What a video has besides its pictures, carried from one file into another: sound, subtitles, chapters, metadata.

Whatever the new container can hold is copied without encoding it again. Sound and text that it cannot hold are
converted; the rest (covers, data, attachments, subtitles that are pictures) is left out. Both are named in warnings.
"""

import io
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from .reader import video_stream


# Container format -> encoders of sound and of text for what it cannot hold.
CONVERSIONS = {
    "mp4": {"audio": "aac", "subtitle": "mov_text"},
    "mov": {"audio": "aac", "subtitle": "mov_text"},
    "matroska": {"audio": "libopus", "subtitle": "subrip"},
    "webm": {"audio": "libopus", "subtitle": "webvtt"},
}
COPY = "copy"

# Arrangements of loudspeakers that both encoders know; others are mixed to stereo.
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
BIT_RATE_PER_CHANNEL = 96_000

ABOUT_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder"}


def plan_streams(source: InputContainer, output: OutputContainer, target: Path) -> dict[int, str]:
    """Decide what becomes of each stream of a source besides its pictures.

    Args:
        source (`InputContainer`): The source; the first packets of its sounds are read.
        output (`OutputContainer`): Any container of the format to write.
        target (`Path`): The file to write, for the warnings.

    Returns:
        `dict[int, str]`: stream index -> "copy" or the encoder to convert it with; other streams are left out.
    """
    path = Path(source.name)
    pictures = video_stream(source, path)
    plan, converted, left_out = {}, [], []
    for stream in source.streams:
        if stream is pictures:
            continue
        codec = stream.codec_context.codec if stream.codec_context else None
        name = f"stream {stream.index} ({stream.type}, {codec.canonical_name if codec else 'unknown codec'})"
        conversion = CONVERSIONS[output.format.name].get(stream.type)
        if codec is None or conversion is None:
            left_out.append(name)
        elif codec.canonical_name in output.supported_codecs and _fits(source, stream, output.format.name):
            plan[stream.index] = COPY
        elif stream.type == "audio" or codec.text_sub:
            plan[stream.index] = conversion
            converted.append(f"{name} to {conversion.removeprefix('lib')}")
        else:
            left_out.append(name)
    if converted:
        warnings.warn(f"{target} cannot hold all of {path} as it is: {', '.join(converted)} converted.", stacklevel=4)
    if left_out:
        warnings.warn(f"{target} does not get {', '.join(left_out)} of {path}.", stacklevel=4)
    return plan


def _fits(source: InputContainer, stream: Stream, container_format: str) -> bool:
    # The list of codecs that FFmpeg knows for a container promises too much (FLAC in MOV), so the container is asked.
    try:
        with av.open(io.BytesIO(), "w", format=container_format) as trial:
            copy = Copy(stream, trial, COPY, Fraction(0))
            trial.start_encoding()
            if stream.type == "audio":  # the first line of text may be far away
                trial.mux(copy.take(next(source.demux(stream))))
    except av.FFmpegError:
        return False
    return True


def carry_streams(
    source: InputContainer, output: OutputContainer, pictures: VideoStream, plan: dict[int, str], start: Fraction
) -> Iterator[av.Packet]:
    """Add to a new container what its source has besides pictures.

    Args:
        source (`InputContainer`): The source; the iterator reads from it.
        output (`OutputContainer`): The container, before anything is written to it.
        pictures (`VideoStream`): The pictures of the new container; they get the language and title of the source's.
        plan (`dict[int, str]`): Of `plan_streams`.
        start (`Fraction`): Seconds on the clock of the source at which the new file begins.

    Returns:
        `Iterator[av.Packet]`: the packets to write, in the order of the source.
    """
    kept = {key: value for key, value in source.metadata.items() if key.lower() not in ABOUT_THE_FILE}
    output.metadata.update(kept)
    output.set_chapters(source.chapters())
    old_pictures = video_stream(source, Path(source.name))
    for key in ("language", "title", "handler_name"):
        if key in old_pictures.metadata:
            pictures.metadata[key] = old_pictures.metadata[key]

    ways: dict[int, Any] = {}
    for index, encoder in plan.items():
        stream = source.streams[index]
        way: Any = Copy if encoder == COPY else Sound if stream.type == "audio" else Text
        ways[index] = way(stream, output, encoder, start)
        ways[index].target.metadata.update(stream.metadata)
        ways[index].target.disposition = stream.disposition
    return _carry(source, ways)


def _carry(source: InputContainer, ways: dict[int, Any]) -> Iterator[av.Packet]:
    if ways:
        for packet in source.demux([source.streams[index] for index in ways]):
            yield from ways[packet.stream.index].take(packet)


class Copy:
    """Packets as they are."""

    def __init__(self, stream: Stream, output: OutputContainer, encoder: str, start: Fraction):
        self.target, self.start = output.add_stream_from_template(stream), start

    def take(self, packet: av.Packet) -> list[av.Packet]:
        if packet.size == 0:  # the end of a stream
            return []
        shift = round(self.start / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = self.target
        return [packet]


class Sound:
    """Sound, decoded and encoded again."""

    def __init__(self, stream: AudioStream, output: OutputContainer, encoder: str, start: Fraction):
        rates = av.Codec(encoder, "w").audio_rates
        rate = stream.rate if rates is None or stream.rate in rates else 48000
        layout = LAYOUTS.get(stream.channels, "stereo")
        bit_rate = BIT_RATE_PER_CHANNEL * av.AudioLayout(layout).nb_channels
        self.target = cast(AudioStream, output.add_stream(encoder, rate=rate, layout=layout, bit_rate=bit_rate))
        self.start = start
        self._next: int | None = None

    def take(self, packet: av.Packet) -> list[av.Packet]:
        try:
            frames = cast(list[av.AudioFrame], packet.decode())
        except av.InvalidDataError:
            seconds = float((packet.pts or 0) * packet.time_base)
            warnings.warn(f"The sound at {seconds:.2f} seconds is damaged, and missing in the result.", stacklevel=2)
            return []
        packets = []
        for frame in frames:
            # Containers round times, by up to a millisecond; samples follow each other without gaps or overlaps
            # unless the sound is interrupted.
            time = round((cast(int, frame.pts) * cast(Fraction, frame.time_base) - self.start) * frame.sample_rate)
            if self._next is None or abs(time - self._next) > frame.sample_rate // 50:
                self._next = time
            frame.pts, frame.time_base = self._next, Fraction(1, frame.sample_rate)
            self._next += frame.samples
            packets += self.target.encode(frame)
        return packets + self.target.encode(None) if packet.size == 0 else packets


class Text:
    """Subtitles, from one way of writing text to another."""

    def __init__(self, stream: SubtitleStream, output: OutputContainer, encoder: str, start: Fraction):
        stream.codec_context.open(strict=False)
        self.target = cast(SubtitleStream, output.add_stream(encoder))
        self.target.codec_context.subtitle_header = stream.codec_context.subtitle_header
        self.target.codec_context.time_base = Fraction(1, 1000)
        self.source, self.start = stream, start

    def take(self, packet: av.Packet) -> list[av.Packet]:
        lines = self.source.codec_context.decode2(packet) if packet.size else None
        if not lines:
            return []
        encoded = self.target.codec_context.encode_subtitle(lines)
        encoded.pts = encoded.dts = cast(int, packet.pts) - round(self.start / packet.time_base)
        encoded.duration, encoded.time_base = packet.duration, packet.time_base
        encoded.stream = self.target
        return [encoded]
