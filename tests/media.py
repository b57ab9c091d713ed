"""Small videos that the tests encode, and functions that read their content."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.stream import Disposition
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import SubtitleSet

from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter


ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def gradient(index: int, width: int, height: int) -> np.ndarray:
    """A smooth RGB image that moves and brightens with the index, so that every frame is different."""
    y, x = np.mgrid[:height, :width]
    channels = (x * 128 / width, y * 128 / height, (x + y) * 64 / (width + height) + 32)
    return np.clip(np.stack(channels, axis=-1) + 3 * index + 20, 0, 255).astype(np.uint8)


def write_clip(
    path: Path,
    *,
    num_frames: int = 12,
    width: int = 96,
    height: int = 64,
    frame_rate: Fraction | int = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    audio_codec: str | None = None,
    languages: tuple[str | None, ...] = (None,),
    subtitle_codec: str | None = None,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int | None = None,
    sample_aspect: Fraction | None = None,
    images: list[np.ndarray] | None = None,
    colour: tuple[int, int] | None = None,
    metadata: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    """Encode moving gradients (or the given RGB images), with sine tones and subtitles if their codecs are given.

    There is one tone per language, the second delayed by a third of a second, and a subtitle every half second.
    `colour` is (matrix, range) as FFmpeg's numbers: 1 BT.709, 5 BT.601, 9 BT.2020; 1 limited, 2 full.
    """
    images = images or [gradient(index, width, height) for index in range(num_frames)]
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", format=container_format) as container:
        container.metadata.update(metadata or {})
        options = {"qp": "4"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=frame_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        if codec not in ("libx264", "libvpx-vp9"):
            stream.bit_rate = 4_000_000
        if time_base is not None:
            stream.codec_context.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if colour is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = colour
        if sample_aspect is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect
        # Windows Media has no default.
        sound = {"bit_rate": 96000} if audio_codec in ("wmav1", "wmav2") else {}
        audio_streams = [container.add_stream(audio_codec, rate=48000, **sound) for _ in languages if audio_codec]
        for audio_stream, language in zip(audio_streams, languages, strict=False):
            if language:
                audio_stream.metadata["language"] = language
                audio_stream.disposition = Disposition.default if language == languages[-1] else Disposition(0)
        text = container.add_stream(subtitle_codec) if subtitle_codec else None
        if text:
            text.metadata["language"] = "dan"
            text.codec_context.subtitle_header = ASS_HEADER
            text.codec_context.time_base = Fraction(1, 1000)
        matrix, colour_range = colour or (None, None)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if matrix is not None:
                frame.colorspace = matrix  # PyAV 17 would lose BT.2020 otherwise
            frame = frame.reformat(format=pixel_format, dst_colorspace=matrix, dst_color_range=colour_range)
            frame.pts = pts[index] if pts else index
            frame.time_base = time_base or 1 / Fraction(frame_rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        seconds = float(len(images) / frame_rate)
        for number, audio_stream in enumerate(audio_streams):
            container.mux(encode_tone(audio_stream, number, seconds))
        if text:
            container.mux(encode_subtitles(text, seconds))
    return path


def write_two_videos(path: Path, default: int | None) -> Path:
    """Two videos of different sizes and a tone; `default` is the number of the video that is marked."""
    clips = [
        write_clip(path.with_name("wide.mkv"), num_frames=10, audio_codec="aac"),
        write_clip(path.with_name("small.mkv"), num_frames=10, width=48, height=32),
    ]
    with av.open(str(path), "w") as output:
        streams = []
        opened = [av.open(str(clip)) for clip in clips]
        for container in opened:
            streams.append([output.add_stream_from_template(stream, opaque=True) for stream in container.streams])
        for number in range(2):
            marked = Disposition.default if number == default else Disposition(0)
            streams[number][0].disposition = marked
        for container, targets in zip(opened, streams, strict=True):
            for packet in container.demux():
                if packet.size:
                    packet.stream = targets[packet.stream.index]
                    output.mux(packet)
            container.close()
    return path


def encode_tone(stream: AudioStream, number: int, seconds: float) -> list[av.Packet]:
    """A sine tone of 440 Hz times `number + 1`, delayed by a third of a second times `number`."""
    time = np.arange(round(48000 * seconds)) / 48000
    tone = (0.3 * np.sin(2 * np.pi * 440 * (number + 1) * time)).astype(np.float32)
    samples = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
    samples.sample_rate, samples.time_base = 48000, Fraction(1, 48000)
    samples.pts = 16000 * number
    converted = av.AudioResampler(format=stream.codec_context.format, layout="stereo").resample(samples)
    return [packet for frame in [*converted, None] for packet in stream.encode(frame)]


def encode_subtitles(stream: SubtitleStream, seconds: float) -> list[av.Packet]:
    """A line of text every half second, shown for 0.3 seconds."""
    packets = []
    for number in range(int(2 * seconds)):
        line = SubtitleSet.create(f"0,0,Default,,0,0,0,,Line {number}".encode(), 0, 300, pts=500_000 * number)
        packet = stream.codec_context.encode_subtitle(line)
        packet.pts = packet.dts = 500 * number
        packet.duration, packet.time_base, packet.stream = 300, Fraction(1, 1000), stream
        packets.append(packet)
    return packets


def write_lossless(path: Path, frames: np.ndarray, frame_rate: int = 24) -> Path:
    """Encode RGB frames `(t, h, w, 3)`, uint8, so that the file decodes to exactly these frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=frame_rate, options={"qp": "0", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "rgb24"
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, frame_rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def packets(path: Path, stream_type: str) -> list[tuple[Fraction, bytes]]:
    """Times in seconds and contents of all packets of the first stream of a type ("audio", "subtitle")."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == stream_type)
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(stream) if packet.size]


def copy_clip(source: Path, target: Path, **options) -> list[np.ndarray]:
    """Read and write all frames, as a restoration that changes nothing would; return the images that were read."""
    images = []
    with (
        VideoReader(source) as reader,
        VideoWriter(target, reader, width=reader.width, height=reader.height, **options) as writer,
    ):
        for frame in reader.read(deep=writer.bits > 8):
            images.append(frame.image)
            writer.write(frame.image if frame.deep is None else frame.deep, frame.pts, frame.duration)
    return images


def times(path: Path) -> list[Fraction]:
    """Times of all frames in seconds."""
    return [frame.pts * frame.time_base for frame in VideoReader(path)]


def end(path: Path) -> Fraction:
    """The time in seconds at which the last frame ends."""
    *_, last = VideoReader(path)
    return (last.pts + last.duration) * last.time_base


def difference(a: np.ndarray, b: np.ndarray) -> int:
    """Largest absolute difference of two images, in levels."""
    return int(np.abs(a.astype(int) - b.astype(int)).max())
