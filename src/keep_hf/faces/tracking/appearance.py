"""Appearance: a small descriptor of a face that separates the people of one scene, without a network."""

import cv2
import numpy as np

from ..alignment import crop_face, estimate_alignment


SIZE = 16
# Lightness in 0..255, the two colours around 128.  Colours vary less than lightness, so they get a larger weight.
CHANNEL_WEIGHTS = np.array([0.5, 2, 2], np.float32)


def compute_appearance(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Describe the appearance of a face: its aligned crop at 16 x 16 in CIELAB, without the mean lightness.

    The similarity of two appearances is their dot product, from -1 to 1.

    Args:
        image (`np.ndarray` of shape `(h, w, 3)`):
            RGB frame, uint8.
        landmarks (`np.ndarray` of shape `(5, 2)`):
            Eyes, nose and mouth corners in pixels of the frame.

    Returns:
        `np.ndarray` of shape `(768,)`, float32: a vector of length 1.

    Raises:
        ValueError: If the landmarks cannot be aligned, see [`estimate_alignment`].
    """
    crop = crop_face(image, estimate_alignment(landmarks, 4 * SIZE), 4 * SIZE)
    small = cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    lab = (cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32) - 128) * CHANNEL_WEIGHTS
    lab[..., 0] -= lab[..., 0].mean()
    return normalize(lab.ravel())


def normalize(vector: np.ndarray) -> np.ndarray:
    """Scale a vector to length 1."""
    return vector / max(float(np.linalg.norm(vector)), 1e-6)
