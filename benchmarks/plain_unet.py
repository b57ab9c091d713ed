"""A plain U-Net of about the size of keep-tiny, to compare with: without codebook, Kalman filter and recursion.

It takes one degraded frame, enlarged to the size of the output, and adds a correction.  train_plain_unet.py trains it.

Legend: b images, c channels, h w pixels.
"""

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from keep_hf.models.layers import Downsample, ResidualBlock, Upsample


class PlainUNet(ModelMixin, ConfigMixin):
    """Degraded faces `(b, 3, h, w)` in [-1, 1] -> restored faces of the same shape.

    Args:
        sample_size (`int`, *optional*, defaults to 256): Side of the faces in pixels.
        patch_size (`int`, *optional*, defaults to 4): Side of the squares of pixels that become channels.
        block_out_channels (`tuple[int]`): Widths of the levels, from the finest to the coarsest.
        norm_num_groups (`int`, *optional*, defaults to 16): Groups of the group norms.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 256,
        patch_size: int = 4,
        block_out_channels: tuple[int, ...] = (48, 128, 288),
        norm_num_groups: int = 16,
    ) -> None:
        super().__init__()
        widths, groups = list(block_out_channels), norm_num_groups
        self.conv_in = nn.Conv2d(3 * patch_size**2, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.Sequential(ResidualBlock(before, width, groups), ResidualBlock(width, width, groups))
            for before, width in zip([widths[0], *widths], widths, strict=False)
        )
        self.downsamples = nn.ModuleList(Downsample(width) for width in widths[:-1])
        self.middle = nn.Sequential(*(ResidualBlock(widths[-1], widths[-1], groups) for _ in range(2)))
        self.upsamples = nn.ModuleList(Upsample(width) for width in reversed(widths[1:]))
        self.decoder = nn.ModuleList(
            nn.Sequential(ResidualBlock(coarser + width, width, groups), ResidualBlock(width, width, groups))
            for coarser, width in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True)
        )
        self.norm_out = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3 * patch_size**2, 3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(F.pixel_unshuffle(images, self.config.patch_size))
        skips = []
        for i, level in enumerate(self.encoder):
            x = level(x)
            if i < len(self.downsamples):
                skips.append(x)
                x = self.downsamples[i](x)
        x = self.middle(x)
        for upsample, level in zip(self.upsamples, self.decoder, strict=True):
            x = level(torch.cat([upsample(x), skips.pop()], dim=1))
        correction = self.conv_out(F.silu(self.norm_out(x)))
        return images + F.pixel_shuffle(correction, self.config.patch_size)
