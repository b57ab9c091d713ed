"""Reading of animated GIF, PNG and WebP files, with the interface of `VideoReader`.

FFmpeg does not decode animated WebP, and it does not fill what is transparent. Pillow does the former, and shows every
frame complete, on what the frames before it have left.
"""

import os
import warnings
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .colour import Colour
from .decoding.damage import Damage
from .decoding.source import FrameSource, VideoFrame
from .media_files import ANIMATED_FORMATS, IMAGE_ERRORS, check_exists, is_animation, open_image


BACKGROUND = (255, 255, 255, 255)
# Many GIFs contain durations of 0 or 10 ms; all programs show these frames for 100 ms.
TOO_SHORT_FOR_GIF, REPLACEMENT = 10, 100
# 90,000 units per second represent milliseconds and the usual frame rates without rounding.
TIME_BASE = Fraction(1, 90_000)


class AnimationReader(FrameSource):
    """An animated image as a sequence of `VideoFrame`, which can be iterated over any number of times.

    Every frame keeps its own duration. The animation is played once. Transparent parts are shown on white.

    Args:
        path (`str` or `os.PathLike`): The file.
        strict (`bool`, *optional*, defaults to `False`): Raise an error if the file is truncated or damaged. Otherwise
            it ends at the damaged frame, with a warning that has both numbers of frames.

    Attributes:
        width, height (`int`): Size of the frames in pixels.
        frame_rate (`Fraction`): Average, in frames per second.
        time_base (`Fraction`): Seconds per unit of the timestamps.
        num_frames (`int`): Number of frames.
        damage ([`Damage`]): What was damaged, once an iteration has reached the end.

    Raises:
        ValueError: If the file is not such an animation; with `strict`, while iterating, if it is damaged.
    """

    def __init__(self, path: str | os.PathLike, strict: bool = False) -> None:
        super().__init__(Path(path), strict)
        check_exists(self.path)
        self.has_audio, self.colour, self.pixel_aspect = False, Colour(), Fraction(1)
        self.time_base = TIME_BASE
        with self._open() as image:
            self.width, self.height = image.size
            if _is_transparent(image):
                warnings.warn(f"{self.path}: transparent parts are shown on white.", stacklevel=2)
            # The frames of a GIF must be counted; the others announce their number.
            announced = None if image.format == "GIF" else image.n_frames - _first_number(image)
        damage = Damage()
        self._durations = [_duration(image) for image in self._decode(damage)]
        if not self._durations:
            raise ValueError(f"{self.path}: the first frame cannot be decoded.")
        self.num_frames = announced or len(self._durations)
        self.frame_rate = (len(self._durations) / (sum(self._durations) * TIME_BASE)).limit_denominator(100_000)

    def _open(self) -> Any:
        image = open_image(self.path, ANIMATED_FORMATS)
        if not is_animation(self.path):
            image.close()
            raise ValueError(f"{self.path} is not a video, but an image.")
        return image

    def read(self, start: int = 0) -> Iterator[VideoFrame]:
        """Decode the file from its beginning, and yield the frames from number `start` on.

        Args:
            start (`int`, *optional*, defaults to 0): Number of frames to skip.

        Returns:
            `Iterator[VideoFrame]`

        Raises:
            ValueError: If the file is damaged and the reader is strict.
        """
        damage = Damage()
        pts = 0
        for image, duration in zip(self._decode(damage), self._durations, strict=True):
            damage.num_read += 1
            if damage.num_read > start:
                yield VideoFrame(_to_rgb(image), pts, TIME_BASE, duration)
            pts += duration
        if damage.num_read < self.num_frames:
            damage.is_cut_off, damage.num_announced = True, self.num_frames
        if self.strict and damage.is_cut_off:
            raise ValueError(f"{self.path}: frame {damage.num_read} cannot be decoded; the file is damaged there.")
        self._report(damage)

    def _decode(self, damage: Damage) -> Iterator[Image.Image]:
        """The frames, up to one that cannot be decoded. They are valid until the next step."""
        with self._open() as image:
            for number in count(_first_number(image)):
                try:
                    image.seek(number)
                    image.load()
                except EOFError:
                    return
                except (Image.DecompressionBombError, *IMAGE_ERRORS):
                    damage.is_cut_off = True
                    return
                yield image


def _first_number(image: Any) -> int:
    # The first image of a PNG may be one that programs without animations show instead.
    return int(getattr(image, "default_image", False))


def _duration(image: Image.Image) -> int:
    """The duration of the current frame in units of `TIME_BASE`."""
    milliseconds: Any = image.info.get("duration", 0)
    is_valid = milliseconds > (TOO_SHORT_FOR_GIF if image.format == "GIF" else 0)
    shown = milliseconds if is_valid else REPLACEMENT
    return round(Fraction(shown).limit_denominator(1_000_000) / 1000 / TIME_BASE)


def _is_transparent(image: Image.Image) -> bool:
    return image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255


def _to_rgb(image: Image.Image) -> np.ndarray:
    frame = image.convert("RGBA")
    background = Image.new("RGBA", frame.size, BACKGROUND)
    return np.array(Image.alpha_composite(background, frame).convert("RGB"))
