"""Landmarks smoothed along time by a Gaussian low-pass filter before alignment (KEEP, arXiv 2408.05205, section 4).

`smooth_at` is the published filter, which is symmetric; `smooth_causally` is for frames whose future is not known.
"""

from collections.abc import Mapping

import numpy as np


def smoothing_radius(sigma: float) -> int:
    """Return the number of frames on either side that a Gaussian of `sigma` frames reaches: four sigmas."""
    return int(4 * sigma + 0.5)


def smooth_landmarks(landmarks: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth landmarks along time with a Gaussian; the sequence is mirrored at its ends.

    The published code uses a `sigma` of 5 frames, which is 0.2 seconds at 25 frames per second.

    Args:
        landmarks (`np.ndarray` of shape `(n, ...)`):
            Landmarks of consecutive frames.
        sigma (`float`):
            Standard deviation of the Gaussian in frames; 0 leaves the landmarks unchanged.

    Returns:
        `np.ndarray` of shape `(n, ...)`, float64: the smoothed landmarks.

    Raises:
        ValueError: If `sigma` is negative.
    """
    if sigma < 0:
        raise ValueError(f"sigma must not be negative, got {sigma}: pass seconds times frames per second.")
    points = dict(enumerate(landmarks))
    return np.array([smooth_at(frame, points, sigma) for frame in points]).reshape(landmarks.shape)


def smooth_at(frame: int, points: Mapping[int, np.ndarray], sigma: float) -> np.ndarray:
    """Return the Gaussian mean around one frame.

    Args:
        frame (`int`): Index of the frame.
        points (`Mapping[int, np.ndarray]`): The values of consecutive frames, as far as the Gaussian reaches.
        sigma (`float`): Standard deviation in frames, 0 or more.

    Returns:
        `np.ndarray`, float64: of the shape of one value.
    """
    radius = smoothing_radius(sigma)
    if radius == 0:
        return points[frame].astype(np.float64)
    first, number = min(points), len(points)
    mean, total = np.zeros(points[frame].shape), 0.0
    for offset in range(-radius, radius + 1):
        weight = float(np.exp(-0.5 * (offset / sigma) ** 2))
        # ... 2 1 0 | 0 1 2 ... n-1 | n-1 n-2 ...
        place = (frame + offset - first) % (2 * number)
        mean += weight * points[first + min(place, 2 * number - 1 - place)]
        total += weight
    return mean / total


def smooth_causally(frame: int, points: Mapping[int, np.ndarray], sigma: float) -> np.ndarray:
    """Return the Gaussian mean over the frames that are known: all before one frame, and few or none after it.

    The sequence is not mirrored. With mirrored frames a moving face would lag behind twice as far.

    Args:
        frame (`int`): Index of the frame.
        points (`Mapping[int, np.ndarray]`): The known values of consecutive frames, by frame.
        sigma (`float`): Standard deviation of the Gaussian in frames, 0 or more; 0 leaves the value unchanged.

    Returns:
        `np.ndarray`, float64: of the shape of one value.
    """
    if sigma == 0:
        return points[frame].astype(np.float64)
    weights = {index: float(np.exp(-0.5 * ((index - frame) / sigma) ** 2)) for index in points}
    mean = sum((weights[index] * points[index].astype(np.float64) for index in points), np.zeros(points[frame].shape))
    return mean / sum(weights.values())
