"""Decoded frames become the images that the package works on: upright RGB, and 10-bit YUV for deeper sources."""

from pathlib import Path

import av
import numpy as np

from ..colour import Colour, read_colour, to_rgb
from ..deep.deep_format import DeepFormat, bits_of, to_sdr_image
from ..deep.deep_image import DeepImage, deep_image
from ..fitting import fit_image
from .orientation import Orientation


class FrameConverter:
    """Converts the frames of a video, all in the way that its first frame describes.

    Args:
        first (`av.VideoFrame`): The first frame.
        path (`Path`): The file, for the error message.

    Attributes:
        orientation ([`Orientation`]): How frames are turned.
        colour ([`Colour`]): How the RGB images become YUV of 8 bits: as in the file, except for HDR, which is mapped
            to the standard range.
        deep ([`DeepFormat`], *optional*): Meaning of the values of the file if it has more than 8 bits per colour.

    Raises:
        ValueError: If the colour matrix is not supported.
    """

    def __init__(self, first: av.VideoFrame, path: Path) -> None:
        self._stored_size = (first.width, first.height)
        self.orientation = Orientation.read(first)
        self._stored_colour = self.colour = read_colour(first, path)
        self.deep = DeepFormat.read(first, self.colour) if bits_of(first) > 8 else None
        self._tone_mapping = self.deep.tone_mapping if self.deep else None
        if self._tone_mapping is not None:
            self.colour = Colour()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the images in pixels."""
        width, height = self._stored_size
        return (height, width) if self.orientation.transposed else (width, height)

    def to_image(self, frame: av.VideoFrame) -> np.ndarray:
        """Convert a frame to RGB, uint8 of shape `(h, w, 3)`, fitted into the size of the first frame."""
        if self.deep and self._tone_mapping:
            image = to_sdr_image(frame, self.deep, self._tone_mapping)
        else:
            image = to_rgb(frame, self._stored_colour)
        image = self.orientation.apply(image)
        width, height = self.size
        return image if image.shape == (height, width, 3) else fit_image(image, width, height)

    def to_deep_image(self, frame: av.VideoFrame, image: np.ndarray) -> DeepImage | None:
        """Convert a frame to 10-bit YUV, given its RGB; `None` if the file has 8 bits."""
        if self.deep is None:
            return None
        if (frame.width, frame.height) != self._stored_size:
            return deep_image(image, self.deep)
        planes = DeepImage.read(frame, self.deep).planes
        return DeepImage([self.orientation.apply(plane) for plane in planes], self.deep)
