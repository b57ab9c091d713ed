"""Small videos with more than 8 bits per colour that the tests encode, and their values as decoded."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from media import encode_tone


# Transfer functions as numbers of ITU-T H.273.
BT709, PQ, HLG = 1, 16, 18
BT2020 = 9
# x and y of red, green, blue and white in 1/50000, largest and smallest luminance in 1/10000 nits; then in nits.
MASTERING = (34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 10_000_000, 50)
LIGHT_LEVEL = (1000, 400)
HDR10 = (
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400:"
    "log-level=error"
)
X265 = {"x265-params": "log-level=error"}


def smooth_planes(index: int, width: int, height: int) -> list[np.ndarray]:
    """A smooth Y, U and V in 4:2:0, uint16 of 10 bits and limited range, with more than 256 levels of Y."""
    y, x = np.mgrid[:height, :width]
    luma = 100 + 800 * (x + 1.618 * y + index) / (width + 1.618 * height + 32)
    v, u = np.mgrid[: height // 2, : width // 2]
    planes = (luma, 480 + 40 * u / width, 500 + 60 * v / height)
    return [np.rint(plane).astype(np.uint16) for plane in planes]


def write_deep(
    path: Path,
    planes: list[list[np.ndarray]],
    *,
    codec: str = "libx265",
    pixel_format: str = "yuv420p10le",
    options: dict[str, str] | None = None,
    colour: tuple[int, int, int, int] = (1, 1, 1, 1),
    frame_rate: int = 25,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int | None = None,
    audio: bool = False,
) -> Path:
    """Encode frames of Y, U and V, uint16 of the bits of the pixel format.

    `colour` is (matrix, primaries, transfer, range) as FFmpeg's numbers; range 1 is limited, 2 full.
    """
    height, width = planes[0][0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=frame_rate, options=options or (X265 if codec == "libx265" else {}))
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, pixel_format
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = colour
        if time_base is not None:
            context.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(rotation)
        tone = container.add_stream("aac", rate=48000) if audio else None
        for index, values in enumerate(planes):
            frame = to_frame(values, pixel_format)
            frame.colorspace, frame.color_range = colour[0], colour[3]
            frame.pts = pts[index] if pts else index
            frame.time_base = time_base or Fraction(1, frame_rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            container.mux(encode_tone(tone, 0, len(planes) / frame_rate))
    return path


def to_frame(planes: list[np.ndarray], pixel_format: str) -> av.VideoFrame:
    """A frame with these values."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        rows[:, : plane.width] = values
        plane.update(rows.tobytes())
    return frame


def decode(path: Path) -> list[list[np.ndarray]]:
    """The planes of all frames of a video of 9 to 16 bits, as stored."""
    with av.open(str(path)) as container:
        return [
            [
                np.frombuffer(plane, np.uint16).reshape(plane.height, -1)[:, : plane.width].copy()
                for plane in frame.planes
            ]
            for frame in container.decode(video=0)
        ]


def inspect(path: Path) -> dict[str, Any]:
    """What a player needs to know of a video, from the stream and from its first frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        found: dict[str, Any] = {
            "codec": stream.codec_context.codec.canonical_name,
            "profile": stream.codec_context.profile,
            "tag": stream.codec_context.codec_tag,
            "pixel format": frame.format.name,
            "matrix": frame.colorspace,
            "primaries": frame.color_primaries,
            "transfer": frame.color_trc,
            "range": frame.color_range,
        }
        display = frame.side_data.get("MASTERING_DISPLAY_METADATA")
        level = frame.side_data.get("CONTENT_LIGHT_LEVEL")
        fractions = None if display is None else np.frombuffer(bytes(display), np.int32, 20).reshape(10, 2)
        found["mastering display"] = None if fractions is None else (fractions[:, 0] / fractions[:, 1]).tolist()
        found["light level"] = None if level is None else np.frombuffer(bytes(level), np.uint32)[:2].tolist()
    return found
