"""Metrics of a frame against its reference, and between neighbouring frames.

The paper compares methods by seven metrics (section 4.1, Table 1): PSNR, SSIM, LPIPS, the similarity of identity
(IDS), the distance of facial landmarks (AKD), and the standard deviations of the last two over the frames of a video.
Flicker and landmark jitter are ours.

PSNR and SSIM are computed by scikit-image on RGB with levels up to 255, without cropping a border.
"""

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from ..faces.alignment import TEMPLATE_SIZE
from ..faces.identity import FaceIdentity
from ..faces.landmarks import LandmarkNetwork
from ..models.flow.dis import DISFlow
from ..models.flow.gmflow import GMFlow
from ..models.flow.warp import warp
from ..models.lpips import LPIPS
from ..video.pixels import to_tensor


SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
# Longer side at which flow is estimated, that of KEEP's faces; the memory of GMFlow grows with its fourth power.
FLOW_SIDE = 512


def psnr(frame: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio, of the mean square error over all pixels and channels.

    Args:
        frame, truth (`np.ndarray` of shape `(h, w, 3)`): RGB, uint8.

    Returns:
        `float`: in dB; infinite if both are equal.
    """
    from skimage.metrics import peak_signal_noise_ratio

    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(truth, frame, data_range=255))


def ssim(frame: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity as first published (Wang et al., 2004).

    A Gaussian window of 11 pixels with sigma 1.5, biased covariance, and the mean over the channels and all positions
    where the window fits.

    Args:
        frame, truth (`np.ndarray` of shape `(h, w, 3)`): RGB, uint8; sides of at least 11 pixels.

    Returns:
        `float`: at most 1.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            truth,
            frame,
            data_range=255,
            channel_axis=2,
            gaussian_weights=True,
            sigma=SSIM_SIGMA,
            win_size=SSIM_WINDOW,
            use_sample_covariance=False,
        )
    )


@torch.no_grad()
def lpips_distance(network: LPIPS, frame: np.ndarray, truth: np.ndarray) -> float:
    """LPIPS distance of two frames `(h, w, 3)`, RGB, uint8."""
    return float(network(to_tensor(frame, network.device)[None], to_tensor(truth, network.device)[None]))


def identity_similarity(identity: FaceIdentity, frame: np.ndarray, truth: np.ndarray) -> float:
    """IDS: the cosine of the embeddings of two aligned faces `(h, w, 3)`, RGB, uint8; from -1 to 1."""
    return cosine(*identity.embed([frame, truth]))


def cosine(embedding: np.ndarray, other: np.ndarray) -> float:
    """Cosine of two unit vectors `(channels,)`."""
    # In float32 unit vectors have length 1 up to rounding only.
    return float(np.clip(embedding.astype(np.float64) @ other.astype(np.float64), -1, 1))


def landmark_distance(landmarks: LandmarkNetwork, frame: np.ndarray, truth: np.ndarray) -> float:
    """AKD: the mean distance between the landmarks of two aligned faces.

    Args:
        landmarks ([`LandmarkNetwork`]): Network.
        frame, truth (`np.ndarray` of shape `(size, size, 3)`): RGB, uint8.

    Returns:
        `float`: in pixels of a face of 512 x 512.
    """
    points, true_points = landmarks.find([frame, truth]).astype(np.float64)
    return float(np.linalg.norm(points - true_points, axis=-1).mean()) * TEMPLATE_SIZE / len(frame)


@torch.no_grad()
def find_flow(flow: GMFlow | DISFlow, frame: np.ndarray, previous: np.ndarray) -> torch.Tensor:
    """Estimate the flow from a frame to the previous one, for frames of any size.

    Args:
        flow ([`GMFlow`] or [`DISFlow`]): Estimator.
        frame, previous (`np.ndarray` of shape `(h, w, 3)`): RGB, uint8.

    Returns:
        `torch.Tensor` of shape `(1, 2, h, w)`, float32: in pixels, x first.
    """
    height, width = frame.shape[:2]
    scale = min(FLOW_SIDE / max(height, width), 1)
    # GMFlow takes multiples of 16.
    small_width, small_height = (max(round(side * scale / 16), 1) * 16 for side in (width, height))
    small_frame, small_previous = (
        to_tensor(cv2.resize(image, (small_width, small_height), interpolation=cv2.INTER_AREA), flow.device)[None]
        for image in (frame, previous)
    )
    field = F.interpolate(flow(small_frame, small_previous, return_dict=False)[0], (height, width), mode="bilinear")
    return field * field.new_tensor([width / small_width, height / small_height])[:, None, None]


@torch.no_grad()
def flicker(frame: np.ndarray, previous: np.ndarray, field: torch.Tensor) -> float:
    """Change from the previous frame that the flow does not explain: |y[t] - warp(y[t-1], flow)|.

    Args:
        frame, previous (`np.ndarray` of shape `(h, w, 3)`): RGB, uint8.
        field (`torch.Tensor` of shape `(1, 2, h, w)`): Flow from `frame` to `previous` in pixels, x first.

    Returns:
        `float`: in levels of 255, the mean over the channels and the pixels whose origin is within the previous frame;
        NaN if there are none.
    """
    image, previous_image = (to_tensor(pixels, field.device)[None] for pixels in (frame, previous))
    # Ones are warped to less than one where a pixel comes from beyond the border, even if only partly.
    inside = warp(torch.ones_like(image[:, :1]), field)[:, 0] > 0.999
    difference = (image - warp(previous_image, field)).abs().mean(dim=1)
    return float(difference[inside].double().mean()) * 127.5


def landmark_jitter(previous: np.ndarray, current: np.ndarray, following: np.ndarray) -> float:
    """Distance of landmarks from the midpoint between their previous and their following positions.

    Uniform motion gives 0.  The result is scaled such that independent noise of standard deviation s in x and in y
    gives sqrt(2) s.

    Args:
        previous, current, following (`np.ndarray` of shape `(points, 2)`): Landmarks of three neighbouring frames.

    Returns:
        `float`: root mean square over the points, in the unit of the landmarks.
    """
    # Noise of variance s² gives current - (previous + following) / 2 the variance (1 + 1/4 + 1/4) s².
    offset = current - (previous + following) / 2
    return float(np.sqrt(np.mean(np.sum(offset.astype(np.float64) ** 2, axis=-1)) / 1.5))
