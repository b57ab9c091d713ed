"""Measure a video frame by frame: against its reference ([`compare_videos`]) or without one ([`inspect_video`]).

Two frames of a video are held at a time.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec

import numpy as np

from ..faces.alignment import TEMPLATE_SIZE
from ..faces.identity import FaceIdentity
from ..faces.landmarks import LandmarkNetwork
from ..models.flow.dis import DISFlow
from ..models.flow.gmflow import GMFlow
from ..models.lpips import LPIPS
from .metrics import (
    SSIM_WINDOW,
    cosine,
    find_flow,
    flicker,
    identity_similarity,
    landmark_distance,
    landmark_jitter,
    lpips_distance,
    psnr,
    ssim,
)
from .series import NO_REFERENCE_METRICS, REFERENCE_METRICS, Metric, Series, VideoMetrics


def compare_videos(
    restored: Iterable[np.ndarray],
    reference: Iterable[np.ndarray],
    lpips: LPIPS | None = None,
    identity: FaceIdentity | None = None,
    landmarks: LandmarkNetwork | None = None,
    flow: GMFlow | DISFlow | None = None,
    name: str = "",
) -> VideoMetrics:
    """Measure a restored video against its reference.

    Args:
        restored (`Iterable[np.ndarray]`, each of shape `(h, w, 3)`):
            RGB frames, uint8; with `identity` or `landmarks` they are aligned faces.
        reference (`Iterable[np.ndarray]`, each of shape `(h, w, 3)`):
            The same number of frames of the same size.
        lpips ([`LPIPS`], *optional*):
            Network for LPIPS.
        identity ([`FaceIdentity`], *optional*):
            Network for IDS.
        landmarks ([`LandmarkNetwork`], *optional*):
            Network for AKD.
        flow ([`GMFlow`] or [`DISFlow`], *optional*):
            Estimator for the flicker, which is |y[t] - warp(y[t-1], flow)| for the restored video and for the
            reference, both with the flow of the reference.  The flicker of the reference comes from noise, occlusions
            and errors of the flow; a restored video far below it is blurred.
        name (`str`, defaults to `""`):
            Name of the video in the result.

    Returns:
        [`VideoMetrics`]: with the names of `REFERENCE_METRICS`.

    Raises:
        ValueError: If there are no frames, the numbers of frames or the sizes differ, a frame is not RGB uint8, or a
            frame is not square although faces are measured.
    """
    faces = identity is not None or landmarks is not None
    compute: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {}
    if find_spec("skimage") is not None:
        compute |= {"psnr": psnr, "ssim": ssim}
    if lpips is not None:
        compute["lpips"] = partial(lpips_distance, lpips)
    if identity is not None:
        compute["ids"] = partial(identity_similarity, identity)
    if landmarks is not None:
        compute["akd"] = partial(landmark_distance, landmarks)
    temporal = ("flicker", "reference_flicker") if flow is not None else ()
    values: dict[str, list[float]] = {key: [] for key in (*compute, *temporal)}

    previous: tuple[np.ndarray, np.ndarray] | None = None
    num_frames = 0
    for frame, truth in _pair_frames(restored, reference):
        _check_frame(frame, None if previous is None else previous[0], faces)
        _check_frame(truth, frame, faces)
        for key, metric in compute.items():
            values[key].append(metric(frame, truth))
        if flow is not None and previous is not None:
            field = find_flow(flow, truth, previous[1])
            values["flicker"].append(flicker(frame, previous[0], field))
            values["reference_flicker"].append(flicker(truth, previous[1], field))
        previous = (frame, truth)
        num_frames += 1
    return _collect(name, num_frames, values, REFERENCE_METRICS)


def inspect_video(
    frames: Iterable[np.ndarray],
    identity: FaceIdentity | None = None,
    landmarks: LandmarkNetwork | None = None,
    flow: GMFlow | DISFlow | None = None,
    name: str = "",
) -> VideoMetrics:
    """Measure the temporal consistency of a video without a reference.

    Args:
        frames (`Iterable[np.ndarray]`, each of shape `(h, w, 3)`):
            RGB frames, uint8; with `identity` or `landmarks` they are aligned faces.
        identity ([`FaceIdentity`], *optional*):
            Network for the similarity to the previous frame, whose standard deviation is the identity jitter.
        landmarks ([`LandmarkNetwork`], *optional*):
            Network for the landmark jitter, see [`landmark_jitter`].
        flow ([`GMFlow`] or [`DISFlow`], *optional*):
            Estimator for the flicker, as in [`compare_videos`] but with the flow of the video itself, which follows a
            part of the flicker: compare these values only with each other.
        name (`str`, defaults to `""`):
            Name of the video in the result.

    Returns:
        [`VideoMetrics`]: with the names of `NO_REFERENCE_METRICS`.

    Raises:
        ValueError: If there are no frames, their size changes, a frame is not RGB uint8, or a frame is not square
            although faces are measured.
    """
    faces = identity is not None or landmarks is not None
    needed = {"flicker": flow, "identity_steps": identity, "landmark_jitter": landmarks}
    values: dict[str, list[float]] = {key: [] for key, model in needed.items() if model is not None}

    previous: np.ndarray | None = None
    embedding: np.ndarray | None = None
    points: list[np.ndarray] = []  # of the last three frames
    num_frames = 0
    for frame in frames:
        _check_frame(frame, previous, faces)
        if flow is not None and previous is not None:
            values["flicker"].append(flicker(frame, previous, find_flow(flow, frame, previous)))
        if identity is not None:
            embedding, previous_embedding = identity.embed([frame])[0], embedding
            if previous_embedding is not None:
                values["identity_steps"].append(cosine(embedding, previous_embedding))
        if landmarks is not None:
            points = [*points[-2:], landmarks.find([frame])[0] * (TEMPLATE_SIZE / len(frame))]
            if len(points) == 3:
                values["landmark_jitter"].append(landmark_jitter(*points))
        previous = frame
        num_frames += 1
    return _collect(name, num_frames, values, NO_REFERENCE_METRICS)


def _pair_frames(
    restored: Iterable[np.ndarray], reference: Iterable[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for index, (frame, truth) in enumerate(itertools.zip_longest(restored, reference)):
        if frame is None or truth is None:
            shorter = "restored" if frame is None else "reference"
            raise ValueError(
                f"the {shorter} video ends after {index} frames and the other one continues: "
                "cut both videos to the same frames."
            )
        yield frame, truth


def _check_frame(frame: np.ndarray, like: np.ndarray | None, is_face: bool) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"frames must be RGB, uint8 of shape (h, w, 3), got {frame.dtype} of shape {frame.shape}.")
    height, width = frame.shape[:2]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"frames must have sides of at least {SSIM_WINDOW} pixels, got {height} x {width}.")
    if like is not None and frame.shape != like.shape:
        raise ValueError(
            f"frames differ in size, {height} x {width} and {like.shape[0]} x {like.shape[1]}: resize the larger ones "
            "by area to the size of the smaller ones, and state that with the results."
        )
    if is_face and height != width:
        raise ValueError(
            f"identity and landmarks are measured on aligned faces, which are square, got {height} x {width}: "
            "align the faces of both videos first, or leave these two networks out."
        )


def _collect(name: str, num_frames: int, values: dict[str, list[float]], table: dict[str, Metric]) -> VideoMetrics:
    if num_frames == 0:
        raise ValueError(f"the video {name!r} has no frames.")
    return VideoMetrics(name, num_frames, {key: Series(values[key]) if key in values else None for key in table})
