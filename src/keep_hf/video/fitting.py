"""Fitting of an image into the size of another one."""

import cv2
import numpy as np


# Beyond this relative difference of the aspect ratios, bars are added rather than stretching the image.
MAX_STRETCH = 0.02


def fit_image(image: np.ndarray, width: int, height: int, stretch: float = 1.0) -> np.ndarray:
    """Scale an image to another size. It keeps its proportions, and gets black bars where they differ.

    Args:
        image (`np.ndarray`): RGB of shape `(h, w, 3)`.
        width, height (`int`): The new size in pixels.
        stretch (`float`, *optional*, defaults to 1.0): Width of a pixel of the image, divided by the width of a pixel
            of the result, for pixels of the same height.

    Returns:
        `np.ndarray`: RGB of shape `(height, width, 3)`, of the same type.
    """
    shown_width = image.shape[1] * stretch
    scale = min(width / shown_width, height / image.shape[0])
    size = (max(1, round(shown_width * scale)), max(1, round(image.shape[0] * scale)))
    if size[0] >= width * (1 - MAX_STRETCH) and size[1] >= height * (1 - MAX_STRETCH):
        size = (width, height)
    shrinks = size[0] < image.shape[1] or size[1] < image.shape[0]
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    result = np.zeros((height, width, 3), image.dtype)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    result[top : top + size[1], left : left + size[0]] = scaled
    return result
