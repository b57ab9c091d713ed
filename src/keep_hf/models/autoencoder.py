"""Encoder and decoder of faces, and the blocks by which features guide the decoder (KEEP, arXiv 2408.05205).

Legend: b images, c channels, h w pixels.  A "size" is the side of a square feature map.
"""

from collections.abc import Container

import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from torch import nn

from .layers import Attention, Downsample, ResidualBlock, SpatialAttentionBlock, Upsample, swish


Features = dict[str, torch.Tensor]  # size of a feature map, as text -> (b, c, size, size)


class MiddleBlock(nn.Module):
    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.resnet1 = ResidualBlock(channels, channels, num_groups)
        self.attention = SpatialAttentionBlock(channels, num_groups)
        self.resnet2 = ResidualBlock(channels, channels, num_groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resnet2(self.attention(self.resnet1(x)))


class Level(nn.Module):
    """The layers that work at one size: residual blocks, each followed by attention at the coarsest size only."""

    def __init__(self, in_channels: int, channels: int, num_resnets: int, num_groups: int, attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResidualBlock(in_channels if i == 0 else channels, channels, num_groups) for i in range(num_resnets)
        )
        self.attentions = nn.ModuleList(
            SpatialAttentionBlock(channels, num_groups) if attention else nn.Identity() for _ in range(num_resnets)
        )


class Encoder(nn.Module):
    """Image (b, 3, h, w) -> latents (b, latent_channels, grid, grid) and the features at the sizes asked for.

    The features of a size are taken after its last residual block, before the attention that may follow.
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

    def forward(self, images: torch.Tensor, feature_sizes: Container[str]) -> tuple[torch.Tensor, Features]:
        x = self.conv_in(F.pixel_unshuffle(images, self.patch_size))
        features: Features = {}
        for i, level in enumerate(self.levels):
            for resnet, attention in zip(level.resnets, level.attentions, strict=True):
                if torch.is_grad_enabled() and self.gradient_checkpointing:
                    x = self._gradient_checkpointing_func(resnet, x)
                else:
                    x = resnet(x)
                if str(x.shape[-1]) in feature_sizes:
                    features[str(x.shape[-1])] = x  # the last block of the size stays
                x = attention(x)
            if i < len(self.downsamples):
                x = self.downsamples[i](x)
        return self.conv_out(self.norm_out(self.middle(x))), features


class FeatureUpdate(nn.Module):
    """The update of the Kalman filter for the features of the crop: what was predicted corrects what is observed.

    f = f_obs + correction(f_obs, f_pred)

    The two encoders speak of a face in languages of their own, and detail that a flow has moved is right in one place
    and a pixel off in the next: so it is a small network that weighs them at every position, and no single gain.  Not
    in the paper, whose filter works on the latents alone.
    """

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.compare = ResidualBlock(2 * channels, channels, num_groups)
        self.refine = ResidualBlock(channels, channels, num_groups)
        self.correction = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def forward(self, observed: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
        e = self.refine(self.compare(torch.cat([observed, predicted], dim=1)))
        return observed + self.correction(swish(e))


class FeatureFusion(nn.Module):
    """Spatial feature transform (SFT): the features of the crop scale and shift those of the decoder.

    out = decoded + fidelity * (decoded * scale(e) + shift(e)),    e = refine(encode([crop, decoded]))

    `refine` is all but the first of `num_layers` residual blocks, and nothing as published.
    """

    def __init__(self, channels: int, num_groups: int, num_layers: int = 1) -> None:
        super().__init__()
        self.encode = ResidualBlock(2 * channels, channels, num_groups)
        self.refine = nn.Sequential(*(ResidualBlock(channels, channels, num_groups) for _ in range(num_layers - 1)))
        self.scale_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale_out = nn.Conv2d(channels, channels, 3, padding=1)
        self.shift_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.shift_out = nn.Conv2d(channels, channels, 3, padding=1)
        # What is refined begins as it was, so that a trained block can be made deeper.
        for last in (self.scale_out, self.shift_out, *(block.conv2 for block in self.refine)):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, crop_features: torch.Tensor, decoded: torch.Tensor, fidelity: torch.Tensor) -> torch.Tensor:
        e = self.refine(self.encode(torch.cat([crop_features, decoded], dim=1)))
        scale = self.scale_out(F.leaky_relu(self.scale_in(e), 0.2))
        shift = self.shift_out(F.leaky_relu(self.shift_in(e), 0.2))
        return decoded + fidelity * (decoded * scale + shift)


class CrossFrameAttention(nn.Module):
    """Attention of the frame (queries) to this layer's output for the previous frame (keys, values).

    The norms stand on the branches: x = x + norm1(attention(x, previous)); x = x + norm2(feedforward(x)).
    """

    def __init__(self, channels: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.attention = Attention(channels, num_heads, head_dim, bias=False)
        self.norm1 = nn.LayerNorm(channels)
        self.feedforward = FeedForward(channels, activation_fn="geglu")
        self.norm2 = nn.LayerNorm(channels)
        # With zero gains both branches start silent, and the gains receive gradients from the first step on.
        nn.init.zeros_(self.norm1.weight)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        context = previous.flatten(2).transpose(1, 2)
        tokens = tokens + self.norm1(self.attention(tokens, context, context))
        tokens = tokens + self.norm2(self.feedforward(tokens))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class Decoder(nn.Module):
    """Quantized latents (b, latent_channels, grid, grid) -> image (b, 3, h, w), guided by the two kinds of features.

    At every size where there are fusion blocks they stand after the FIRST residual block of the size, at the coarsest
    size after the last.
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
        feature_fusion: nn.ModuleDict,
        crop_features: Features | None,
        fidelity: torch.Tensor | None,
        cross_frame: nn.ModuleDict,
        previous_features: Features | None,
    ) -> tuple[torch.Tensor, Features]:
        x = self.middle(self.conv_in(quantized))
        features: Features = {}  # what the next frame attends to
        for i, level in enumerate(self.levels):
            fusion_point = len(level.resnets) - 1 if i == 0 else 0
            for j, (resnet, attention) in enumerate(zip(level.resnets, level.attentions, strict=True)):
                if torch.is_grad_enabled() and self.gradient_checkpointing:
                    x = self._gradient_checkpointing_func(resnet, x)
                else:
                    x = resnet(x)
                if j == fusion_point:
                    size = str(x.shape[-1])
                    if size in feature_fusion and crop_features is not None:
                        x = feature_fusion[size](crop_features[size], x, fidelity)
                    if size in cross_frame:
                        if previous_features is not None:
                            x = cross_frame[size](x, previous_features[size])
                        features[size] = x
                x = attention(x)
            if i < len(self.upsamples):
                x = self.upsamples[i](x)
        return F.pixel_shuffle(self.conv_out(self.norm_out(x)), self.patch_size), features
