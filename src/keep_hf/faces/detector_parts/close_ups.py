"""Close-ups: squares around faces, in the pixels of the frame, that show a face at a known size.

The first close-up of a face is placed by its box and is upright. The second one is placed by landmarks, so that it is
also rotated with the face.
"""

import cv2
import numpy as np

from ..alignment import crop_face
from ..detection import resize


# Landmarks of the mean face, relative to the centre of its box, in sides of the box (the square root of its area).
MEAN_FACE = np.array([(-0.195, -0.131), (0.195, -0.131), (0, 0.111), (-0.177, 0.271), (0.177, 0.271)], np.float32)
# The distance between its eyes, in sides of the box
MEAN_EYE_DISTANCE = float(MEAN_FACE[1, 0] - MEAN_FACE[0, 0])
# In a mirrored image the left eye is the right one, and so on.
MIRRORED_ORDER = [1, 0, 2, 4, 3]
MARGIN = 2.1  # half the side of a close-up over the spread of the landmarks
MIN_SIDE = 8.0  # of a close-up in pixels of the frame


def spread(landmarks: np.ndarray) -> float:
    """The root mean square distance of landmarks `(5, 2)` from their centre."""
    return float(np.sqrt(((landmarks - landmarks.mean(axis=0)) ** 2).sum(axis=1).mean()))


MEAN_SPREAD = spread(MEAN_FACE.astype(np.float64))


def cut_square(frame: np.ndarray, landmarks: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut out the upright square around a face; the edges of the frame are repeated.

    Args:
        frame (`np.ndarray` of shape `(h, w, 3)`): RGB, uint8.
        landmarks (`np.ndarray` of shape `(5, 2)`): In pixels of the frame.
        size (`int`): Side of the close-up in pixels.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the close-up of shape `(size, size, 3)`, and the matrix of shape `(2, 3)` from
        the pixels of the frame to those of the close-up.
    """
    centre = landmarks.mean(axis=0)
    side = max(round(2 * MARGIN * spread(landmarks)), round(MIN_SIDE))
    left, top = np.rint(centre + 0.5 - side / 2).astype(int)
    rows = np.clip(np.arange(top, top + side), 0, frame.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, frame.shape[1] - 1)
    # Pixel centres keep their place: x + 1/2 of the frame is (x - left + 1/2) * scale of the close-up.
    scale = size / side
    shift = (0.5 - np.array([left, top])) * scale - 0.5
    matrix = np.array([(scale, 0, shift[0]), (0, scale, shift[1])])
    return resize(frame[rows[:, None], columns], size, size), matrix


def cut_aligned(frame: np.ndarray, landmarks: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut out the square around a face whose landmarks fit those of the mean face best; it is grey outside the frame.

    Args, Returns:
        See [`cut_square`].
    """
    matrix = align(landmarks, size)
    return crop_face(frame, matrix, size), matrix


def align(landmarks: np.ndarray, size: int) -> np.ndarray:
    """The similarity transform `(2, 3)` from landmarks `(5, 2)` to the mean face in a close-up, by least squares.

    With points as complex numbers, the factor a of x -> a x + b is sum(conj(x) y) / sum(|x|^2), about the centres.
    """
    centre, target_centre = landmarks.mean(axis=0, dtype=np.float64), MEAN_FACE.mean(axis=0, dtype=np.float64)
    source, target = landmarks - centre, MEAN_FACE - target_centre
    target = target * (size / (2 * MARGIN * MEAN_SPREAD))
    x, y = source @ (1, 1j), target @ (1, 1j)
    # Landmarks that coincide have no direction: the close-up is upright then, and of the least size.
    energy = max(float((np.abs(x) ** 2).sum()), 1e-6)
    factor = complex((np.conj(x) * y).sum()) / energy
    largest = size / MIN_SIDE
    if not 1e-6 < abs(factor) <= largest:
        factor = complex(largest)
    turn = np.array([(factor.real, -factor.imag), (factor.imag, factor.real)])
    return np.column_stack([turn, (size - 1) / 2 - turn @ centre])


def to_frame(points: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Move points of a close-up to the frame.

    Args:
        points (`np.ndarray` of shape `(5, 2)`): From the centre of the close-up, in sides of it.
        matrix (`np.ndarray` of shape `(2, 3)`): From the pixels of the frame to those of the close-up.
        size (`int`): Side of the close-up in pixels.

    Returns:
        `np.ndarray` of shape `(5, 2)`, float32: in pixels of the frame.
    """
    inverse = cv2.invertAffineTransform(matrix)
    return (((points + 0.5) * size - 0.5) @ inverse[:, :2].T + inverse[:, 2]).astype(np.float32)


def from_frame(points: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The inverse of [`to_frame`]."""
    return (points @ matrix[:, :2].T + matrix[:, 2] + 0.5) / size - 0.5
