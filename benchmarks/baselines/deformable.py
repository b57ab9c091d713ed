"""Modulated deformable convolution (Zhu et al., arXiv 1811.11168) in plain torch, for EDVR and BasicVSR++."""

import torch
from torch import nn
from torch.nn import functional as F


TAPS = 9  # of a kernel of 3 x 3


def deformable_convolution(
    x: torch.Tensor,
    offsets: torch.Tensor,
    mask: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
) -> torch.Tensor:
    """Convolve with a kernel of 3 x 3 whose taps are moved and weighted at every position.

        out(p) = bias + sum_c sum_k weight[:, c, k] mask_{g(c),k}(p) x_c(p stride - padding + k dilation + offset)

    with bilinear sampling, in which pixels outside of the image count as zero.  Group g serves the input channels
    from g C/G to (g + 1) C/G - 1.

    Args:
        x (`torch.Tensor` of shape `(b, C, h, w)`): Input.
        offsets (`torch.Tensor` of shape `(b, G * 9 * 2, H, W)`): In pixels, by group, tap (row by row), (y, x).
        mask (`torch.Tensor` of shape `(b, G * 9, H, W)`): By group, tap.
        weight (`torch.Tensor` of shape `(C_out, C, 3, 3)`): Kernel.
        bias (`torch.Tensor` of shape `(C_out,)`): Bias.
        stride, padding, dilation (`int`): As in a convolution.

    Returns:
        `torch.Tensor` of shape `(b, C_out, H, W)`
    """
    batch, channels, height, width = x.shape
    rows, columns = mask.shape[2:]
    groups = mask.shape[1] // TAPS
    # Where the taps are without offsets: (3, rows) and (3, columns)
    taps = torch.arange(3, device=x.device, dtype=x.dtype) * dilation - padding
    tap_y = taps[:, None] + torch.arange(rows, device=x.device, dtype=x.dtype) * stride
    tap_x = taps[:, None] + torch.arange(columns, device=x.device, dtype=x.dtype) * stride
    offset_y, offset_x = offsets.reshape(batch * groups, 3, 3, 2, rows, columns).unbind(3)
    # grid_sample without align_corners: -1 and 1 are the outer edges of the first and the last pixel.
    grid_x = (2 * (tap_x[:, None, :] + offset_x) + 1) / width - 1
    grid_y = (2 * (tap_y[:, None, :, None] + offset_y) + 1) / height - 1
    grid = torch.stack((grid_x, grid_y), dim=-1).reshape(batch * groups, TAPS * rows, columns, 2)
    grouped = x.reshape(batch * groups, channels // groups, height, width)
    sampled = F.grid_sample(grouped, grid, padding_mode="zeros", align_corners=False)
    sampled = sampled.reshape(batch, groups, -1, TAPS, rows * columns) * mask.reshape(batch, groups, 1, TAPS, -1)
    out = weight.flatten(1) @ sampled.reshape(batch, channels * TAPS, rows * columns)
    return out.reshape(batch, -1, rows, columns) + bias[:, None, None]


class DeformableConvolution(nn.Module):
    """The kernel, and the split of what a head outputs into offsets and mask.

    Args:
        in_channels, out_channels (`int`): Channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def convolve(self, x: torch.Tensor, offsets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return deformable_convolution(x, offsets, mask, self.weight, self.bias)

    @staticmethod
    def split(head: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Offsets (two thirds of the channels) and mask (the last third, in [0, 1]) of a head `(b, 27 G, h, w)`."""
        channels = 2 * head.shape[1] // 3
        return head[:, :channels], head[:, channels:].sigmoid()
