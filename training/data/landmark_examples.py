"""Training examples of the refinement of landmarks: faces as the detector cuts them by its first landmarks.

Some show no face, but what the detector might take for one.

A face is degraded at its size in a frame, and cut afterwards, so that blocks, noise and blur are those of a video.
"""

import numpy as np
import torch

from keep_hf.faces.detector_parts.close_ups import (
    MARGIN,
    MEAN_EYE_DISTANCE,
    MEAN_FACE,
    MEAN_SPREAD,
    cut_aligned,
    from_frame,
    spread,
)
from keep_hf.video.pixels import to_tensor

from ..loop.stage import Batch, TrainingSet
from .detector_examples import (
    EXAMPLES_PER_EPOCH,
    change_light,
    cut_close_up,
    degrade,
    draw_angle,
    draw_portrait,
    hide_part,
    make_wrong_close_up,
)
from .teacher_labels import Portrait


FACES = 0.75  # part of the examples that show a face
CLEAR = 0.3  # part of the faces of which only light and colour change
# Eye distance of a face in the frame, in pixels: log-uniform between these
EYE_DISTANCES = (7.0, 90.0)
# Standard deviations of the errors of the first landmarks, in distances of the eyes; angle in radians. One error of
# all points, and one of each. In a third of the examples they are 2.5 times as large.
SHIFT, ZOOM, ANGLE, POINT = 0.04, 0.06, 0.05, 0.05
# Half a frame around a face, in half close-ups
REACH = 1.35
# The distance of the eyes of the mean face in a close-up, in sides of the close-up
EYE_DISTANCE = MEAN_EYE_DISTANCE / (2 * MARGIN * MEAN_SPREAD)


class LandmarkExamples(TrainingSet):
    """Aligned close-ups of faces, and of what is none.

    Args:
        portraits (`list[Portrait]`): Labelled images.
        errors (`list[np.ndarray]`): Images without a face that the detector took for one; may be empty.
        size (`int`): Side of the close-ups in pixels.
        seed (`int`): Seed of all random numbers.

    Each item is a dict of float tensors: `close_up` `(3, size, size)` in [-1, 1]; `is_face`, 1 or 0; and `landmarks`
    `(5, 2)` from the centre of the close-up, in sides of it, zeros where there is no face.
    """

    def __init__(self, portraits: list[Portrait], errors: list[np.ndarray], size: int, seed: int) -> None:
        self.portraits, self.errors, self.size, self.seed = portraits, errors, size, seed

    def __len__(self) -> int:
        return EXAMPLES_PER_EPOCH

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        is_face = rng.random() < FACES
        if is_face:
            image, landmarks = make_aligned_face(rng, self.portraits, self.size)
        else:
            image, landmarks = make_aligned_error(rng, self.portraits, self.errors, self.size), np.zeros((5, 2))
        return {
            "close_up": to_tensor(image[None])[0],
            "landmarks": torch.from_numpy(landmarks).float(),
            "is_face": torch.tensor(float(is_face)),
        }


def make_aligned_face(rng: np.random.Generator, portraits: list[Portrait], size: int) -> tuple[np.ndarray, np.ndarray]:
    """A degraded face as it is cut by landmarks with an error.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the close-up `(size, size, 3)`, uint8, RGB, and the true landmarks `(5, 2)`
        from its centre, in sides of it.
    """
    portrait = draw_portrait(rng, portraits)
    eyes = float(np.exp(rng.uniform(*np.log(EYE_DISTANCES))))
    side = round(REACH * eyes / EYE_DISTANCE)
    frame, matrix = cut_close_up(portrait, side, draw_angle(rng), rng.uniform(-0.04, 0.04, 2), REACH)
    landmarks = portrait.landmarks @ matrix[:, :2].T + matrix[:, 2]
    hide_part(rng, frame, landmarks.mean(axis=0), np.full(2, 0.35 * side))
    frame = change_light(rng, frame) if rng.random() < CLEAR else degrade(rng, frame, 0.45 * side)
    close_up, matrix = cut_aligned(frame, disturb(rng, landmarks), size)
    return close_up, from_frame(landmarks, matrix, size)


def make_aligned_error(
    rng: np.random.Generator, portraits: list[Portrait], errors: list[np.ndarray], size: int
) -> np.ndarray:
    """A degraded image without a face, or beside one, as it is cut by landmarks `(size, size, 3)`."""
    side = round(REACH * float(np.exp(rng.uniform(*np.log(EYE_DISTANCES)))) / EYE_DISTANCE)
    image = make_wrong_close_up(rng, portraits, errors, side)
    mean_face = (MEAN_FACE - MEAN_FACE.mean(axis=0)) * (EYE_DISTANCE / MEAN_EYE_DISTANCE / REACH)
    return cut_aligned(image, disturb(rng, (mean_face + 0.5) * side), size)[0]


def disturb(rng: np.random.Generator, landmarks: np.ndarray) -> np.ndarray:
    """Landmarks `(5, 2)` with errors like those of the detector's first network."""
    centre, size = landmarks.mean(axis=0), 2.5 if rng.random() < 1 / 3 else 1.0
    eyes = EYE_DISTANCE * 2 * MARGIN * spread(landmarks)
    angle, zoom = rng.normal(0, ANGLE * size), np.exp(rng.normal(0, ZOOM * size))
    turn = zoom * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    errors = rng.normal(0, SHIFT * size, 2) + rng.normal(0, POINT * size, (5, 2))
    return (landmarks - centre) @ turn.T + centre + eyes * errors
