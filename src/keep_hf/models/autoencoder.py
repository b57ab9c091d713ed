"""Encoder and decoder of faces (KEEP, arXiv 2408.05205, section 3.2, "Generative Model").

Both are stacks of levels; a level has the layers of one size.  At one point of every level the encoder gives features
to its caller, and the caller guides the decoder.

Legend: b images, c channels, h w pixels.  A "size" is the side of a square feature map.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.utils import BaseOutput
from torch import nn

from .layers import Downsample, ResidualBlock, SpatialAttentionBlock, Upsample


Features = dict[int, torch.Tensor]  # size of a feature map -> (b, c, size, size)


@dataclass
class KeepReconstruction(BaseOutput):
    """Output of the autoencoder for clear faces (stage 1 of the training).

    Attributes:
        images (`torch.Tensor` of shape `(b, 3, h, w)`): The reconstruction, RGB around [-1, 1], not clamped.
        latents (`torch.Tensor` of shape `(b, c, grid, grid)`): Output of the encoder.
        quantized (`torch.Tensor` of shape `(b, c, grid, grid)`): Vectors of the nearest codes; their gradient is
            passed to the latents (straight-through).
        codes (`torch.Tensor` of shape `(b, n)`): Indices of the nearest codes.
    """

    images: torch.Tensor
    # accelerate copies an output as a dictionary in the place of the first field, which needs defaults for the others.
    latents: torch.Tensor = None  # type: ignore[assignment]
    quantized: torch.Tensor = None  # type: ignore[assignment]
    codes: torch.Tensor = None  # type: ignore[assignment]


class MiddleBlock(nn.Module):
    """Residual block, attention, residual block, all at the coarsest size."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.resnet1 = ResidualBlock(channels, channels, num_groups)
        self.attention = SpatialAttentionBlock(channels, num_groups)
        self.resnet2 = ResidualBlock(channels, channels, num_groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resnet2(self.attention(self.resnet1(x)))


class Level(nn.Module):
    """The layers of one size: residual blocks, at the coarsest size each followed by attention.

    Args:
        in_channels, channels (`int`): Width of the input, and of the level.
        num_resnets (`int`): Residual blocks.
        num_groups (`int`): Groups of the group norms.
        attention (`bool`): Whether attention follows each residual block.
        tapped (`int`): Number of the residual block whose output is passed through `tap`.
    """

    _gradient_checkpointing_func: Callable[..., torch.Tensor]  # set by `enable_gradient_checkpointing`

    def __init__(
        self, in_channels: int, channels: int, num_resnets: int, num_groups: int, attention: bool, tapped: int
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.tapped = tapped
        self.resnets = nn.ModuleList(
            ResidualBlock(in_channels if i == 0 else channels, channels, num_groups) for i in range(num_resnets)
        )
        self.attentions = nn.ModuleList(
            SpatialAttentionBlock(channels, num_groups) if attention else nn.Identity() for _ in range(num_resnets)
        )

    def forward(self, x: torch.Tensor, tap: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Features `(b, in_channels, h, w)` -> `(b, channels, h, w)`; `tap` may read and change those in between."""
        for i, (resnet, attention) in enumerate(zip(self.resnets, self.attentions, strict=True)):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x = self._gradient_checkpointing_func(resnet, x)
            else:
                x = resnet(x)
            if i == self.tapped:
                x = tap(x)
            x = attention(x)
        return x


class Encoder(nn.Module):
    """Images -> latents and the features at requested sizes.

    The features of a size are the output of its last residual block, before the attention that may follow.

    Args:
        patch_size (`int`): Side of the squares of pixels that become channels before the first layer.
        block_out_channels (`list[int]`): Widths of the levels, from the finest to the coarsest.
        layers_per_block (`int`): Residual blocks per level.
        latent_channels (`int`): Width of a latent.
        num_groups (`int`): Groups of the group norms.
    """

    def __init__(
        self,
        patch_size: int,
        block_out_channels: list[int],
        layers_per_block: int,
        latent_channels: int,
        num_groups: int,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.conv_in = nn.Conv2d(3 * patch_size**2, block_out_channels[0], 3, padding=1)
        coarsest = len(block_out_channels) - 1
        widths = [block_out_channels[0], *block_out_channels]
        self.levels = nn.ModuleList(
            Level(widths[i], widths[i + 1], layers_per_block, num_groups, i == coarsest, tapped=layers_per_block - 1)
            for i in range(coarsest + 1)
        )
        self.downsamples = nn.ModuleList(Downsample(width) for width in block_out_channels[:-1])
        self.middle = MiddleBlock(widths[-1], num_groups)
        # No activation between this norm and the last convolution, unlike the encoder of diffusers.
        self.norm_out = nn.GroupNorm(num_groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], latent_channels, 3, padding=1)

    def forward(self, images: torch.Tensor, feature_sizes: Container[int]) -> tuple[torch.Tensor, Features]:
        """Images `(b, 3, h, w)` -> latents `(b, latent_channels, grid, grid)` and features at `feature_sizes`."""
        features: Features = {}

        def record(x: torch.Tensor) -> torch.Tensor:
            if x.shape[-1] in feature_sizes:
                features[x.shape[-1]] = x
            return x

        x = self.conv_in(F.pixel_unshuffle(images, self.patch_size))
        for i, level in enumerate(self.levels):
            x = level(x, record)
            if i < len(self.downsamples):
                x = self.downsamples[i](x)
        return self.conv_out(self.norm_out(self.middle(x))), features


class Decoder(nn.Module):
    """Quantized latents -> images and the features at requested sizes, under the guidance of the caller.

    `guide` is called once per size, after the FIRST residual block of the size, at the coarsest size after the last
    one.  It takes features `(b, c, size, size)` and returns those with which the decoder continues; these are the
    features of the size.

    Args:
        patch_size, block_out_channels, layers_per_block, latent_channels, num_groups: See [`Encoder`]; the widths are
            in the same order.
    """

    def __init__(
        self,
        patch_size: int,
        block_out_channels: list[int],
        layers_per_block: int,
        latent_channels: int,
        num_groups: int,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        widths = [block_out_channels[-1], *reversed(block_out_channels)]  # from the coarsest to the finest
        self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.middle = MiddleBlock(widths[0], num_groups)
        self.levels = nn.ModuleList(
            Level(
                widths[i],
                widths[i + 1],
                layers_per_block,
                num_groups,
                attention=i == 0,
                tapped=layers_per_block - 1 if i == 0 else 0,
            )
            for i in range(len(block_out_channels))
        )
        self.upsamples = nn.ModuleList(Upsample(width) for width in widths[1:-1])
        self.norm_out = nn.GroupNorm(num_groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 3 * patch_size**2, 3, padding=1)

    def forward(
        self,
        quantized: torch.Tensor,
        guide: Callable[[torch.Tensor], torch.Tensor],
        feature_sizes: Container[int],
    ) -> tuple[torch.Tensor, Features]:
        """Latents `(b, latent_channels, grid, grid)` -> images `(b, 3, h, w)` and features at `feature_sizes`."""
        features: Features = {}

        def guide_and_record(x: torch.Tensor) -> torch.Tensor:
            x = guide(x)
            if x.shape[-1] in feature_sizes:
                features[x.shape[-1]] = x
            return x

        x = self.middle(self.conv_in(quantized))
        for i, level in enumerate(self.levels):
            x = level(x, guide_and_record)
            if i < len(self.upsamples):
                x = self.upsamples[i](x)
        return F.pixel_shuffle(self.conv_out(self.norm_out(x)), self.patch_size), features
