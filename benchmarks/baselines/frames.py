"""Frames as the networks take them."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import nn

from keep_hf.video.pixels import to_images, to_tensor


def resize_frames(frames: np.ndarray, size: int) -> np.ndarray:
    """Resize frames `(t, h, w, 3)` to squares: larger ones by area, smaller ones linearly."""
    interpolation = cv2.INTER_AREA if frames.shape[1] > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(frame, (size, size), interpolation=interpolation) for frame in frames])


@torch.inference_mode()
def restore_each(
    network: nn.Module,
    frames: np.ndarray,
    size: int,
    to_pixels: Callable[[torch.Tensor], np.ndarray] = to_images,
) -> np.ndarray:
    """Restore frames one by one.

    Args:
        network (`nn.Module`): From faces `(1, 3, size, size)` in [-1, 1] to such faces.
        frames (`np.ndarray` of shape `(t, h, w, 3)`): RGB, uint8, of any size.
        size (`int`): Side of the faces that the network takes.
        to_pixels (`Callable[[torch.Tensor], np.ndarray]`): From `(1, 3, size, size)` to `(1, size, size, 3)`, uint8.

    Returns:
        `np.ndarray` of shape `(t, size, size, 3)`: RGB, uint8.
    """
    device = next(network.parameters()).device
    faces = resize_frames(frames, size)
    return np.concatenate([to_pixels(network(to_tensor(face, device)[None])) for face in faces])
