"""Faces in and out of the frame: landmarks to a similarity, frame to aligned crop, restored crop back into the frame.

The template and the robust fit are the published ones, and crops agree with the published script bit for bit wherever
a face is not much larger in the frame than in the crop.  Three things differ.  Faces that shrink, on either way, are
averaged over areas instead of sampled at points, which would alias.  The mask of the paste is a function of the crop's
coordinates instead of eroded pixels, so that it fades alike at every size of the face.  A restored face takes over the
mean colour of the place where it goes, within narrow limits.
"""

import cv2
import numpy as np


# Left eye, right eye, nose, left and right mouth corner, as the viewer sees them, in pixels of a 512x512 crop.
TEMPLATE = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)
TEMPLATE_SIZE = 512
BORDER_COLOUR = (132, 133, 135)
# Below this many source pixels per target pixel, linear interpolation reads every source pixel often enough.
LINEAR_LIMIT = 1.5
# The mask is 1 up to the first radius and 0 from the second, in half sides of the crop.
MASK_RADII = (0.70, 0.97)
# Levels of 255 by which the mean colour of a pasted face may be moved.
COLOUR_LIMIT = 12.0


def estimate_alignment(landmarks: np.ndarray, size: int = TEMPLATE_SIZE) -> np.ndarray:
    """Find the similarity that takes a face in a frame to its place in an aligned crop.

    The fit is a least median of squares: one wrong landmark of the five does not move it.

    Args:
        landmarks (`np.ndarray` of shape `(5, 2)`):
            Eyes, nose and mouth corners in pixels of the frame, from left to right as the viewer sees them.
        size (`int`, defaults to 512):
            Side of the crop in pixels.

    Returns:
        `np.ndarray` of shape `(2, 3)`, float64: the map from frame pixels to crop pixels.

    Raises:
        ValueError: If the landmarks are not five finite points, or lie too close together for a fit.
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.shape != (5, 2):
        raise ValueError(f"landmarks must have the shape (5, 2), got {landmarks.shape}: pass one face at a time.")
    if not np.isfinite(landmarks).all():
        raise ValueError(f"landmarks must be finite, got {landmarks.tolist()}: fill gaps of a track before aligning.")
    if np.ptp(landmarks, axis=0).max() < 1:
        raise ValueError(
            f"landmarks lie within one pixel of each other, got {landmarks.tolist()}: leave this face as it is."
        )
    # Fitted at 512 and scaled afterwards, so that the choice of outliers does not depend on the size of the crop.
    matrix = cv2.estimateAffinePartial2D(landmarks, TEMPLATE, method=cv2.LMEDS)[0]
    if matrix is None or not np.isfinite(matrix).all() or _scale(matrix) < 1e-3:
        raise ValueError(f"no similarity fits the landmarks {landmarks.tolist()}: leave this face as it is.")
    return matrix * (size / TEMPLATE_SIZE)


def crop_face(image: np.ndarray, matrix: np.ndarray, size: int = TEMPLATE_SIZE) -> np.ndarray:
    """Cut an aligned face out of a frame.

    Args:
        image (`np.ndarray` of shape `(height, width, 3)`):
            RGB frame, uint8.
        matrix (`np.ndarray` of shape `(2, 3)`):
            Map from frame pixels to crop pixels, see [`estimate_alignment`].
        size (`int`, defaults to 512):
            Side of the crop in pixels, the one that `matrix` was made for.

    Returns:
        `np.ndarray` of shape `(size, size, 3)`, uint8: the crop; what lies outside the frame is a fixed grey.
    """
    return _warp(image, matrix, (size, size), cv2.BORDER_CONSTANT)


def paste_face(image: np.ndarray, face: np.ndarray, matrix: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Put an aligned face back into its frame under a soft mask.

    Pixels outside the mask keep every bit of their value.

    Args:
        image (`np.ndarray` of shape `(height, width, 3)`):
            RGB frame, uint8; it is not changed.
        face (`np.ndarray` of shape `(size, size, 3)`):
            RGB crop, uint8.
        matrix (`np.ndarray` of shape `(2, 3)`):
            Map from frame pixels to crop pixels that the crop was made with.
        strength (`float`, defaults to 1.0):
            Weight of the face against the frame, from 0 (the frame alone) to 1.

    Returns:
        `np.ndarray` of shape `(height, width, 3)`, uint8: the frame with the face in it.

    Raises:
        ValueError: If the face is not square or `strength` is outside 0 to 1.
    """
    if face.ndim != 3 or face.shape[0] != face.shape[1] or face.shape[2] != 3:
        raise ValueError(f"face must have the shape (size, size, 3), got {face.shape}: pass the crop of one face.")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie in 0 to 1, got {strength}.")
    result = image.copy()
    size = face.shape[0]
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([(0, 0), (size, 0), (size, size), (0, size)]) @ inverse[:, :2].T + inverse[:, 2]
    left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 1, (image.shape[1], image.shape[0])).astype(int)
    if left >= right or top >= bottom:
        return result

    to_box = inverse - np.array([(0, 0, left), (0, 0, top)])
    box = np.s_[top:bottom, left:right]
    behind = image[box].astype(np.float32)
    front = _warp(face, to_box, (right - left, bottom - top), cv2.BORDER_REPLICATE).astype(np.float32)
    mask = _soft_mask(matrix, size, np.arange(left, right), np.arange(top, bottom))[:, :, None]
    # One offset for each channel: a mean over the whole face moves slowly, where a match of details would flicker.
    offset = ((behind - front) * mask).sum(axis=(0, 1)) / np.maximum(mask.sum(), 1e-6)
    front = front + np.clip(offset, -COLOUR_LIMIT, COLOUR_LIMIT)
    blended = behind + strength * mask * (front - behind)
    result[box] = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
    return result


def is_grey(image: np.ndarray) -> bool:
    """Tell whether an image has no colour by the published rule: channels that differ by a near constant.

    Args:
        image (`np.ndarray` of shape `(height, width, 3)`):
            RGB image, uint8.

    Returns:
        `bool`: whether the variance of the difference of two channels, meaned over the three pairs, is at most 10.
    """
    red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
    return float(np.var(red - green) + np.var(green - blue) + np.var(blue - red)) / 3 <= 10


def to_grey(image: np.ndarray) -> np.ndarray:
    """Take the colour out of an image.

    Args:
        image (`np.ndarray` of shape `(height, width, 3)`):
            RGB image, uint8.

    Returns:
        `np.ndarray` of shape `(height, width, 3)`, uint8: the luma in all three channels.
    """
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _scale(matrix: np.ndarray) -> float:
    """Target pixels per source pixel of a similarity."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def _warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: int) -> np.ndarray:
    """Warp to `size` (width, height); what shrinks is warped to a finer grid and averaged over its cells."""
    shrink = 1 / _scale(matrix)
    fine = 1 if shrink < LINEAR_LIMIT else int(np.ceil(shrink))
    # The middle of target pixel x lies at fine * x + (fine - 1) / 2 of the finer grid.
    matrix = matrix * fine + np.array([(0, 0, 1), (0, 0, 1)]) * (fine - 1) / 2
    width, height = size
    warped = cv2.warpAffine(
        image,
        matrix,
        (width * fine, height * fine),
        flags=cv2.INTER_LINEAR,
        borderMode=border,
        borderValue=BORDER_COLOUR,
    )
    return warped if fine == 1 else cv2.resize(warped, size, interpolation=cv2.INTER_AREA)


def _soft_mask(matrix: np.ndarray, size: int, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Weight of the face at frame pixels: a square with round corners in the crop that fades inside its border."""
    half = (size - 1) / 2
    x = (matrix[0, 0] * columns[None, :] + matrix[0, 1] * rows[:, None] + matrix[0, 2] - half) / half
    y = (matrix[1, 0] * columns[None, :] + matrix[1, 1] * rows[:, None] + matrix[1, 2] - half) / half
    radius = (x**4 + y**4) ** 0.25
    inner, outer = MASK_RADII
    fade = np.clip((outer - radius) / (outer - inner), 0, 1)
    return (fade * fade * (3 - 2 * fade)).astype(np.float32)
