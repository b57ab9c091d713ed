"""Degradations of real videos, from light to heavy.

Real videos are damaged in more ways than in the paper: small frames that were enlarged, several codecs at low rates,
sharpening, motion blur, noise of low light, chroma that bleeds, interlacing, grain. One combination is drawn per clip,
noise per frame. Everything but the blur of the lens happens at the size of the small frames, which is cheap.
"""

import itertools
from collections.abc import Callable

import cv2
import numpy as np

from .codecs import compress, encode_h264


SHRINKING = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
ENLARGING = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
MOST_NOISE = 14.0
LOW_LIGHT_NOISE = (6.0, 22.0)


def degrade_as_real(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Degradations of camera, processing and codec; returns smaller frames, uint8."""
    size = frames.shape[1]
    side = even(np.exp(random.uniform(np.log(size / 9), np.log(size))))
    shrink = SHRINKING[random.choice(3, p=(0.6, 0.2, 0.2))]
    lens, motion = draw_blur(random)
    sigma = lens * max(size / side, 1.5)
    blurred = [cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames] if lens else list(frames)
    clip = [cv2.resize(frame, (side, side), interpolation=shrink).astype(np.float32) for frame in blurred]
    if motion is not None:
        clip = [cv2.filter2D(frame, -1, motion) for frame in clip]
    if random.random() < 0.55:
        noise = draw_noise(random)
        clip = [noise(frame) for frame in clip]
    if random.random() < 0.2:
        amount, sigma = random.uniform(0.4, 2.0), random.uniform(0.7, 2.0)
        clip = [sharpen(frame, amount, sigma) for frame in clip]
    if random.random() < 0.12:
        factor, shift = random.uniform(2, 8), int(random.integers(-2, 3))
        clip = [bleed_chroma(frame, factor, shift) for frame in clip]
    if random.random() < 0.05 and len(clip) > 1:
        clip = interlace(clip)
    small = to_levels(clip)
    if random.random() < 0.2:  # enlarged before it was compressed
        small = resize(small, even(min(side * random.uniform(1.3, 2.5), size)), cv2.INTER_LINEAR)
    return compress(small, random)


def degrade_as_enlarged(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A small face that was sharpened, encoded, enlarged and sharpened again; returns smaller frames, uint8.

    So are faces in videos that a device or a platform "improved": steep edges with halos, but no detail.
    """
    size = frames.shape[1]
    side = even(np.exp(random.uniform(np.log(0.12 * size), np.log(0.36 * size))))
    clip = list(resize(frames, side, SHRINKING[random.choice(3, p=(0.7, 0.1, 0.2))]).astype(np.float32))
    if random.random() < 0.3:
        noise = draw_noise(random, most=6.0)
        clip = [noise(frame) for frame in clip]
    amount, sigma = random.uniform(0.2, 1.6), random.uniform(0.6, 1.5)
    small = to_levels([sharpen(frame, amount, sigma) for frame in clip])
    if random.random() < 0.8:
        small = compress(small, random)
    factor = random.uniform(1.5, 4.0)
    large = resize(small, even(min(side * factor, size)), ENLARGING[random.choice(3, p=(0.3, 0.4, 0.3))])
    amount, sigma = random.uniform(0.2, 1.8), random.uniform(0.3, 0.8) * factor
    large = to_levels([sharpen(frame.astype(np.float32), amount, sigma) for frame in large])
    return encode_h264(large, random, (14, 30), "veryfast") if random.random() < 0.7 else large


def even(side: float) -> int:
    """The nearest even number."""
    return 2 * round(side / 2)


def to_levels(clip: list[np.ndarray]) -> np.ndarray:
    """Float frames with values from 0 to 255 -> `(t, h, w, 3)`, uint8."""
    return np.stack([np.rint(np.clip(frame, 0, 255)).astype(np.uint8) for frame in clip])


def resize(frames: np.ndarray, side: int, interpolation: int) -> np.ndarray:
    """Frames `(t, h, w, 3)` -> `(t, side, side, 3)`."""
    return np.stack([cv2.resize(frame, (side, side), interpolation=interpolation) for frame in frames])


def sharpen(frame: np.ndarray, amount: float, sigma: float) -> np.ndarray:
    """Unsharp masking; large amounts give halos."""
    return frame + amount * (frame - cv2.GaussianBlur(frame, (0, 0), sigma))


def draw_blur(random: np.random.Generator) -> tuple[float, np.ndarray | None]:
    """The deviation of the blur of a lens and the kernel of that of a motion, in pixels of the small frame."""
    kind = random.random()
    if kind < 0.35:
        return 0.0, None
    if kind < 0.8:
        return random.uniform(0.3, 1.6), None
    length, angle = random.uniform(2, 7), random.uniform(0, np.pi)
    side, fine = 9, 8
    # A line on a grid that is finer than the pixels, because lengths and angles are not those of whole pixels
    middle = (side * fine - 1) / 2
    direction = np.array([np.cos(angle), np.sin(angle)]) * length * fine / 2
    start, end = (tuple(int(v) for v in np.rint(middle + sign * direction)) for sign in (-1, 1))
    line = cv2.line(np.zeros((side * fine, side * fine), np.float32), start, end, (1.0,), fine // 2)
    kernel = cv2.resize(line, (side, side), interpolation=cv2.INTER_AREA)
    return 0.0, kernel / kernel.sum()


def draw_noise(random: np.random.Generator, most: float = MOST_NOISE) -> Callable[[np.ndarray], np.ndarray]:
    """Noise of a sensor (more where it is bright, in colour only, or of low light), or grain (coarse, of the luma).

    Args:
        random (`np.random.Generator`): Source of all random numbers.
        most (`float`): Largest deviation in levels of 255, but for the noise of low light.
    """
    kind, sigma = random.choice(("grey", "colour", "shot", "chroma", "low light", "grain")), random.uniform(1, most)
    coarseness = random.uniform(0.6, 1.5)
    if kind == "low light" and most == MOST_NOISE:
        sigma = random.uniform(*LOW_LIGHT_NOISE)

    def add(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        channels = 1 if kind in ("grey", "grain") else 3
        noise = random.standard_normal((height, width, channels), dtype=np.float32)
        if kind == "shot":
            noise *= np.sqrt(np.clip(frame, 0, 255) / 128)
        if kind == "chroma":
            noise -= noise.mean(axis=2, keepdims=True)
        if kind == "low light":  # the colour of such noise is coarse, its luma is fine
            luma = noise.mean(axis=2, keepdims=True)
            noise = luma + 2 * coarseness * cv2.GaussianBlur(noise - luma, (0, 0), coarseness)
        if kind in ("grain", "chroma"):
            noise = cv2.GaussianBlur(noise, (0, 0), coarseness).reshape(height, width, channels) * 2 * coarseness
        return frame + np.float32(sigma) * noise

    return add


def bleed_chroma(frame: np.ndarray, factor: float, shift: int) -> np.ndarray:
    """Colour at a fraction of the resolution across, moved sideways, as on video tape."""
    height, width = frame.shape[:2]
    luma = frame @ np.array([[0.299], [0.587], [0.114]], np.float32)
    colour = frame - luma
    coarse = cv2.resize(colour, (max(2, round(width / factor)), height), interpolation=cv2.INTER_AREA)
    return luma + np.roll(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), shift, axis=1)


def interlace(clip: list[np.ndarray]) -> list[np.ndarray]:
    """Take every second row from the frame before."""
    woven = [clip[0]]
    for before, frame in itertools.pairwise(clip):
        both = frame.copy()
        both[1::2] = before[1::2]
        woven.append(both)
    return woven
