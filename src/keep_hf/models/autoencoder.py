"""Encoder and decoder of faces (KEEP, arXiv 2408.05205, section 3.2, "Generative Model").

Legend: b images, c channels, h w pixels.  A "size" is the side of a square feature map.
"""

from collections.abc import Callable, Container

import torch
import torch.nn.functional as F
from torch import nn

from .layers import Downsample, ResidualBlock, SpatialAttentionBlock, Upsample


Features = dict[int, torch.Tensor]  # size of a feature map -> (b, c, size, size)


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

    Encoder and decoder call the layers themselves, because they read and change the features between them.
    """

    def __init__(self, in_channels: int, channels: int, num_resnets: int, num_groups: int, attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResidualBlock(in_channels if i == 0 else channels, channels, num_groups) for i in range(num_resnets)
        )
        self.attentions = nn.ModuleList(
            SpatialAttentionBlock(channels, num_groups) if attention else nn.Identity() for _ in range(num_resnets)
        )


class Encoder(nn.Module):
    """Images `(b, 3, h, w)` -> latents `(b, latent_channels, grid, grid)` and features at the requested sizes.

    The features of a size are the output of its last residual block, before the attention that may follow.

    Args:
        patch_size (`int`): Side of the squares of pixels that become channels before the first layer.
        block_out_channels (`list[int]`): Widths of the levels, from the finest to the coarsest.
        layers_per_block (`int`): Residual blocks per level.
        latent_channels (`int`): Width of a latent.
        num_groups (`int`): Groups of the group norms.
    """

    _gradient_checkpointing_func: Callable[..., torch.Tensor]  # set by `enable_gradient_checkpointing`

    def __init__(
        self,
        patch_size: int,
        block_out_channels: list[int],
        layers_per_block: int,
        latent_channels: int,
        num_groups: int,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.patch_size = patch_size
        self.conv_in = nn.Conv2d(3 * patch_size**2, block_out_channels[0], 3, padding=1)
        coarsest = len(block_out_channels) - 1
        widths = [block_out_channels[0], *block_out_channels]
        self.levels = nn.ModuleList(
            Level(widths[i], widths[i + 1], layers_per_block, num_groups, attention=i == coarsest)
            for i in range(coarsest + 1)
        )
        self.downsamples = nn.ModuleList(Downsample(width) for width in block_out_channels[:-1])
        self.middle = MiddleBlock(widths[-1], num_groups)
        # No activation between this norm and the last convolution, unlike diffusers' Encoder.
        self.norm_out = nn.GroupNorm(num_groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], latent_channels, 3, padding=1)

    def forward(self, images: torch.Tensor, feature_sizes: Container[int]) -> tuple[torch.Tensor, Features]:
        x = self.conv_in(F.pixel_unshuffle(images, self.patch_size))
        features: Features = {}
        for i, level in enumerate(self.levels):
            for resnet, attention in zip(level.resnets, level.attentions, strict=True):
                if torch.is_grad_enabled() and self.gradient_checkpointing:
                    x = self._gradient_checkpointing_func(resnet, x)
                else:
                    x = resnet(x)
                if x.shape[-1] in feature_sizes:
                    features[x.shape[-1]] = x  # every block of the level replaces the features of the one before
                x = attention(x)
            if i < len(self.downsamples):
                x = self.downsamples[i](x)
        return self.conv_out(self.norm_out(self.middle(x))), features


class Decoder(nn.Module):
    """Quantized latents `(b, latent_channels, grid, grid)` -> images `(b, 3, h, w)` and features at requested sizes.

    `guide` is called once per size, after the FIRST residual block of the size, at the coarsest size after the last
    one.  It takes features `(b, c, size, size)` and returns those that the decoder continues with.  These are also
    the features that are returned.

    Args:
        patch_size, block_out_channels, layers_per_block, latent_channels, num_groups: See [`Encoder`]; the widths are
            in the same order.
    """

    _gradient_checkpointing_func: Callable[..., torch.Tensor]  # set by `enable_gradient_checkpointing`

    def __init__(
        self,
        patch_size: int,
        block_out_channels: list[int],
        layers_per_block: int,
        latent_channels: int,
        num_groups: int,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.patch_size = patch_size
        widths = [block_out_channels[-1], *reversed(block_out_channels)]  # from the coarsest to the finest
        self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.middle = MiddleBlock(widths[0], num_groups)
        self.levels = nn.ModuleList(
            Level(widths[i], widths[i + 1], layers_per_block, num_groups, attention=i == 0)
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
        x = self.middle(self.conv_in(quantized))
        features: Features = {}
        for i, level in enumerate(self.levels):
            guided_layer = len(level.resnets) - 1 if i == 0 else 0
            for j, (resnet, attention) in enumerate(zip(level.resnets, level.attentions, strict=True)):
                if torch.is_grad_enabled() and self.gradient_checkpointing:
                    x = self._gradient_checkpointing_func(resnet, x)
                else:
                    x = resnet(x)
                if j == guided_layer:
                    x = guide(x)
                    if x.shape[-1] in feature_sizes:
                        features[x.shape[-1]] = x
                x = attention(x)
            if i < len(self.upsamples):
                x = self.upsamples[i](x)
        return F.pixel_shuffle(self.conv_out(self.norm_out(x)), self.patch_size), features
