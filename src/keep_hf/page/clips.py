"""Operations of the page on videos besides restoration: read their length, cut out a part, join two side by side."""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from ..video.containers import ffmpeg_name, find_video_stream, open_container
from ..video.decoding.source import VideoFrame
from ..video.reader import VideoReader
from ..video.segments.converted_audio import ConvertedAudio
from ..video.segments.encoding import Encoding
from ..video.segments.muxer import decoding_time
from ..video.segments.stream_writers import CONVERSIONS
from .unreadable import explain_unreadable


CUT_CRF = 10  # visually lossless, because the part is encoded again
COMPARISON_CRF = 20
MAX_COMPARISON_SIDE = 1920  # pixels of a half; many devices decode videos of at most 4096 pixels
COPY_CRF, MAX_COPY_SIDE = 26, 720  # of a copy that only shows what was uploaded

# By a name of FFmpeg's container: the codecs of videos (with 8 bits and 4:2:0) and of audio that all browsers play.
PLAYABLE = {"mp4": ({"h264"}, {"aac", "mp3"}), "webm": ({"vp8", "vp9"}, {"opus", "vorbis"})}


@dataclass(frozen=True)
class ClipInfo:
    """Length and size of a video.

    Attributes:
        seconds (`float`): Duration in seconds.
        num_frames (`int`): Number of frames.
        width, height (`int`): Size in pixels, as displayed.
    """

    seconds: float
    num_frames: int
    width: int
    height: int

    @property
    def frame_rate(self) -> float:
        """Frames per second. Recordings of browsers do not state theirs; this is the mean of what they have."""
        return self.num_frames / self.seconds

    def frames_between(self, start: float, end: float) -> int:
        """The approximate number of frames of a part, given in seconds."""
        share = (min(end, self.seconds) - start) / self.seconds
        return max(1, round(share * self.num_frames))


def probe(path: Path) -> ClipInfo:
    """Read the length and the size of a video.

    Raises:
        ValueError: If the file is not a video or is damaged; the message is for a user.
    """
    try:
        opened = VideoReader(path)
    except ValueError as error:
        raise ValueError(explain_unreadable(path, error)) from error
    with opened as reader:
        num_frames, seconds = reader.num_frames, 0.0
        if num_frames:
            seconds = num_frames / float(reader.frame_rate)
        else:  # recorded by a browser, whose files state neither length nor frame rate
            times = [frame.pts for frame in reader.read()]
            num_frames = len(times)
            passed = float((times[-1] - times[0]) * reader.time_base)
            seconds = passed * num_frames / (num_frames - 1) if num_frames > 1 else 1 / float(reader.frame_rate)
        return ClipInfo(seconds, num_frames, reader.width, reader.height)


def browsers_play(path: Path) -> bool:
    """Whether every browser plays a video: not 10-bit HEVC, MPEG-4 in AVI, or ProRes, for example.

    Raises:
        ValueError: If the file is not a video.
    """
    with open_container(path) as container:
        stream = find_video_stream(container, path)
        containers = container.format.name.split(",")
        codecs, sounds = next((PLAYABLE[name] for name in containers if name in PLAYABLE), (set(), set()))
        return (
            stream.codec_context.name in codecs
            and stream.codec_context.pix_fmt in ("yuv420p", "yuvj420p")
            and {audio.codec_context.name for audio in container.streams.audio} <= sounds
        )


def cut_clip(
    source: Path, target: Path, start: float = 0.0, end: float = math.inf, *, is_copy: bool = False
) -> Iterator[int]:
    """Write a part of a video, with its audio, as an MP4 that browsers can play.

    Browsers do not play H.264 with odd sides, so the last row or column of such videos is dropped.

    Args:
        source (`Path`): Any video.
        target (`Path`): The `.mp4` to write.
        start, end (`float`): Seconds from the first frame.
        is_copy (`bool`, *optional*, defaults to `False`): Whether the part is only watched, and not restored: a small
            file, with sides of at most 720 pixels.

    Returns:
        `Iterator[int]`: After every frame, the number of frames written. The part has the frames with
        start <= time < end, at the intervals of the source.

    Raises:
        ValueError: If the source is damaged, or has no frame in the part.
    """
    with VideoReader(source) as reader:
        frames = frames_between(reader, start, end)
        first = next(frames, None)
        if first is None:
            raise ValueError(f"{source} has no frame between {start:g} and {end:g} seconds.")
        width, height = (max(2, side // 2 * 2) for side in (reader.width, reader.height))
        images = ((frame.image[:height, :width], frame.pts - first.pts) for frame in chain([first], frames))
        if is_copy:
            width, height = limit_size(width, height, MAX_COPY_SIDE)
            images = ((_fit(image, width, height), pts) for image, pts in images)
        beginning = first.pts * reader.time_base + reader.start
        encoding = _encoding(reader, width, height, COPY_CRF if is_copy else CUT_CRF)
        yield from _write(target, encoding, images, source, beginning, end - start)


def write_side_by_side(left: Path, right: Path, target: Path) -> Iterator[int]:
    """Write two videos side by side into one, with the audio of the left one.

    Args:
        left, right (`Path`): Videos with the same frame times; the right one may be larger.
        target (`Path`): The `.mp4` to write; each half has sides of at most 1920 pixels.

    Returns:
        `Iterator[int]`: After every frame, the number of frames written.
    """
    with VideoReader(left) as before, VideoReader(right) as after:
        width, height = limit_size(after.width, after.height, MAX_COMPARISON_SIDE)

        def halves() -> Iterator[tuple[np.ndarray, int]]:
            for one, other in zip(before, after, strict=True):
                yield np.concatenate([_fit(frame.image, width, height) for frame in (one, other)], axis=1), one.pts

        encoding = _encoding(before, 2 * width, height, COMPARISON_CRF)
        yield from _write(target, encoding, halves(), left, before.start, math.inf)


def limit_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """An even size with the same aspect ratio, whose sides are at most `longest`, or those of the size itself."""
    scale = min(1.0, longest / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    interpolation = cv2.INTER_AREA if image.shape[0] > height else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=interpolation)


def frames_between(reader: VideoReader, start: float, end: float) -> Iterator[VideoFrame]:
    """The frames of a part, with start <= time < end in seconds from the first frame of the video."""
    origin = None
    for frame in reader.read():
        origin = frame.pts if origin is None else origin
        time = float((frame.pts - origin) * reader.time_base)  # a float like the bounds: 0.4 is not 2/5
        if time >= end:
            return
        if time >= start:
            yield frame


def _encoding(reader: VideoReader, width: int, height: int, crf: int) -> Encoding:
    rate, base = reader.frame_rate, reader.time_base
    return Encoding("libx264", width, height, rate, base, crf, "veryfast", reader.colour, reader.pixel_aspect)


def _write(
    target: Path,
    encoding: Encoding,
    images: Iterator[tuple[np.ndarray, int]],
    source: Path,
    start: Fraction,
    seconds: float,
) -> Iterator[int]:
    """Write images with their timestamps, and the audio of a source from `start` on its clock; yields a count."""
    with (
        av.open(ffmpeg_name(target), "w", options={"movflags": "faststart"}) as output,
        open_container(source) as container,
    ):
        stream = cast(VideoStream, output.add_stream(encoding.encoder, rate=encoding.frame_rate))
        encoding.configure(stream.codec_context)
        stream.codec_context.gop_size = round(encoding.frame_rate)  # players seek to the key frame before
        audio = {
            track.index: ConvertedAudio(track, output, CONVERSIONS["mp4"]["audio"], start)
            for track in container.streams.audio
        }
        output.start_encoding()
        audio_packets = _convert_audio(container, audio, start, seconds) if audio else iter(())
        num_written = 0
        # Interleaved in the file, so that it plays while it is being downloaded.
        for packet in heapq.merge(_encode(stream, encoding, images), audio_packets, key=decoding_time):
            is_video = packet.stream.type == "video"
            output.mux(packet)
            if is_video:
                num_written += 1
                yield num_written


def _encode(stream: VideoStream, encoding: Encoding, images: Iterator[tuple[np.ndarray, int]]) -> Iterator[av.Packet]:
    for image, pts in images:
        yield from stream.encode(encoding.to_frame(image, pts))
    yield from stream.encode(None)


def _convert_audio(
    container: InputContainer, audio: dict[int, ConvertedAudio], start: Fraction, seconds: float
) -> Iterator[av.Packet]:
    for packet in container.demux([container.streams[index] for index in audio]):
        time = 0.0 if packet.pts is None else float(packet.pts * packet.time_base - start)
        # An empty packet ends a stream.
        if packet.size == 0 or 0 <= time < seconds:
            yield from audio[packet.stream.index].convert(packet)
