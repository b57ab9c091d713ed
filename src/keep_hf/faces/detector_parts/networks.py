"""The blocks of the detector: the search for boxes consists of them, and so does the network that reads close-ups."""

import torch
import torch.nn.functional as F
from torch import nn


class SeparableBlock(nn.Module):
    """Depthwise 3x3 and pointwise convolution, with a residual connection where the shape is kept."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features `(b, in_channels, h, w)` to `(b, out_channels, h / stride, w / stride)`."""
        h = F.relu(self.norm1(self.depthwise(x)))
        h = self.norm2(self.pointwise(h))
        return F.relu(x + h if self.residual else h)


def stem(out_channels: int) -> nn.Sequential:
    """A 3x3 convolution of an RGB image that halves its size, with norm and activation."""
    return nn.Sequential(nn.Conv2d(3, out_channels, 3, 2, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU())


def stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """Separable blocks: one that halves the size, then two residual ones."""
    return nn.Sequential(
        SeparableBlock(in_channels, out_channels, stride=2),
        SeparableBlock(out_channels, out_channels),
        SeparableBlock(out_channels, out_channels),
    )


def close_up_network(channels: tuple[int, ...], size: int) -> nn.Sequential:
    """A network that maps close-ups `(n, 3, size, size)`, RGB in [-1, 1], to eleven numbers each, `(n, 11)`.

    These are ten coordinates of the landmarks, from the centre of the close-up in sides of it, and the logit of the
    probability that the close-up shows a face.

    Args:
        channels (`tuple[int, ...]`): At strides 2, 4, 8 and 16.
        size (`int`): Side of the close-ups in pixels, a multiple of 16.
    """
    # Not a class: diffusers, when it offloads blocks, takes slices of a sequence, which have its class.
    return nn.Sequential(
        stem(channels[0]),
        *(stage(channels[i], channels[i + 1]) for i in range(3)),
        nn.Flatten(),
        nn.Linear(channels[3] * (size // 16) ** 2, 11),
    )
