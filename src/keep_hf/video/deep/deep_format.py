"""The meaning of the values of frames with more than 8 bits per colour, and how the networks see such frames."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange

from ..colour import EXACT, MATRIX_RGB, Colour
from .hdr_metadata import NO_METADATA, HdrMetadata
from .tone_mapping import HLG, PQ, ToneMapping


# 10-bit values (ITU-R BT.2100, table 9): the largest, Cb and Cr without colour, and limited ranges of Y, of Cb and Cr.
LARGEST, NEUTRAL, LIMITED_RANGES = 1023, 512, (876, 896)
STRIP = 64  # rows that are tone-mapped at a time, so that intermediate results stay in the cache
# Weights of red and blue in the luma of the supported matrices, by their numbers in ITU-T H.273.
LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}


@dataclass(frozen=True)
class DeepFormat:
    """What the values of the frames mean.

    Args:
        colour ([`Colour`]): Matrix, primaries and transfer function of the file.
        full_range (`bool`): Whether black and white are 0 and 1023, instead of 64 and 940.
        metadata ([`HdrMetadata`]): Metadata of HDR.
        source_bits (`int`): Bits per colour of the source.
    """

    colour: Colour
    full_range: bool = False
    metadata: HdrMetadata = NO_METADATA
    source_bits: int = 10

    @classmethod
    def read(cls, frame: av.VideoFrame, colour: Colour) -> "DeepFormat":
        """Describe a decoded frame; what is not YUV becomes YUV of limited range."""
        is_rgb = frame.format.is_rgb or frame.colorspace == MATRIX_RGB
        if frame.format.name.startswith("gray"):
            full_range = frame.color_range != ColorRange.MPEG  # as swscale takes grey images, see `to_rgb`
        else:
            full_range = frame.color_range == ColorRange.JPEG and not is_rgb
        return cls(colour, full_range, HdrMetadata.read(frame), bits_of(frame))

    @property
    def tone_mapping(self) -> ToneMapping | None:
        """The tone mapping to the range of the networks; `None` if the video has that range."""
        return ToneMapping(self.colour.transfer) if self.colour.transfer in (PQ, HLG) else None

    @property
    def color_range(self) -> ColorRange:
        """The range as FFmpeg's constant."""
        return ColorRange.JPEG if self.full_range else ColorRange.MPEG

    @property
    def matrix(self) -> np.ndarray:
        """The matrix `(3, 3)` from R'G'B' in 0 to 1 to 10-bit Y, Cb and Cr, without their offsets."""
        red, blue = LUMA_WEIGHTS[self.colour.matrix]
        luma = np.array([red, 1 - red - blue, blue])
        luma_range, chroma_range = (LARGEST, LARGEST) if self.full_range else LIMITED_RANGES
        cb = (np.array([0, 0, 1]) - luma) / (2 - 2 * blue)
        cr = (np.array([1, 0, 0]) - luma) / (2 - 2 * red)
        return np.stack([luma * luma_range, cb * chroma_range, cr * chroma_range])

    @property
    def offsets(self) -> np.ndarray:
        """Y, Cb and Cr of black."""
        return np.array([0 if self.full_range else 64, NEUTRAL, NEUTRAL])


def to_sdr_image(frame: av.VideoFrame, format: DeepFormat, mapping: ToneMapping) -> np.ndarray:
    """Convert a decoded frame of HDR to the RGB image that the networks know, uint8 of shape `(h, w, 3)`."""
    # FFmpeg 8 converts to rgb48 with wrong colours.
    signal = frame.reformat(
        format="gbrp16le",
        src_colorspace=format.colour.matrix,
        dst_colorspace=format.colour.matrix,
        interpolation=EXACT,
    ).to_ndarray()
    return np.concatenate([mapping.to_sdr_image(signal[row : row + STRIP]) for row in range(0, len(signal), STRIP)])


def bits_of(frame: av.VideoFrame) -> int:
    """Bits per colour of a decoded frame."""
    return max(component.bits for component in frame.format.components)


def layout_of(width: int, height: int) -> str:
    """FFmpeg's name of the layout of the planes for a size: 4:2:0, or 4:4:4 if a side is odd."""
    return "yuv444p" if width % 2 or height % 2 else "yuv420p"


def warn_of_eight_bits(format: DeepFormat, source: Path, target: Path) -> None:
    """Warn that an output has 8 bits, and the standard range, although its source has more."""
    tones = ", and its HDR is mapped to the standard range" if format.tone_mapping else ""
    warnings.warn(
        f"{source} has {format.source_bits} bits per colour; {target} has 8{tones}. Write .mp4, .mov or .mkv to keep "
        "10 bits.",
        stacklevel=4,
    )
