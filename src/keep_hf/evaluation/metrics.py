"""How good and how steady a restored video is: the seven measures of the paper, and three that go beyond it.

Against a reference, frame by frame ([`compare_videos`]):
 - PSNR and SSIM, by scikit-image, of RGB with levels up to 255 and no border cut off.  PSNR is of the mean square
   error over all pixels and channels.  SSIM is as first published (Wang et al., 2004): a Gaussian window of 11 pixels
   with sigma 1.5, plain, not unbiased, covariance; the mean over channels and all places where the window fits.
 - LPIPS, see `lpips`.
 - IDS: the cosine of the embeddings of the two faces, from -1 to 1, see `identity`.
 - AKD: the mean distance of the landmarks of the two faces in pixels of a face of 512, see `landmarks`.
 - sigma_IDS and sigma_AKD: the standard deviations of these two over the frames of a video.
 - Flicker: what changes from frame to frame beside the motion; the flow is found in the reference.

Without one ([`inspect_video`]): flicker with the flow of the video itself; the cosine of the face with that of the
frame before, whose sigma is the identity jitter; the landmark jitter.

How values become means is told in `measures`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from ..faces.alignment import TEMPLATE_SIZE
from ..faces.identity import FaceIdentity
from ..faces.landmarks import LandmarkNetwork
from ..models.flow.gmflow import GMFlow
from ..models.flow.warp import warp
from ..models.lpips import LPIPS
from ..video.pixels import to_tensor
from .series import COMPARED, INSPECTED, Measure, Series, VideoMeasures


SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
# Flow is found at no more than this, the size of KEEP's faces: its memory grows with the fourth power of the side.
FLOW_SIDE = 512


def compare_videos(
    restored: Iterable[np.ndarray],
    reference: Iterable[np.ndarray],
    lpips: LPIPS | None = None,
    identity: FaceIdentity | None = None,
    landmarks: LandmarkNetwork | None = None,
    flow: GMFlow | None = None,
    name: str = "",
) -> VideoMeasures:
    """Measure a restored video against its reference; two frames of each are held at a time.

    Args:
        restored (`Iterable[np.ndarray]`, each of shape `(height, width, 3)`):
            RGB frames, uint8; with `identity` or `landmarks` they are aligned faces.
        reference (`Iterable[np.ndarray]`, each of shape `(height, width, 3)`):
            As many frames of the same size.
        lpips ([`LPIPS`], *optional*):
            Network for LPIPS.
        identity ([`FaceIdentity`], *optional*):
            Network for IDS.
        landmarks ([`LandmarkNetwork`], *optional*):
            Network for AKD.
        flow ([`GMFlow`], *optional*):
            Network for the flicker.  It is |y[t] - warp(y[t-1], flow)| for the restored video and the reference
            alike, with the reference's flow from frame t to t - 1; mean over channels and the pixels that come from
            within the frame.  The reference has some, of noise, hidden parts and errors of the flow: to be far below
            it is to be blurred.
        name (`str`, defaults to `""`):
            For the result.

    Returns:
        [`VideoMeasures`]: with the names of `COMPARED`.

    Raises:
        ValueError: If there are no frames, or numbers of frames or sizes differ, or frames are not RGB uint8, or not
            square where faces are measured.
    """
    faces = identity is not None or landmarks is not None
    computations: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {}
    if find_spec("skimage") is not None:
        computations |= {"psnr": psnr, "ssim": ssim}
    if lpips is not None:
        computations["lpips"] = partial(_lpips, lpips)
    if identity is not None:
        computations["ids"] = partial(_likeness, identity)
    if landmarks is not None:
        computations["akd"] = partial(_landmark_distance, landmarks)
    flickers = ("flicker", "reference_flicker") if flow is not None else ()
    values: dict[str, list[float]] = {key: [] for key in (*computations, *flickers)}

    before: tuple[np.ndarray, np.ndarray] | None = None
    num_frames = 0
    for frame, truth in _pairs(restored, reference):
        _check(frame, None if before is None else before[0], faces)
        _check(truth, frame, faces)
        for key, compute in computations.items():
            values[key].append(compute(frame, truth))
        if flow is not None and before is not None:
            field = find_flow(flow, truth, before[1])
            values["flicker"].append(flicker(frame, before[0], field))
            values["reference_flicker"].append(flicker(truth, before[1], field))
        before = (frame, truth)
        num_frames += 1
    return _collect(name, num_frames, values, COMPARED)


def inspect_video(
    frames: Iterable[np.ndarray],
    identity: FaceIdentity | None = None,
    landmarks: LandmarkNetwork | None = None,
    flow: GMFlow | None = None,
    name: str = "",
) -> VideoMeasures:
    """Measure how steady a video is that has no reference; two frames are held at a time.

    Args:
        frames (`Iterable[np.ndarray]`, each of shape `(height, width, 3)`):
            RGB frames, uint8; with `identity` or `landmarks` they are aligned faces.
        identity ([`FaceIdentity`], *optional*):
            Network for the likeness to the frame before.
        landmarks ([`LandmarkNetwork`], *optional*):
            Network for the landmark jitter, see [`landmark_jitter`].
        flow ([`GMFlow`], *optional*):
            Network for the flicker, as in [`compare_videos`] but with the flow of the video itself, which follows
            some of what flickers: compare such values with one another only.
        name (`str`, defaults to `""`):
            For the result.

    Returns:
        [`VideoMeasures`]: with the names of `INSPECTED`.

    Raises:
        ValueError: If there are no frames, or sizes change, or frames are not RGB uint8, or not square where faces
            are measured.
    """
    needed = {"flicker": flow, "identity_steps": identity, "landmark_jitter": landmarks}
    values: dict[str, list[float]] = {key: [] for key, model in needed.items() if model is not None}

    before: np.ndarray | None = None
    embedding: np.ndarray | None = None
    points: list[np.ndarray] = []
    num_frames = 0
    for frame in frames:
        _check(frame, before, identity is not None or landmarks is not None)
        if flow is not None and before is not None:
            values["flicker"].append(flicker(frame, before, find_flow(flow, frame, before)))
        if identity is not None:
            embedding, embedding_before = identity.embed([frame])[0], embedding
            if embedding_before is not None:
                values["identity_steps"].append(_cosine(embedding, embedding_before))
        if landmarks is not None:
            points = [*points[-2:], landmarks.find([frame])[0] * (TEMPLATE_SIZE / len(frame))]
            if len(points) == 3:
                values["landmark_jitter"].append(landmark_jitter(*points))
        before = frame
        num_frames += 1
    return _collect(name, num_frames, values, INSPECTED)


def landmark_jitter(before: np.ndarray, now: np.ndarray, after: np.ndarray) -> float:
    """How far landmarks are from the middle between where they were and where they will be.

    Steady motion gives 0.  The factor makes noise count as what it is: points that are off by independent noise of
    standard deviation s along x and along y give sqrt(2) s.

    Args:
        before, now, after (`np.ndarray` of shape `(points, 2)`):
            The landmarks of three neighbouring frames.

    Returns:
        `float`: root mean square over the points, in the unit of the landmarks.
    """
    # Noise of variance s² is in now - (before + after) / 2 with variance (1 + 1/4 + 1/4) s².
    bend = now - (before + after) / 2
    return float(np.sqrt(np.mean(np.sum(bend.astype(np.float64) ** 2, axis=-1)) / 1.5))


@torch.no_grad()
def find_flow(flow: GMFlow, now: np.ndarray, before: np.ndarray) -> torch.Tensor:
    """Find where the pixels of a frame were in the frame before, with frames of any size.

    Args:
        flow ([`GMFlow`]):
            Network.
        now (`np.ndarray` of shape `(height, width, 3)`):
            RGB frame, uint8.
        before (`np.ndarray` of shape `(height, width, 3)`):
            The frame before it.

    Returns:
        `torch.Tensor` of shape `(1, 2, height, width)`, float32: in pixels, x first.
    """
    height, width = now.shape[:2]
    shrink = min(FLOW_SIDE / max(height, width), 1)
    # The network takes multiples of 16.
    size = tuple(max(round(side * shrink / 16), 1) * 16 for side in (width, height))
    small = [to_tensor(cv2.resize(x, size, interpolation=cv2.INTER_AREA), flow.device)[None] for x in (now, before)]
    field = F.interpolate(flow(*small), (height, width), mode="bilinear")
    return field * field.new_tensor([width / size[0], height / size[1]])[:, None, None]


@torch.no_grad()
def flicker(now: np.ndarray, before: np.ndarray, field: torch.Tensor) -> float:
    """How much a frame differs from the frame before it when that is moved along: |now - warp(before, field)|.

    Args:
        now (`np.ndarray` of shape `(height, width, 3)`):
            RGB frame, uint8.
        before (`np.ndarray` of shape `(height, width, 3)`):
            The frame before it.
        field (`torch.Tensor` of shape `(1, 2, height, width)`):
            Flow from `now` to `before` in pixels, x first.

    Returns:
        `float`: mean over channels and the pixels that come from within the frame, in levels of 255; NaN if none does.
    """
    image, image_before = (to_tensor(frame, field.device)[None] for frame in (now, before))
    # Ones are warped to less where a pixel comes from beyond the border, if only in part.
    inside = warp(torch.ones_like(image[:, :1]), field)[:, 0] > 0.999
    difference = (image - warp(image_before, field)).abs().mean(dim=1)
    return float(difference[inside].double().mean()) * 127.5


def psnr(frame: np.ndarray, truth: np.ndarray) -> float:
    """PSNR in dB of a frame, infinite where both are equal."""
    from skimage.metrics import peak_signal_noise_ratio

    with np.errstate(divide="ignore"):  # equal frames: infinite, and meant
        return float(peak_signal_noise_ratio(truth, frame, data_range=255))


def ssim(frame: np.ndarray, truth: np.ndarray) -> float:
    """SSIM of a frame, as first published."""
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
def _lpips(lpips: LPIPS, frame: np.ndarray, truth: np.ndarray) -> float:
    return float(lpips(to_tensor(frame, lpips.device)[None], to_tensor(truth, lpips.device)[None]))


def _likeness(identity: FaceIdentity, frame: np.ndarray, truth: np.ndarray) -> float:
    return _cosine(*identity.embed([frame, truth]))


def _landmark_distance(landmarks: LandmarkNetwork, frame: np.ndarray, truth: np.ndarray) -> float:
    points, points_of_truth = landmarks.find([frame, truth]).astype(np.float64)
    return float(np.linalg.norm(points - points_of_truth, axis=-1).mean()) * TEMPLATE_SIZE / len(frame)


def _cosine(embedding: np.ndarray, other: np.ndarray) -> float:
    # Unit vectors are a rounding error away from length 1.
    return float(np.clip(embedding.astype(np.float64) @ other.astype(np.float64), -1, 1))


def _pairs(restored: Iterable[np.ndarray], reference: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for index, (frame, truth) in enumerate(itertools.zip_longest(restored, reference)):
        if frame is None or truth is None:
            shorter = "restored" if frame is None else "reference"
            raise ValueError(
                f"the {shorter} video ends after {index} frames and the other goes on: "
                "measure videos with the same frames, cut to the same part."
            )
        yield frame, truth


def _check(frame: np.ndarray, like: np.ndarray | None, is_face: bool) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"frames must be RGB, uint8 of shape (h, w, 3), got {frame.dtype} of shape {frame.shape}.")
    height, width = frame.shape[:2]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"frames must have sides of at least {SSIM_WINDOW} pixels, got {height} x {width}.")
    if like is not None and frame.shape != like.shape:
        raise ValueError(
            f"frames differ in size, {height} x {width} and {like.shape[0]} x {like.shape[1]}: resize the larger ones "
            "by area to the size of the smaller ones, and say so with the figures."
        )
    if is_face and height != width:
        raise ValueError(
            f"identity and landmarks are measured on aligned faces, which are square, got {height} x {width}: "
            "cut the faces of both videos first, or leave these two networks out."
        )


def _collect(name: str, num_frames: int, values: dict[str, list[float]], table: dict[str, Measure]) -> VideoMeasures:
    if num_frames == 0:
        raise ValueError(f"the video {name!r} has no frames.")
    return VideoMeasures(name, num_frames, {key: Series(values[key]) if key in values else None for key in table})
