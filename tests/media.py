"""Small encoded videos for the tests, made on the spot."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def gradient(index: int, width: int, height: int) -> np.ndarray:
    """A smooth RGB picture that moves and brightens with the index, so that every frame can be told apart."""
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
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int | None = None,
    images: list[np.ndarray] | None = None,
    colour: tuple[int, int] | None = None,
    metadata: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    """Encode moving gradients (or the given RGB images), with a sine tone if an audio codec is named.

    `colour` is (matrix, range) in FFmpeg's numbers: 1 BT.709, 5 BT.601, 9 BT.2020; 1 limited, 2 full.
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
        sound = container.add_stream(audio_codec, rate=48000) if audio_codec else None
        matrix, colour_range = colour or (None, None)
        for index, image in enumerate(images):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format=pixel_format, dst_colorspace=matrix, dst_color_range=colour_range
            )
            picture.pts = pts[index] if pts else index
            picture.time_base = time_base or 1 / Fraction(frame_rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if sound:
            time = np.arange(round(48000 * len(images) / frame_rate)) / 48000
            tone = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
            samples = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
            samples.sample_rate, samples.pts = 48000, 0
            converted = av.AudioResampler(format=sound.codec_context.format, layout="stereo").resample(samples)
            container.mux([packet for frame in [*converted, None] for packet in sound.encode(frame)])
    return path


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """Times in seconds and contents of all packets of the first stream of a kind ("audio", "subtitle")."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(stream) if packet.size]
