"""What the readers of video files, animated images and folders of images have in common."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np

from ..deep.deep_image import DeepImage
from .damage import Damage


Reader = TypeVar("Reader", bound="FrameSource")


@dataclass(frozen=True)
class VideoFrame:
    """One frame as displayed.

    Args:
        image (`np.ndarray`): RGB uint8 of shape `(h, w, 3)`.
        pts (`int`): When the frame appears, in units of `time_base`.
        time_base (`Fraction`): Seconds per unit.
        duration (`int`): How long it is shown, in units of `time_base`.
        deep ([`DeepImage`], *optional*): The frame with 10 bits per colour, see [`VideoReader.read`].
    """

    image: np.ndarray
    pts: int
    time_base: Fraction
    duration: int
    deep: DeepImage | None = None


class FrameSource:
    """A sequence of `VideoFrame`, which can be iterated over any number of times.

    Args:
        path (`Path`): The file or folder.
        strict (`bool`): Whether damage is an error.

    Attributes:
        damage ([`Damage`]): What was damaged, once an iteration has reached the end.
    """

    def __init__(self, path: Path, strict: bool) -> None:
        self.path, self.strict = path, strict
        self.damage = Damage()

    def __enter__(self: Reader) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Readers that keep nothing open have nothing to close."""

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.read()

    def read(self, start: int = 0) -> Iterator[VideoFrame]:
        """Yield the frames from number `start` on."""
        raise NotImplementedError

    def _report(self, damage: Damage) -> None:
        """Keep the damage of a complete iteration. The first one warns of it."""
        is_first, self.damage = self.damage.num_read == 0, damage
        for message in damage.messages(self.path) if is_first else []:
            warnings.warn(message, stacklevel=3)
