"""Conversion between the YUV of video files and RGB, with the matrix and the range that the file declares."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation


# Matrices that swscale can convert, as numbers of ITU-T H.273: BT.709, FCC, BT.601 (two numbers), SMPTE 240M, BT.2020.
SUPPORTED_MATRICES = (1, 4, 5, 6, 7, 9)
MATRIX_RGB, MATRIX_UNSPECIFIED, MATRIX_601 = 0, 2, 6
# Players take an undeclared matrix for BT.709 from this length of the shorter side on, in pixels.
HD_SIDE = 720

# swscale's defaults are off by a level or two on every pixel: 47 dB from YUV to RGB and back, 77 dB with these flags.
# PyAV 17, the last version for Python 3.10, has no names for full chroma input (0x2000), full chroma output (0x4000)
# and accurate rounding (0x40000).
EXACT = Interpolation.BILINEAR | 0x2000 | 0x4000 | 0x40000

# swscale converts YUV by its range, but takes all grey images for full range.  This table expands limited range.
LIMITED_TO_FULL_GREY = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Colour:
    """The meaning of the YUV values of a file, as numbers of ITU-T H.273.

    Args:
        matrix (`int`): Conversion between RGB and YUV.
        primaries (`int`): Chromaticities of red, green and blue.
        transfer (`int`): Transfer characteristics (gamma).
    """

    matrix: int = int(Colorspace.ITU709)
    primaries: int = int(ColorPrimaries.BT709)
    transfer: int = int(ColorTrc.BT709)


def read_colour(frame: av.VideoFrame, path: Path) -> Colour:
    """Return the colour description of a decoded frame; an undeclared matrix is the one that players assume.

    Args:
        frame (`av.VideoFrame`): A frame of the file.
        path (`Path`): The file, for the error message.

    Raises:
        ValueError: If the matrix is not supported.
    """
    matrix = frame.colorspace
    if matrix == MATRIX_RGB:
        matrix = int(Colorspace.ITU709)
    elif matrix == MATRIX_UNSPECIFIED:
        matrix = int(Colorspace.ITU709) if min(frame.width, frame.height) >= HD_SIDE else MATRIX_601
    if matrix not in SUPPORTED_MATRICES:
        raise ValueError(f"{path}: colour matrix {matrix} (ITU-T H.273) is not supported; convert the file first.")
    return Colour(matrix, frame.color_primaries, frame.color_trc)


def to_rgb(frame: av.VideoFrame, colour: Colour) -> np.ndarray:
    """Convert a decoded frame to an RGB image, uint8 of shape `(h, w, 3)`."""
    rgb = frame.reformat(
        format="rgb24", src_colorspace=colour.matrix, dst_colorspace=colour.matrix, interpolation=EXACT
    )
    image = rgb.to_ndarray()
    if frame.format.name.startswith("gray") and frame.color_range == ColorRange.MPEG:
        image = LIMITED_TO_FULL_GREY[image]
    return image


def from_rgb(image: np.ndarray, colour: Colour, pixel_format: str) -> av.VideoFrame:
    """Convert an RGB image, uint8 of shape `(h, w, 3)`, to a frame for an encoder.

    The range is always limited, which every player shows correctly; swscale's full range is off by a level.
    """
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame.colorspace = colour.matrix  # PyAV 17 would lose BT.2020 otherwise
    return frame.reformat(
        format=pixel_format, dst_colorspace=colour.matrix, dst_color_range=ColorRange.MPEG, interpolation=EXACT
    )
