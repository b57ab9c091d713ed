"""Analyses of single frames: how far a face is turned, and the latent states and gains behind a frame."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from keep_hf import KeepPipeline
from keep_hf.models.recursion import KalmanRecursion
from keep_hf.video.pixels import to_images, to_tensor

from .clips import DegradedClip


# Indices of the 68 landmarks, as seen in the image: outer corners of the eyes and tip of the nose
EYE_LEFT, EYE_RIGHT, NOSE = 36, 45, 30
# Distance of the tip of the nose from the line between the outer corners of the eyes, relative to the length of that
# line, in an average head: about 43 of 89 millimetres.
NOSE_HEIGHT = 0.48


def estimate_yaw(points: np.ndarray) -> np.ndarray:
    """Estimate how far faces are turned to the side.

    In a face that is turned by an angle and far from the camera, the nose is off the midpoint of the eyes by height *
    sin(angle), and the distance of the eyes is shortened by cos(angle).

    Args:
        points (`np.ndarray` of shape `(n, 68, 2)`): Landmarks in pixels, in the usual order of 68.

    Returns:
        `np.ndarray` of shape `(n,)`: degrees from -90 to 90; 0 for a frontal face, positive if the nose points to the
        right of the image.

    Raises:
        ValueError: If there are not 68 landmarks.
    """
    if points.shape[1:] != (68, 2):
        raise ValueError(f"yaw needs 68 landmarks, got {points.shape[1]}: leave the plots out.")
    left, right, nose = (points[:, index].astype(np.float64) for index in (EYE_LEFT, EYE_RIGHT, NOSE))
    axis = right - left
    offset = np.sum((nose - (left + right) / 2) * axis, axis=1) / np.sum(axis**2, axis=1)
    return np.degrees(np.arctan(offset / NOSE_HEIGHT))


@dataclass
class LatentStudy:
    """A frame in the middle of a clip and the states that led to it (Fig. 6 of the paper).

    Args:
        images (`dict[str, np.ndarray]`): The degraded frame (`input`); the faces decoded from the codes of the
            `predicted`, the `observed` and the `fused` state alone, without features of the input or of the previous
            frame, so that only the state is visible; and the restored frame (`output`). RGB, uint8.
        agreement (`dict[str, float]`): Share of the codes of the fused state that `predicted` and `observed` share.
        gains (`np.ndarray` of shape `(t - 1, grid, grid)`): Of all frames except the first, which is not predicted.
    """

    images: dict[str, np.ndarray]
    agreement: dict[str, float]
    gains: np.ndarray


@torch.no_grad()
def study_latents(pipe: KeepPipeline, clip: DegradedClip, fidelity: float) -> LatentStudy:
    """Restore the first gain window of a clip and study its last frame.

    Args:
        pipe ([`KeepPipeline`]): KEEP.
        clip ([`DegradedClip`]): At least two frames.
        fidelity (`float`): 0 to 1.

    Returns:
        [`LatentStudy`]

    Raises:
        ValueError: If the clip has only one frame.
    """
    if len(clip.frames) < 2:
        raise ValueError(f"{clip.name!r} has only one frame, which is not predicted.")
    size = pipe.vq.config.sample_size
    crops = [cv2.resize(frame, (size, size)) for frame in clip.frames[: pipe.config.gain_window]]
    frames = to_tensor(crops, pipe.device, pipe.vq.dtype)[None]
    result = KalmanRecursion(pipe.vq, pipe.kalman, pipe.flow)(frames, fidelity=fidelity)
    states = {"predicted": result.predicted[-1], "observed": result.observed[:, -1], "fused": result.latents[:, -1]}
    codes = {name: pipe.vq.predict_codes(state).argmax(-1) for name, state in states.items()}
    images = {
        name: to_images(pipe.vq.decode(pipe.vq.lookup(codes[name], state))[0][0]) for name, state in states.items()
    }
    images = {"input": crops[-1], **images, "output": to_images(result.frames[0, -1])}
    agreement = {name: float((codes[name] == codes["fused"]).float().mean()) for name in ("predicted", "observed")}
    return LatentStudy(images, agreement, result.gains[0, 1:, 0].float().cpu().numpy())


def describe_gains(gains: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation, median, and 5th and 95th percentile of gains."""
    low, median, high = np.quantile(gains, (0.05, 0.5, 0.95))
    named = {"mean": gains.mean(), "sigma": gains.std(), "p5": low, "median": median, "p95": high}
    return {name: float(value) for name, value in named.items()}
