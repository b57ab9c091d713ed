"""`DeepImage`: a frame as 10-bit YUV. What nothing changes is exactly as in the file."""

from typing import NamedTuple

import av
import cv2
import numpy as np

from ..colour import EXACT
from .deep_format import LARGEST, NEUTRAL, DeepFormat, layout_of


BITS = 10


class Box(NamedTuple):
    """A part of a frame, in pixels; `right` and `bottom` are not part of it."""

    left: int
    top: int
    right: int
    bottom: int


class DeepImage:
    """A frame as 10-bit YUV, in 4:2:0, or in 4:4:4 if a side is odd.

    Args:
        planes (`list[np.ndarray]`): Y of shape `(h, w)`, Cb and Cr; uint16 from 0 to 1023.
        format ([`DeepFormat`]): What they mean.
    """

    def __init__(self, planes: list[np.ndarray], format: DeepFormat) -> None:
        self.planes, self.format = planes, format

    @classmethod
    def read(cls, frame: av.VideoFrame, format: DeepFormat) -> "DeepImage":
        """Copy a decoded frame; values of other depths become 10 bits, rounded."""
        layout = layout_of(frame.width, frame.height)
        if frame.format.name.startswith("gray"):
            luma = _to_ten_bits(_plane(frame, 0), frame.format.components[0].bits)
            step = 2 if layout == "yuv420p" else 1
            neutral = np.full((frame.height // step, frame.width // step), NEUTRAL, np.uint16)
            return cls([luma, neutral, neutral.copy()], format)
        if not _is_planar(frame.format.name, layout):
            frame = frame.reformat(
                format=f"{layout}10le",
                src_colorspace=format.colour.matrix,
                dst_colorspace=format.colour.matrix,
                dst_color_range=format.color_range,
                interpolation=EXACT,
            )
        planes = [_to_ten_bits(_plane(frame, index), frame.format.components[index].bits) for index in range(3)]
        return cls(planes, format)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.planes[0].shape
        return width, height

    @property
    def _step(self) -> int:
        """Pixels of the frame per pixel of Cb and Cr, along each side."""
        return 2 if self.planes[1].shape != self.planes[0].shape else 1

    def resized(self, width: int, height: int) -> "DeepImage":
        """A copy of another size, by cubic interpolation."""
        step = self._step if width % 2 == height % 2 == 0 else 1
        sizes = [(width, height), *[(width // step, height // step)] * 2]
        planes = [
            plane.copy()
            if plane.shape[::-1] == size
            else np.minimum(cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC), LARGEST)
            for plane, size in zip(self.planes, sizes, strict=True)
        ]
        return DeepImage(planes, self.format)

    def even(self, box: Box) -> Box:
        """The smallest part that contains a box and whole pixels of Cb and Cr."""
        step = self._step
        left, top = box.left // step * step, box.top // step * step
        return Box(left, top, -(-box.right // step) * step, -(-box.bottom // step) * step)

    def to_rgb(self, box: Box) -> np.ndarray:
        """A part of the frame as the networks know images: RGB, float32 `(h, w, 3)`, from 0 to 255.

        Values below black and above white stay outside of that range.
        """
        height, width = box.bottom - box.top, box.right - box.left
        # Each value of Cb and Cr is repeated, so that their mean in `change` gives exactly that value again.
        parts = [
            cv2.resize(part.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
            for part in self._parts(box)
        ]
        yuv = cv2.merge(parts) - self.format.offsets.astype(np.float32)
        signal = cv2.transform(yuv, np.linalg.inv(self.format.matrix))
        mapping = self.format.tone_mapping
        return np.float32(255) * (signal if mapping is None else mapping.to_sdr(signal))

    def change(self, box: Box, before: np.ndarray, after: np.ndarray) -> None:
        """Change a part of the frame, in place, by the difference of two images.

        Where both are equal, the frame keeps its values. The change does not lead out of the range from black to
        white.

        Args:
            box (`Box`): The part, a result of `even`.
            before (`np.ndarray`): Result of `to_rgb`.
            after (`np.ndarray`): The part as it should be, like `before`.
        """
        after = np.clip(after, np.minimum(before, 0), np.maximum(before, 255))
        mapping = self.format.tone_mapping
        if mapping is None:
            difference = (after - before) / np.float32(255)
        else:
            difference = mapping.to_signal(after / 255) - mapping.to_signal(before / 255)
        changes = cv2.split(cv2.transform(difference, self.format.matrix))
        for part, change in zip(self._parts(box), changes, strict=True):
            if change.shape != part.shape:
                change = cv2.resize(change, part.shape[::-1], interpolation=cv2.INTER_AREA)
            part[...] = np.clip(np.rint(part + change), 0, LARGEST)

    def _parts(self, box: Box) -> list[np.ndarray]:
        height = self.planes[0].shape[0]
        parts = []
        for plane in self.planes:
            step = height // plane.shape[0]
            parts.append(plane[box.top // step : box.bottom // step, box.left // step : box.right // step])
        return parts

    def to_frame(self) -> av.VideoFrame:
        """The frame for an encoder."""
        width, height = self.size
        frame = av.VideoFrame(width, height, f"yuv4{'20' if self._step == 2 else '44'}p10le")
        for plane, values in zip(frame.planes, self.planes, strict=True):
            rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
            rows[:, : plane.width] = values
            plane.update(rows.tobytes())
        frame.colorspace, frame.color_range = self.format.colour.matrix, self.format.color_range
        return frame


def deep_image(image: np.ndarray, format: DeepFormat) -> DeepImage:
    """Convert an RGB image of 8 bits, uint8 `(h, w, 3)`, as the networks know them."""
    height, width = image.shape[:2]
    step = 2 if layout_of(width, height) == "yuv420p" else 1
    chroma = (height // step, width // step)
    black = zip(((height, width), chroma, chroma), format.offsets, strict=True)
    result = DeepImage([np.full(shape, value, np.uint16) for shape, value in black], format)
    box = Box(0, 0, width, height)
    result.change(box, result.to_rgb(box), image.astype(np.float32))
    return result


def _is_planar(name: str, layout: str) -> bool:
    """Whether the first three planes of a pixel format are Y, Cb and Cr in a layout; a fourth may be transparency."""
    return name.endswith("le") and "msb" not in name and name.replace("yuva", "yuv").startswith(layout)


def _plane(frame: av.VideoFrame, index: int) -> np.ndarray:
    plane = frame.planes[index]
    rows = np.frombuffer(memoryview(plane), np.uint16).reshape(plane.height, -1)
    return rows[:, : plane.width]


def _to_ten_bits(values: np.ndarray, bits: int) -> np.ndarray:
    if bits <= BITS:
        return values << (BITS - bits)
    half = 1 << (bits - BITS - 1)
    return np.minimum((values.astype(np.uint32) + half) >> (bits - BITS), LARGEST).astype(np.uint16)
