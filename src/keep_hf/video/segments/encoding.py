"""The settings of an encoder, and the conversion of frames to what it takes."""

from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from ..colour import EXACT, Colour, from_rgb
from ..deep.deep_format import DeepFormat, layout_of
from ..deep.deep_image import DeepImage, deep_image


# Names of codecs, and the encoders that write them.
ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9"}

# x264's AVX-512 code reads uninitialised memory when the width is not a multiple of 128, and then encodes the same
# frames differently each time; without it the result is that of plain C. (Found with x264 165 under MALLOC_PERTURB_.)
CPU_AVX512_SKX = 256  # OpenCV's constant, which its Python module does not export
REPRODUCIBLE = {"x264-params": "asm=avx2"} if cv2.checkHardwareSupport(CPU_AVX512_SKX) else {}

# The output of x264 depends on its number of threads, so that must not be the number of cores of the machine.
THREADS = 8
# The same is true for x265 and the number of frames that it encodes at a time.  No frame refers to one before the last
# key frame, as with x264, so that players can seek.
X265_PARAMETERS = ("frame-threads=3", "open-gop=0", "log-level=error")


@dataclass(frozen=True)
class Encoding:
    """Settings of an encoder.

    Args:
        encoder (`str`): One of the values of `ENCODERS`.
        width, height (`int`): Size of the frames in pixels.
        frame_rate (`Fraction`): Frames per second.
        time_base (`Fraction`): Seconds per unit of the timestamps.
        crf (`int`): Constant rate factor, from 0 (best) to 51.
        preset (`str`): Trade-off between time and file size; not for VP9.
        colour ([`Colour`]): Colour description to convert to and to declare, at 8 bits.
        pixel_aspect (`Fraction`): Width of a pixel divided by its height.
        deep ([`DeepFormat`], *optional*): Encode 10 bits, with this meaning; 8 bits by default.
    """

    encoder: str
    width: int
    height: int
    frame_rate: Fraction
    time_base: Fraction
    crf: int
    preset: str
    colour: Colour
    pixel_aspect: Fraction
    deep: DeepFormat | None = None

    @property
    def pixel_format(self) -> str:
        """The pixel format of the encoded video."""
        if self.encoder == "libvpx-vp9":
            return "yuv420p"
        # x264 and x265 accept odd sides only in 4:4:4; padding would be visible and cropping would lose a line.
        return layout_of(self.width, self.height) + ("10le" if self.deep else "")

    @property
    def frame_duration(self) -> int:
        """Duration of a frame at the frame rate, in units of `time_base`."""
        return max(1, round(1 / (self.frame_rate * self.time_base)))

    def configure(self, context: VideoCodecContext) -> None:
        """Apply the settings to an encoder that is not open yet."""
        context.options = {"crf": str(self.crf)} | self._encoder_options()
        context.width, context.height = self.width, self.height
        context.framerate, context.time_base = self.frame_rate, self.time_base
        context.pix_fmt = self.pixel_format
        context.thread_type = "FRAME"  # PyAV's default divides each frame into slices, which reduces quality
        context.thread_count = THREADS
        colour = self.deep.colour if self.deep else self.colour
        context.colorspace = colour.matrix
        context.color_range = self.deep.color_range if self.deep else ColorRange.MPEG
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        context.sample_aspect_ratio = self.pixel_aspect

    def _encoder_options(self) -> dict[str, str]:
        if self.encoder == "libvpx-vp9":
            return {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
        name = "x264-params" if self.encoder == "libx264" else "x265-params"
        parameters = [*REPRODUCIBLE.values()] if self.encoder == "libx264" else [*X265_PARAMETERS]
        if self.deep:
            parameters += self.deep.metadata.encoder_parameters(self.encoder)
        return {"preset": self.preset} | ({name: ":".join(parameters)} if parameters else {})

    def to_frame(self, image: np.ndarray | DeepImage, pts: int) -> av.VideoFrame:
        """Convert an image to a frame for the encoder.

        Args:
            image (`np.ndarray` or [`DeepImage`]): RGB, uint8 of shape `(height, width, 3)`; at 10 bits also YUV.
            pts (`int`): When it appears, in units of `time_base`.
        """
        if self.deep is None:
            frame = from_rgb(cast(np.ndarray, image), self.colour, self.pixel_format)
        else:
            deep = image if isinstance(image, DeepImage) else deep_image(image, self.deep)
            frame = deep.to_frame()
            if frame.format.name != self.pixel_format:  # the sides of the source are odd, those of the result are not
                frame = frame.reformat(format=self.pixel_format, interpolation=EXACT)
        frame.pts, frame.time_base = pts, self.time_base
        return frame
