"""Reading and compressing single images."""

from pathlib import Path

import cv2
import numpy as np


def read_image(path: Path) -> np.ndarray:
    """Read an image as uint8 RGB `(h, w, 3)`.

    Raises:
        ValueError: If it cannot be read.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"{path} cannot be read as an image: remove or replace it.")
    return image


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Encode an image, uint8 RGB `(h, w, 3)`, as JPEG and decode it."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return decoded
