"""Tone mapping between high dynamic range (HDR: PQ and HLG, ITU-R BT.2100) and the standard range of the networks.

The networks know images of BT.709 with a peak of about 100 nits. With the reference white of 203 nits (ITU-R BT.2408)
as 1, the steps are:

    L = EOTF(R'G'B') / 203            light of the display; HLG on a display of 1000 nits
    L = M L                           primaries of BT.2020 to those of BT.709; colours outside become negative
    y = L (1 + L / w^2) / (1 + L)     Reinhard et al. 2002, equation 4; w is the peak of the transfer function
    s = y^(1 / 2.4)                   ITU-R BT.1886

Every step can be inverted, also outside of 0 to 1 (negative values as their positive ones, with the sign), so a change
that a network makes to s has an exact counterpart in the file. The curve depends on nothing but the transfer function,
so a frame is the same in every part of a video. HLG's system gamma, 1.2, is applied to each channel.
"""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np


# Transfer functions as numbers of ITU-T H.273.
PQ, HLG = 16, 18
REFERENCE_WHITE, PQ_PEAK, HLG_PEAK, HLG_GAMMA = 203.0, 10_000.0, 1000.0, 1.2
DISPLAY_GAMMA = 2.4

# Constants of ITU-R BT.2100, tables 4 and 5.
M1, M2, C1, C2, C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
A, B, C = 0.17883277, 0.28466892, 0.55991073

# ITU-R BT.2087, equations 4 and 5: BT.709 to BT.2020.
FROM_BT709 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
TO_BT709 = np.linalg.inv(FROM_BT709)


@dataclass(frozen=True)
class ToneMapping:
    """The tone mapping of a transfer function.

    Args:
        transfer (`int`): `PQ` or `HLG`.
    """

    transfer: int

    @property
    def _white(self) -> float:
        return (PQ_PEAK if self.transfer == PQ else HLG_PEAK) / REFERENCE_WHITE

    def to_sdr(self, signal: np.ndarray) -> np.ndarray:
        """Map R'G'B' of the file `(h, w, 3)`, float with black at 0 and the peak at 1, to that of the networks."""
        light = np.copysign(_to_light(np.abs(signal), self.transfer), signal)
        return self._compress(light)

    def to_sdr_image(self, signal: np.ndarray) -> np.ndarray:
        """Map an image `(h, w, 3)` of uint16, R'G'B' of the file with the peak at 65535, to uint8 of the networks."""
        sdr = self._compress(_light_table(self.transfer)[signal])
        return cv2.convertScaleAbs(np.maximum(sdr, 0), alpha=255)

    def _compress(self, light: np.ndarray) -> np.ndarray:
        light = cv2.transform(light.astype(np.float32), TO_BT709)
        size = np.abs(light)
        mapped = size * (1 + size / self._white**2) / (1 + size)
        return np.copysign(cv2.pow(mapped, 1 / DISPLAY_GAMMA), light)

    def to_signal(self, sdr: np.ndarray) -> np.ndarray:
        """The inverse of `to_sdr`, in float64; light above the peak becomes the peak."""
        sdr = sdr.astype(np.float64)
        mapped = np.abs(sdr) ** DISPLAY_GAMMA
        # The positive solution of the quadratic equation, in the form that does not cancel.
        size = 2 * mapped / (1 - mapped + np.sqrt((1 - mapped) ** 2 + 4 * mapped / self._white**2))
        light = cv2.transform(np.copysign(size, sdr), FROM_BT709)
        return np.copysign(_to_signal(np.minimum(np.abs(light), self._white), self.transfer), light)


@cache
def _light_table(transfer: int) -> np.ndarray:
    """Light for every value of a 16-bit signal, float32."""
    return _to_light(np.arange(65536) / 65535, transfer).astype(np.float32)


def _to_light(signal: np.ndarray, transfer: int) -> np.ndarray:
    """Light of a display for a signal of 0 or more, in units of the reference white."""
    signal = signal.astype(np.float64)
    if transfer == PQ:
        power = np.minimum(signal, 1) ** (1 / M2)
        return PQ_PEAK / REFERENCE_WHITE * (np.maximum(power - C1, 0) / (C2 - C3 * power)) ** (1 / M1)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - C) / A) + B) / 12)
    return HLG_PEAK / REFERENCE_WHITE * scene**HLG_GAMMA


def _to_signal(light: np.ndarray, transfer: int) -> np.ndarray:
    """The inverse of `_to_light`."""
    if transfer == PQ:
        power = (light * (REFERENCE_WHITE / PQ_PEAK)) ** M1
        return ((C1 + C2 * power) / (1 + C3 * power)) ** M2
    scene = (light * (REFERENCE_WHITE / HLG_PEAK)) ** (1 / HLG_GAMMA)
    logarithm = A * np.log(np.maximum(12 * scene - B, math.ulp(1.0))) + C
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)
