"""The degradation of the paper for training: that of `keep_hf.degrade` up to rounding, at a third of its time.

Test sets are made with `keep_hf.degrade`. Here the same parameters are drawn, but

- equal blur along both axes is a separable filter, and unequal blur is computed at half the size;
- the noise before the shrinking is drawn after it, with the deviation that remains: every pixel of a frame that is
  shrunk is a weighted sum of other pixels, so the noise stays independent, and its deviation is multiplied by the norm
  of the weights.
"""

import cv2
import numpy as np

from keep_hf.degrade import INTERPOLATIONS, Degradation

from .codecs import encode_h264


# The paper's range from its mild end on
PAPER_RANGE = Degradation(blur_sigma=(0.5, 10.0), noise_sigma=(0.0, 10.0), crf=(12, 33))
LEAST_SIGMA = 2.0  # of a blur that is computed at half the size: what remains has no detail that could alias


def degrade_as_paper(frames: np.ndarray, degradation: Degradation, random: np.random.Generator) -> np.ndarray:
    """Blur, shrink, add noise and encode a clip `(t, h, w, 3)`, uint8 RGB; returns the small frames, uint8."""
    height, width = (round(side / degradation.scale) for side in frames.shape[1:3])
    shrink = INTERPOLATIONS[random.choice(3, p=degradation.resize_probabilities)]
    sigmas = np.repeat(random.uniform(*degradation.blur_sigma), 2)
    angle = 0.0
    if is_elliptic := random.random() >= degradation.isotropic_probability:
        sigmas[1] = random.uniform(*degradation.blur_sigma)
        angle = random.uniform(-np.pi, np.pi)
    remaining = noise_gain(frames.shape[1], height, shrink)
    small = []
    for frame in frames:
        if is_elliptic:
            blurred = blur_along(frame, sigmas, angle, degradation.kernel_size)
        else:
            kernel = cv2.getGaussianKernel(degradation.kernel_size, sigmas[0], cv2.CV_32F)
            blurred = cv2.sepFilter2D(frame, cv2.CV_32F, kernel, kernel)
        image = cv2.resize(blurred, (width, height), interpolation=shrink)
        for gain in (remaining, 1.0):
            sigma = np.float32(gain * random.uniform(*degradation.noise_sigma))
            channels = 1 if random.random() < degradation.grey_noise_probability else 3
            image = image + sigma * random.standard_normal((height, width, channels), dtype=np.float32)
        small.append(np.rint(np.clip(image, 0, 255)).astype(np.uint8))
    return encode_h264(np.stack(small), random, degradation.crf)


def blur_along(frame: np.ndarray, sigmas: np.ndarray, angle: float, kernel_size: int) -> np.ndarray:
    """Blur a frame with a Gaussian of two deviations, turned by an angle; float32, at half size if that is safe."""
    radius, step = kernel_size // 2, 1
    if sigmas.min() >= LEAST_SIGMA:
        height, width = frame.shape[:2]
        frame = cv2.resize(frame, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        # A mean over two pixels is a blur, too, with a variance of 1/4.
        sigmas, radius, step = np.sqrt(sigmas**2 - 0.25), radius // 2, 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1] * step
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((along / sigmas[0]) ** 2 + (across / sigmas[1]) ** 2))
    return cv2.filter2D(frame.astype(np.float32), -1, (kernel / kernel.sum()).astype(np.float32))


def noise_gain(size: int, small: int, interpolation: int) -> float:
    """The deviation of noise after frames are shrunk from `size` to `small`, if it was 1."""
    weights = cv2.resize(np.eye(size, dtype=np.float32), (size, small), interpolation=interpolation)[small // 2]
    return float(np.square(weights).sum())  # the norm along one axis, squared: there are two axes
