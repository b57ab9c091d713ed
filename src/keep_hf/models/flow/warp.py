"""Warping of an image along a flow (KEEP, arXiv 2408.05205, section 3.2, eq. 12).

Flows are in pixels, channel 0 along x (to the right), channel 1 along y (down).
"""

import torch
from torch.nn import functional as F

from .constants import constant


def warp(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Sample an image where a flow points: `out(p) = image(p + flow(p))`, bilinear, zero outside of the image.

    Args:
        image (`torch.Tensor` of shape `(b, c, h, w)`): For an image in [-1, 1] the zeros outside are mid grey.
        flow (`torch.Tensor` of shape `(b, 2, h, w)`): Displacement in pixels, x first.

    Returns:
        `torch.Tensor` of shape `(b, c, h, w)` in the dtype of `image`; computed in float32.

    Raises:
        ValueError: If the flow does not have the shape of the image.
    """
    batch, _, height, width = image.shape
    if flow.shape != (batch, 2, height, width):
        raise ValueError(
            f"`flow` must have the shape {(batch, 2, height, width)} for an image of shape {tuple(image.shape)}, "
            f"not {tuple(flow.shape)}."
        )
    x, y = (pixel_grid(height, width, flow.device) + flow.float()).unbind(1)
    # grid_sample with align_corners: -1 and 1 are the centres of the first and the last pixel.
    grid = torch.stack((2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1), dim=-1)
    return F.grid_sample(image.float(), grid, padding_mode="zeros", align_corners=True).to(image.dtype)


@constant
def pixel_grid(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Coordinates of all positions in pixels, float32, of shape `(1, 2, height, width)`, x first."""
    rows = torch.arange(height, device=device, dtype=torch.float32)
    columns = torch.arange(width, device=device, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y))[None]
