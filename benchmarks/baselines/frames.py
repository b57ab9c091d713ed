"""Frames as the networks take them."""

import cv2
import numpy as np


def resize_frames(frames: np.ndarray, size: int) -> np.ndarray:
    """Resize frames `(t, h, w, 3)` to squares: larger ones by area, smaller ones linearly."""
    interpolation = cv2.INTER_AREA if frames.shape[1] > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(frame, (size, size), interpolation=interpolation) for frame in frames])
