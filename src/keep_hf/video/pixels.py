"""Conversion between uint8 images and the float tensors that the networks take and output."""

from collections.abc import Sequence

import numpy as np
import torch


def to_tensor(
    images: np.ndarray | Sequence[np.ndarray],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Convert images to a tensor.

    The arithmetic, (x / 255 - 0.5) / 0.5 in float32, is that of the published code, to the last bit.

    Args:
        images (`np.ndarray` or `Sequence[np.ndarray]`): uint8 of shape `(..., h, w, 3)`; images in a sequence have the
            same size.
        device (`torch.device` or `str`, *optional*, defaults to `"cpu"`): Device of the tensor.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): Type of the tensor.

    Returns:
        `torch.Tensor` of shape `(..., 3, h, w)`, in [-1, 1].
    """
    # A copy, because torch accepts no negative strides and warns of read-only memory.  It goes to the device as uint8.
    levels = torch.from_numpy(np.array(images, order="C")).to(device)
    return levels.movedim(-1, -3).contiguous().float().div_(255).sub_(0.5).div_(0.5).to(dtype)


def to_images(tensor: torch.Tensor) -> np.ndarray:
    """Convert a tensor to images.

    Args:
        tensor (`torch.Tensor` of shape `(..., 3, h, w)`): Nominally in [-1, 1]; other values are clamped.

    Returns:
        `np.ndarray` of shape `(..., h, w, 3)`, uint8: rounded to the nearest level.
    """
    levels = (tensor.float().clamp(-1, 1) * 0.5 + 0.5).mul(255).round().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().cpu().numpy()


def to_levels(tensor: torch.Tensor) -> np.ndarray:
    """Convert a tensor to images without rounding.

    Args:
        tensor (`torch.Tensor` of shape `(..., 3, h, w)`): Nominally in [-1, 1]; other values are clamped.

    Returns:
        `np.ndarray` of shape `(..., h, w, 3)`, float32 in levels of 255.
    """
    levels = (tensor.float().clamp(-1, 1) * 0.5 + 0.5).mul(255)
    return levels.movedim(-3, -1).contiguous().cpu().numpy()
