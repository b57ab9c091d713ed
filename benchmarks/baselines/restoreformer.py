"""RestoreFormer (arXiv 2201.06374): a VQ autoencoder whose decoder attends to the degraded face.

    face ──> encoder ──> latents ──> nearest codes ──> decoder ──> restored face
                └── features of the coarsest level: the queries of the decoder's attention ──┘

Published files are last.ckpt, linked by the README of https://github.com/wzhouxiff/RestoreFormer, and
RestoreFormer.pth in release v1.3.4 of https://github.com/TencentARC/GFPGAN.  The code is licensed under Apache-2.0;
there are no separate terms for the weights.  RestoreFormer++ is another network.

The residual blocks and the changes of size are those of KEEP.  Parameters have the names of the published files.

Legend: b images, c channels, h w pixels.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from keep_hf.models.layers import Downsample, ResidualBlock, Upsample, attend, swish

from .frames import restore_each
from .loading import Checkpoint


RENAMED = {
    r"\.nin_shortcut\.": ".shortcut.",
    r"\.(down|up)sample\.": ".resize.",
    r"^quantize\.embedding\.": "codebook.",
}
NUM_GROUPS = 32  # of all group norms


class Attention(nn.Module):
    """Multi-head attention of a feature map to itself, or of a guide to the feature map; added to the feature map.

    Args:
        channels (`int`): Width.
        num_heads (`int`): Number of heads.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.GroupNorm(NUM_GROUPS, channels, eps=1e-6)
        self.norm2 = nn.GroupNorm(NUM_GROUPS, channels, eps=1e-6)  # of the guide
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor, guide: torch.Tensor | None = None) -> torch.Tensor:
        """Feature map and guide `(b, c, h, w)`; the guide gives the queries."""
        h = self.norm1(x)
        maps = (self.q(h if guide is None else self.norm2(guide)), self.k(h), self.v(h))
        query, key, value = (m.flatten(2).transpose(1, 2).unflatten(2, (self.num_heads, -1)) for m in maps)
        attended = attend(query, key, value).flatten(2).transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.proj_out(attended)


class Level(nn.Module):
    """The layers of one size: residual blocks, attention after each of them, and a change of size.

    Args:
        in_channels, channels (`int`): Width of the input, and of the level.
        num_blocks (`int`): Residual blocks.
        num_heads (`int`): Heads of the attention; 0 for none.
        resize (`nn.Module`): The last layer.
    """

    def __init__(self, in_channels: int, channels: int, num_blocks: int, num_heads: int, resize: nn.Module) -> None:
        super().__init__()
        widths = [in_channels, *[channels] * num_blocks]
        self.block = nn.ModuleList(ResidualBlock(before, after, NUM_GROUPS) for before, after in pairwise(widths))
        self.attn = nn.ModuleList(Attention(channels, num_heads) for _ in range(num_blocks if num_heads else 0))
        self.resize = resize

    def forward(self, x: torch.Tensor, guide: torch.Tensor | None = None) -> torch.Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x, guide)
        return self.resize(x)


class Middle(nn.Module):
    """Residual block, attention, residual block, all at the coarsest size; returns the outputs of both blocks."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, NUM_GROUPS)
        self.attn_1 = Attention(channels, num_heads)
        self.block_2 = ResidualBlock(channels, channels, NUM_GROUPS)

    def forward(self, x: torch.Tensor, guide: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        first = self.block_1(x)
        return first, self.block_2(self.attn_1(first, guide))


class Encoder(nn.Module):
    """Faces `(b, 3, h, w)` -> latents of the coarsest size, and the outputs of both middle blocks.

    Args:
        widths (`Sequence[int]`): Channels of the levels, from the finest to the coarsest.
        num_blocks (`int`): Residual blocks per level.
        num_heads (`int`): Heads of the attention.
        latent_channels (`int`): Width of the latents.
    """

    def __init__(self, widths: Sequence[int], num_blocks: int, num_heads: int, latent_channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        coarsest = Level(widths[-2], widths[-1], num_blocks, num_heads, nn.Identity())
        finer = [
            Level(before, width, num_blocks, 0, Downsample(width))
            for before, width in zip([widths[0], *widths], widths[:-1], strict=False)
        ]
        self.down = nn.ModuleList([*finer, coarsest])
        self.mid = Middle(widths[-1], num_heads)
        self.norm_out = nn.GroupNorm(NUM_GROUPS, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], latent_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        first, second = self.mid(x)
        return self.conv_out(swish(self.norm_out(second))), first, second


class Decoder(nn.Module):
    """Quantized latents, and what the middle blocks of the encoder returned -> faces `(b, 3, h, w)`.

    The arguments are those of [`Encoder`]; a level has one residual block more.
    """

    def __init__(self, widths: Sequence[int], num_blocks: int, num_heads: int, latent_channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(latent_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], num_heads)
        finest = Level(widths[1], widths[0], num_blocks + 1, 0, nn.Identity())
        between = [Level(before, width, num_blocks + 1, 0, Upsample(width)) for width, before in pairwise(widths[1:])]
        coarsest = Level(widths[-1], widths[-1], num_blocks + 1, num_heads, Upsample(widths[-1]))
        self.up = nn.ModuleList([finest, *between, coarsest])
        self.norm_out = nn.GroupNorm(NUM_GROUPS, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, quantized: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        _, x = self.mid(self.conv_in(quantized), guide=second)
        for level in reversed(self.up):
            x = level(x, guide=first)  # only the coarsest level has attention
        return self.conv_out(swish(self.norm_out(x)))


class RestoreFormer(nn.Module):
    """Degraded faces `(b, 3, h, w)`, RGB in [-1, 1] -> restored faces of the same shape, not clamped.

    Args:
        widths (`Sequence[int]`): Channels of the levels, from the finest to the coarsest; at least three.
        num_blocks (`int`): Residual blocks per level of the encoder.
        num_heads (`int`): Heads of the attention.
        latent_channels (`int`): Width of the latents.
        num_codes, code_channels (`int`): Size of the codebook.
        size (`int`): Side of the faces that `restore` returns.
    """

    def __init__(
        self,
        widths: Sequence[int],
        num_blocks: int,
        num_heads: int,
        latent_channels: int,
        num_codes: int,
        code_channels: int,
        size: int,
    ) -> None:
        super().__init__()
        self.size = size
        self.encoder = Encoder(widths, num_blocks, num_heads, latent_channels)
        self.quant_conv = nn.Conv2d(latent_channels, code_channels, 1)
        self.codebook = nn.Embedding(num_codes, code_channels)
        self.post_quant_conv = nn.Conv2d(code_channels, latent_channels, 1)
        self.decoder = Decoder(widths, num_blocks, num_heads, latent_channels)

    @classmethod
    def from_checkpoint(cls, path: str | Path, num_heads: int = 8, size: int = 512) -> "RestoreFormer":
        """Load a published file.

        Args:
            path (`str` or `Path`): The file.
            num_heads, size (`int`, *optional*): What the weights do not show; the published values by default.

        Raises:
            ValueError: If the file is missing, damaged, or of another network.
        """
        checkpoint = Checkpoint.read(path, "RestoreFormer", prefix="vqvae.").rename(RENAMED)
        num_levels = checkpoint.count("encoder.down")
        network = cls(
            widths=[checkpoint.shape(f"encoder.down.{i}.block.0.conv1.weight")[0] for i in range(num_levels)],
            num_blocks=checkpoint.count("encoder.down.0.block"),
            num_heads=num_heads,
            latent_channels=checkpoint.shape("encoder.conv_out.weight")[0],
            num_codes=checkpoint.shape("codebook.weight")[0],
            code_channels=checkpoint.shape("codebook.weight")[1],
            size=size,
        )
        return checkpoint.load_into(network)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        latents, first, second = self.encoder(images)
        codes = self.nearest_codes(self.quant_conv(latents))
        quantized = self.codebook(codes).permute(0, 3, 1, 2)
        return self.decoder(self.post_quant_conv(quantized), first, second)

    def nearest_codes(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents `(b, c, h, w)` -> codes `(b, h, w)` of the smallest distance |z - e|^2 = |z|^2 + |e|^2 - 2 z e."""
        codebook = self.codebook.weight
        return (codebook.square().sum(1) - 2 * latents.permute(0, 2, 3, 1) @ codebook.T).argmin(-1)

    def restore(self, frames: np.ndarray) -> np.ndarray:
        """Restore aligned faces frame by frame, see [`Baseline`]."""
        return restore_each(self, frames, self.size)
