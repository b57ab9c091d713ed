"""`strength="auto"`: the weight of a restored face against the input, from what the input lacks.

A network departs from its input also where the input needs nothing: a face that passes through codes loses its own
detail. The departure is justified only as far as the input is degraded. Both are measured in the luma of the aligned
crop at 512 pixels, inside the face, in octave bands; b0 holds periods of 2 to 4 pixels, b1 of 4 to 8, and so on:

    sharpness  S = b1 / b3                  RMS of the bands; b1 without the noise of the flattest fifth
    error      E = S^-1.56 / 25 - 0.08      RMS of the error of the input in b2, b3 and b4, relative to its contrast
    departure  D = |result - input|         likewise, relative to the same contrast
    contrast   C = (b2^2 + b3^2)^(1/2)

S hardly depends on the person: the bands of a sharp face keep the same proportion (0.46 in the mean), and blur, low
resolution and compression all take from b1 more than from b3. E is fitted to degraded faces whose truth is known
(`python -m benchmarks.strength`). Finer bands than b2 are left out of E and D: what is missing there cannot be
estimated, and a network may invent it freely.

Let e be the error of the input, c the change that the network proposes, and w its weight. The squared error of the
blend, |e - w c|^2, is smallest for w = <e, c> / |c|^2 = r E / D with a correlation r of at most 1. A result that
departs by more than the input lacks is therefore certain to be worse than a blend; r is not known, but differs by the
kind of network:

 - A direct path outputs the input plus a correction and was trained to correct little where little is wrong. It gets
   full weight up to a departure of about the error.
 - Codes depart by a constant part that has nothing to do with the degradation. They get weight only from E / D = 0.5
   on. Where the input is degraded badly, it is no guide any more, and the result counts in full.

A face that is already sharp is left as it is. Every frame is measured; the measurements and then the weight are
smoothed along a track segment with a time constant of a second, so that the weight changes slowly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from ..faces.alignment import TEMPLATE_SIZE


# The ellipse that lies inside every aligned face, in pixels of a crop of 512: centre and half axes.
FACE_CENTRE, FACE_AXES = (256, 300), (125, 165)
NUM_BANDS = 5
DETAIL, COARSE = 1, 3  # the bands of S
JUDGED = (2, 3, 4)  # the bands of E and D
CONTRAST_BANDS = (2, 3)
# A normal distribution has a fifth of its values within this many standard deviations.
FLATTEST, FLATTEST_SIGMAS = 20, 0.2533
# E = SCALE * S ** EXPONENT - OFFSET
ERROR_SCALE, ERROR_EXPONENT, ERROR_OFFSET = 0.0404, -1.56, 0.08
LARGEST_ERROR = 1.5
# The weight grows linearly from 0 to 1 between these limits.
SHARP_ERROR = (0.05, 0.10)
DIRECT_RATIO = (0.25, 0.6)
CODES_RATIO = (0.5, 1.3)
CODES_ERROR = (0.35, 0.65)
SMOOTHING_SECONDS = 1.0
# Weights below this cannot be seen: the face is not touched at all.
SMALLEST_WEIGHT = 0.02


@dataclass(frozen=True)
class Measurement:
    """How degraded a face is, and how far its restoration departs from it.

    Attributes:
        sharpness (`float`): S; about 0.46 for a sharp face, 0.12 for a badly degraded one.
        noise (`float`): Standard deviation of the noise in levels of 255.
        error (`float`): E, the estimated error of the input, relative to its contrast.
        departure (`float`): D, the departure of the restored face from the input, relative to the same contrast.
    """

    sharpness: float
    noise: float
    error: float
    departure: float


@dataclass(frozen=True)
class Judgement:
    """How much of a restored face is used, and why.

    Attributes:
        weight (`float`): Weight of the restored face, from 0 to 1.
        measured ([`Measurement`], *optional*): What the weight was computed from; `None` if it was requested.
    """

    weight: float
    measured: Measurement | None = None


@dataclass
class StrengthSummary:
    """The judgements of one track.

    Attributes:
        is_automatic (`bool`): Whether the weights were computed, not requested.
        num_frames (`int`): Number of frames.
        weight (`float`): Sum of the weights.
        sharpness, noise, error, departure (`float`): Sums of the fields of [`Measurement`]; 0 for requested weights.
        smallest, largest (`float`): Range of the weights.
    """

    is_automatic: bool
    num_frames: int = 0
    weight: float = 0.0
    sharpness: float = 0.0
    noise: float = 0.0
    error: float = 0.0
    departure: float = 0.0
    smallest: float = 1.0
    largest: float = 0.0

    def add(self, judgement: Judgement) -> None:
        """Add the next frame of the track; all of its frames are judged in the same way."""
        self.num_frames += 1
        self.weight += judgement.weight
        for name, value in vars(judgement.measured).items() if judgement.measured else ():
            setattr(self, name, getattr(self, name) + value)
        self.smallest, self.largest = min(self.smallest, judgement.weight), max(self.largest, judgement.weight)

    def merge(self, later: "StrengthSummary") -> None:
        """Add the judgements of the same person in a later part of the video."""
        for name in ("num_frames", "weight", "sharpness", "noise", "error", "departure"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.smallest, self.largest = min(self.smallest, later.smallest), max(self.largest, later.largest)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry in the report: means over the frames, the range of the weights, and a reason in words."""
        names = ("weight", "sharpness", "noise", "error", "departure") if self.is_automatic else ("weight",)
        means = {name: round(getattr(self, name) / self.num_frames, 3) for name in names}
        return means | {"weight_range": [round(self.smallest, 3), round(self.largest, 3)], "reason": self.reason()}

    def reason(self) -> str:
        """What was done and why, such as "left as it is: already sharp"."""
        percent = round(100 * self.weight / self.num_frames)
        if not self.is_automatic:
            return f"restored at {percent} %, as requested" if percent else "left as it is, as requested"
        is_sharp = is_nearly_sharp(self.error / self.num_frames)
        departs = "the result departs from the input by more than the input lacks"
        if percent >= 95:
            return "restored"
        if percent >= 5:
            return f"restored at {percent} %: {'nearly sharp' if is_sharp else departs}"
        return f"left as it is: {'already sharp' if is_sharp else departs}"


def is_nearly_sharp(error: float) -> bool:
    """Whether a face lacks so little that its weight is reduced for that alone.

    Args:
        error (`float`): The mean of [`Measurement.error`] over its frames.
    """
    return bool(_ramp(error, SHARP_ERROR) < 1)


class AutoStrength:
    """Weighs restored faces, for one stream of frames.

    Args:
        frame_rate (`float`): Frames per second, for smoothing.
        is_direct (`bool`): Whether the network outputs the input plus a correction.
    """

    def __init__(self, frame_rate: float, is_direct: bool) -> None:
        self.rate = 1 - math.exp(-1 / (SMOOTHING_SECONDS * frame_rate))
        self.is_direct = is_direct
        self.smoothed: dict[int, np.ndarray] = {}  # by track segment: the fields of Measurement, and the weight

    def judge(self, faces: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> dict[int, Judgement]:
        """Judge the faces of the next frame.

        Args:
            faces (`Mapping[int, tuple[np.ndarray, np.ndarray]]`): By track segment, the crop of the frame and the
                change of the network, both luma of shape `(512, 512)`, float32, in levels of 255. Segments that are
                missing are over.

        Returns:
            `dict[int, Judgement]`: By track segment.
        """
        self.smoothed = {segment: self._smooth(segment, measure(*face)) for segment, face in faces.items()}
        judgements = {}
        for segment, values in self.smoothed.items():
            sharpness, noise, error, departure, weight = values.tolist()
            weight = weight if weight >= SMALLEST_WEIGHT else 0.0
            judgements[segment] = Judgement(weight, Measurement(sharpness, noise, error, departure))
        return judgements

    def _smooth(self, segment: int, measured: np.ndarray) -> np.ndarray:
        """Measurements and weight, from those of the frame before and the measurements of this frame."""
        before = self.smoothed.get(segment)
        if before is None:
            return np.append(measured, self._weigh(measured))
        measured = before[:-1] + self.rate * (measured - before[:-1])
        weight = before[-1] + self.rate * (self._weigh(measured) - before[-1])
        return np.append(measured, weight)

    def _weigh(self, measured: np.ndarray) -> float:
        _, _, error, departure = measured.tolist()
        ratio = error / max(departure, 1e-3)
        if self.is_direct:
            weight = _ramp(ratio, DIRECT_RATIO)
        else:
            weight = max(_ramp(ratio, CODES_RATIO), _ramp(error, CODES_ERROR))
        return weight * _ramp(error, SHARP_ERROR)

    def reset(self) -> None:
        """Start a new scene."""
        self.smoothed = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two frames, as arrays and dictionaries."""
        return {"smoothed": dict(self.smoothed)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of another one with the same arguments."""
        self.smoothed = dict(state["smoothed"])


def measure(crop: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Measure one face, see the module's docstring.

    Args:
        crop, change (`np.ndarray` of shape `(512, 512)`): Luma of the crop and of what the network adds to it,
            float32, in levels of 255.

    Returns:
        `np.ndarray` of shape `(4,)`, float64: sharpness, noise in levels of 255, error, departure.
    """
    bands, changes = face_bands(crop), face_bands(change)
    noise = [np.percentile(np.abs(band), FLATTEST) / FLATTEST_SIGMAS for band in bands[: DETAIL + 1]]
    detail = math.sqrt(max(_square(bands[DETAIL]) - noise[DETAIL] ** 2, 0.01 * _square(bands[DETAIL])))
    # The small constants are below anything visible; they keep a crop without any content from dividing by zero.
    sharpness = (detail + 1e-3) / (math.sqrt(_square(bands[COARSE])) + 1e-2)
    error = min(max(ERROR_SCALE * sharpness**ERROR_EXPONENT - ERROR_OFFSET, 0.0), LARGEST_ERROR)
    contrast = math.sqrt(sum(_square(bands[level]) for level in CONTRAST_BANDS)) + 1e-2
    departure = math.sqrt(sum(_square(changes[level]) for level in JUDGED)) / contrast
    return np.array([sharpness, noise[0], error, departure])


def luma(image: np.ndarray) -> np.ndarray:
    """The luma of an RGB crop `(size, size, 3)`, uint8, at 512 pixels: `(512, 512)`, float32, in levels of 255."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if len(grey) == TEMPLATE_SIZE:
        return grey
    return cv2.resize(grey, (TEMPLATE_SIZE, TEMPLATE_SIZE), interpolation=cv2.INTER_CUBIC)


def face_bands(image: np.ndarray) -> list[np.ndarray]:
    """Split a crop into octave bands, by a Laplacian pyramid.

    Args:
        image (`np.ndarray` of shape `(512, 512)`): Luma, float32.

    Returns:
        `list[np.ndarray]`: For each band, from fine to coarse, its values inside the face, of shape `(n,)`.
    """
    bands = []
    for inside in _insides():
        smaller = cv2.pyrDown(image)
        bands.append((image - cv2.pyrUp(smaller))[inside])
        image = smaller
    return bands


@cache
def _insides() -> list[np.ndarray]:
    """Which pixels of each level of the pyramid lie inside the face."""
    y, x = np.mgrid[:TEMPLATE_SIZE, :TEMPLATE_SIZE]
    inside = ((x - FACE_CENTRE[0]) / FACE_AXES[0]) ** 2 + ((y - FACE_CENTRE[1]) / FACE_AXES[1]) ** 2 <= 1
    return [inside[:: 2**level, :: 2**level] for level in range(NUM_BANDS)]


def _square(values: np.ndarray) -> float:
    return float(np.square(values).mean(dtype=np.float64))


def _ramp(value: float, limits: tuple[float, float]) -> float:
    return min(max((value - limits[0]) / (limits[1] - limits[0]), 0.0), 1.0)
