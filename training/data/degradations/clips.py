"""The degradation of one clip: none, that of the paper, or one of real videos."""

from dataclasses import astuple, dataclass

import cv2
import numpy as np

from .codecs import encode_h264
from .paper import PAPER_RANGE, degrade_as_paper
from .real import degrade_as_enlarged, degrade_as_real


@dataclass(frozen=True)
class DegradationShares:
    """How often a clip is degraded in which way.

    Args:
        clear (`float`): Unchanged, or encoded once in good quality.
        paper (`float`): As in the paper.
        enlarged (`float`): A small face that was sharpened, enlarged and sharpened again. It has the edges of a clear
            face, but not its detail.
        real (`float`): As the videos of cameras and platforms are.

    Raises:
        ValueError: If a share is negative, or they do not add up to 1.
    """

    clear: float = 0.15
    paper: float = 0.43
    enlarged: float = 0.1
    real: float = 0.32

    def __post_init__(self) -> None:
        if min(astuple(self)) < 0 or abs(sum(astuple(self)) - 1) > 1e-6:
            raise ValueError(f"The shares of degradations must not be negative and must add up to 1, got {self}.")


DEFAULT_SHARES = DegradationShares()


def degrade_clip(
    frames: np.ndarray, random: np.random.Generator, shares: DegradationShares = DEFAULT_SHARES
) -> np.ndarray:
    """Degrade a clip of aligned faces and enlarge it to its size again.

    Args:
        frames (`np.ndarray` of shape `(t, size, size, 3)`): Sharp RGB, uint8.
        random (`np.random.Generator`): Source of all random numbers.
        shares ([`DegradationShares`]): Of the kinds of degradation.

    Returns:
        `np.ndarray` of the same shape, uint8.
    """
    size = frames.shape[1]
    kind = random.choice(4, p=astuple(shares))
    if kind == 0:
        return encode_h264(frames, random, (8, 21), "veryfast") if random.random() < 0.5 else frames
    if kind == 1:
        small = degrade_as_paper(frames, PAPER_RANGE.at_size(size), random)
    else:
        small = (degrade_as_enlarged if kind == 2 else degrade_as_real)(frames, random)
    enlarge = cv2.INTER_LINEAR if random.random() < 0.7 else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (size, size), interpolation=enlarge) for frame in small])
