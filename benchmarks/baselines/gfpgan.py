"""GFPGAN (arXiv 2101.04061) from version 1.2 on, the architecture that its authors call "clean".

    face ──> U-Net: encoder ──> styles ──────────────────────┐
               └──> decoder ──> scales and shifts ──> generator (stylegan2.py) ──> restored face

Published files are at https://github.com/TencentARC/GFPGAN/releases: GFPGANv1.4.pth and GFPGANv1.3.pth (release
v1.3.0), GFPGANCleanv1-NoCE-C2.pth (v0.2.0, version 1.2).  GFPGANv1.pth (v0.1.0) is the model of the paper, which is
another architecture.  The code is licensed under Apache-2.0 except for parts of others, among them StyleGAN2, whose
licence is non-commercial; there are no separate terms for the weights.

Legend: b images, c channels, s channels of a style.  Parameters have the names of the published files.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .frames import restore_each
from .loading import Checkpoint
from .stylegan2 import Generator, ModulatedConv, read_sizes


RENAMED = {
    r"^stylegan_decoder\.constant_input\.weight$": "stylegan_decoder.constant",
    r"^stylegan_decoder\.noises\.noise": "noises.",
}
# RGB images of the U-Net, for training, and a network for styles from noise.
UNUSED = ("toRGB.", "stylegan_decoder.style_mlp.")


def resize(x: torch.Tensor, factor: float) -> torch.Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class UpsamplingConv(ModulatedConv):
    """A modulated convolution of the map enlarged by two."""

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        return super().convolve(resize(x, 2))


class UNetBlock(nn.Module):
    """Two convolutions with a change of size between them, plus the resized input.

    Args:
        in_channels, out_channels (`int`): Widths.
        factor (`float`): 0.5 or 2.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = resize(F.leaky_relu(self.conv1(x), 0.2), self.factor)
        return F.leaky_relu(self.conv2(h), 0.2) + self.skip(resize(x, self.factor))


def condition(width: int) -> nn.Sequential:
    """The layers that compute scales, or shifts, from features of the U-Net."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, width, 3, padding=1)
    )


class GFPGAN(nn.Module):
    """Degraded faces `(b, 3, size, size)`, RGB in [-1, 1] -> restored faces of the same shape, not clamped.

    The published program draws new noise for every frame, so that a video flickers.  Here the noise is that which is
    stored with the weights, and results are deterministic.

    Args:
        widths (`Sequence[int]`): Channels of the generator at 4 x 4, 8 x 8 and so on up to `size`; the U-Net has half
            as many.
        style_channels (`int`): Channels of a style.
    """

    def __init__(self, widths: Sequence[int], style_channels: int) -> None:
        super().__init__()
        self.size = 4 * 2 ** (len(widths) - 1)
        halves = [width // 2 for width in widths]
        self.conv_body_first = nn.Conv2d(3, halves[-1], 1)
        self.conv_body_down = nn.ModuleList(UNetBlock(c, half, 0.5) for c, half in pairwise(reversed(halves)))
        self.final_conv = nn.Conv2d(halves[0], halves[0], 3, padding=1)
        self.final_linear = nn.Linear(16 * halves[0], 2 * len(widths) * style_channels)
        self.conv_body_up = nn.ModuleList(UNetBlock(c, half, 2) for c, half in pairwise(halves))
        self.condition_scale = nn.ModuleList(condition(half) for half in halves[1:])
        self.condition_shift = nn.ModuleList(condition(half) for half in halves[1:])
        self.stylegan_decoder = Generator(
            widths,
            style_channels,
            concatenate=False,
            upsampling_conv=UpsamplingConv,
            upsampling_image=lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        )
        sides = [4, *(4 * 2**level for level in range(1, len(widths)) for _ in range(2))]
        self.noises = nn.ParameterList(torch.randn(1, 1, side, side) for side in sides)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> "GFPGAN":
        """Load a published file.

        Raises:
            ValueError: If the file is missing, damaged, or of another network.
        """
        checkpoint = Checkpoint.read(path, "GFPGAN 1.2 to 1.4").rename(RENAMED).without(UNUSED)
        return checkpoint.load_into(cls(*read_sizes(checkpoint, "stylegan_decoder.")))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.conv_body_first(images), 0.2)
        encoded = []
        for block in self.conv_body_down:
            x = block(x)
            encoded.append(x)
        x = F.leaky_relu(self.final_conv(x), 0.2)
        num_styles = len(self.noises) + 1
        styles = self.final_linear(x.flatten(1)).unflatten(1, (num_styles, -1)).unbind(1)
        guides = []
        for block, features in zip(self.conv_body_up, reversed(encoded), strict=True):
            x = block(x + features)
            guides.append(x)

        def adjust(features: torch.Tensor, level: int) -> torch.Tensor:
            kept, changed = features.chunk(2, dim=1)
            scale, shift = self.condition_scale[level](guides[level]), self.condition_shift[level](guides[level])
            return torch.cat([kept, changed * scale + shift], dim=1)

        return self.stylegan_decoder(styles, list(self.noises), adjust)

    def restore(self, frames: np.ndarray) -> np.ndarray:
        """Restore aligned faces frame by frame, see [`Baseline`]."""
        return restore_each(self, frames, self.size)
