"""GPEN (arXiv 2105.06070), the network of GPEN-BFR-512.pth and GPEN-BFR-256.pth.

    face ──> encoder ──> style ──> generator (stylegan2.py) ──> restored face
                └── features of all sizes, as noise ──┘

The README of https://github.com/yangxy/GPEN links the published files.  ATTENTION: that repository has no licence, so
that code and weights are all rights reserved.  Faces for GPEN are aligned differently, and smaller in the crop, than
the FFHQ template that KEEP, GFPGAN and RestoreFormer use; it restores faces of that template, too.

The published layers have factors that are applied at run time: every weight is multiplied by 1 / sqrt(fan_in), the
layers of the style by another 0.01, and every leaky ReLU by sqrt(2).  `fold_factors` moves them into the weights, so
that the layers here are those of torch.

Legend: b images, c channels, s channels of a style.
"""

import dataclasses
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from keep_hf.video.pixels import to_levels

from .frames import restore_each
from .loading import Checkpoint
from .stylegan2 import Generator, ModulatedConv, read_sizes


RENAMED = {
    r"^ecd0\.0\.[01]\.": "encoder.0.0.",
    r"^ecd(\d+)\.0\.0\.": r"encoder.\1.0.",
    r"^ecd(\d+)\.0\.[12]\.": r"encoder.\1.1.",
    r"^generator\.style\.(\d+)\.": r"style.\1.0.",
    r"^generator\.input\.input$": "generator.constant",
    r"^generator\.conv(1|s)\.": r"generator.style_conv\1.",
    r"\.conv\.": ".modulated_conv.",
    r"\.noise\.weight$": ".weight",
    r"\.activate\.bias$": ".bias",
}
STYLED_CONV = re.compile(r"style_conv(1|s\.\d+)\.(weight|bias)$")


def fold_factors(name: str, value: torch.Tensor) -> torch.Tensor:
    """Multiply a published weight, given by our name, by its factors at run time."""
    if name.endswith(("kernel", "constant")):
        return value
    if name.endswith("weight") and value.ndim > 1:
        value = value * value.flatten(-3 if value.ndim > 2 else -1).shape[-1] ** -0.5  # 1 / sqrt(fan_in)
    if name.startswith("style."):
        value = value * 0.01
    if STYLED_CONV.search(name) or name.startswith(("encoder.", "final_linear.", "style.")):
        value = value * 2**0.5  # sqrt(2) lrelu(x) = lrelu(sqrt(2) x)
    return value.reshape(1, -1, 1, 1) if STYLED_CONV.search(name) and name.endswith("bias") else value


class Blur(nn.Module):
    """The filter (1, 3, 3, 1) in both directions, with zero padding.

    Args:
        padding (`int`): Zeros on every side.
        gain (`float`): Sum of the filter.
    """

    kernel: torch.Tensor

    def __init__(self, padding: int, gain: float) -> None:
        super().__init__()
        self.padding = padding
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", gain * torch.outer(taps, taps) / 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.expand(channels, 1, 4, 4), padding=self.padding, groups=channels)


class BlurredUpsample(Blur):
    """Doubles the size: zeros between the pixels, then the filter."""

    def __init__(self) -> None:
        super().__init__(padding=1, gain=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        kernel = self.kernel.expand(channels, 1, 4, 4)
        return F.conv_transpose2d(x, kernel, stride=2, padding=self.padding, groups=channels)


class UpsamplingConv(ModulatedConv):
    """A modulated transposed convolution, to 2h + 1 pixels, whose result is blurred, to 2h pixels."""

    def __init__(self, in_channels: int, out_channels: int, style_channels: int) -> None:
        super().__init__(in_channels, out_channels, style_channels)
        self.blur = Blur(padding=1, gain=4)

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        return self.blur(F.conv_transpose2d(x, self.weight[0].transpose(0, 1), stride=2))


class GPEN(nn.Module):
    """Degraded faces `(b, 3, size, size)`, RGB in [-1, 1] -> restored faces of the same shape, not clamped.

    Args:
        widths (`Sequence[int]`): Channels of the generator and of the encoder at 4 x 4, 8 x 8 and so on up to `size`.
        style_channels (`int`): Channels of a style.
        num_style_layers (`int`): Linear layers between the encoder's result and the style.
    """

    def __init__(self, widths: Sequence[int], style_channels: int, num_style_layers: int) -> None:
        super().__init__()
        self.size = 4 * 2 ** (len(widths) - 1)
        finest = [nn.Sequential(nn.Conv2d(3, widths[-1], 1), nn.LeakyReLU(0.2))]
        coarser = [
            nn.Sequential(Blur(padding=2, gain=1), nn.Conv2d(before, width, 3, stride=2), nn.LeakyReLU(0.2))
            for before, width in pairwise(reversed(widths))
        ]
        self.encoder = nn.ModuleList(finest + coarser)
        self.final_linear = nn.Sequential(nn.Linear(16 * widths[0], style_channels), nn.LeakyReLU(0.2))
        self.style = nn.Sequential(
            nn.RMSNorm(style_channels, eps=1e-8, elementwise_affine=False),
            *(
                nn.Sequential(nn.Linear(style_channels, style_channels), nn.LeakyReLU(0.2))
                for _ in range(num_style_layers)
            ),
        )
        self.generator = Generator(
            widths,
            style_channels,
            concatenate=True,
            upsampling_conv=UpsamplingConv,
            upsampling_image=BlurredUpsample,
        )

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> "GPEN":
        """Load a published file.

        Raises:
            ValueError: If the file is missing, damaged, or of another network.
        """
        checkpoint = Checkpoint.read(path, "GPEN").rename(RENAMED)
        weights = {name: fold_factors(name, value) for name, value in checkpoint.weights.items()}
        sizes = read_sizes(checkpoint, "generator.")
        return dataclasses.replace(checkpoint, weights=weights).load_into(cls(*sizes, checkpoint.count("style")))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images
        features: list[torch.Tensor] = []  # from the coarsest to the finest
        for layer in self.encoder:
            x = layer(x)
            features.insert(0, x)
        style = self.style(self.final_linear(x.flatten(1)))
        noises = [features[0], *(feature for feature in features[1:] for _ in range(2))]
        return self.generator([style] * (len(noises) + 1), noises)

    def restore(self, frames: np.ndarray) -> np.ndarray:
        """Restore aligned faces frame by frame, see [`Baseline`]; as published, levels are cut off, not rounded."""
        return restore_each(self, frames, self.size, lambda image: to_levels(image).astype(np.uint8))
