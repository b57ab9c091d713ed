"""GMFlow, optical flow as global matching (Xu et al., CVPR 2022), at the one scale that KEEP uses; and `warp`.

    images -> backbone, 1/8 size -> transformer over both images -> match every position with every other
           -> carry the flow into unmatched regions -> convex upsampling

Flows are in pixels, channel 0 along x (to the right), channel 1 along y (down), and always float32.

Differences from the published code: a clip's frames go through the backbone once, not twice; the four windows of an
attention layer are laid out as attention heads, which needs no copies of the mask; matching, propagation and
upsampling stay in float32 when the weights are half precision.

Letters: b pairs, c channels, h w rows and columns of the 1/8 grid (of the image at the doors), n = h * w positions.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from torch.nn import functional as F

from .layers import Linear, attend


REDUCTION = 8  # image pixels per position of the matching grid, along one axis
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


# What depends on sizes alone is made once for each.
once_per_size = lru_cache(maxsize=8)


def warp(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """
    Sample an image where a flow points: `out(p) = image(p + flow(p))`, bilinear, zero outside.

    Args:
        image (`torch.Tensor` of shape `(b, c, h, w)`): In [-1, 1] the zeros from outside are mid grey.
        flow (`torch.Tensor` of shape `(b, 2, h, w)`): Displacement in pixels, x first.

    Returns:
        `torch.Tensor` of shape `(b, c, h, w)` in the dtype of `image`.

    Raises:
        `ValueError`: if the two shapes do not belong together.
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


@once_per_size
@torch.inference_mode(False)
def pixel_grid(height: int, width: int, device: torch.device) -> torch.Tensor:
    """The coordinates of every position, float32, shape (1, 2, height, width), x first."""
    rows = torch.arange(height, device=device, dtype=torch.float32)
    columns = torch.arange(width, device=device, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y))[None]


class ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.conv_shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        residual = F.relu(F.instance_norm(self.conv1(hidden)), inplace=True)
        residual = F.relu(F.instance_norm(self.conv2(residual)), inplace=True)
        if self.conv_shortcut is not None:
            hidden = F.instance_norm(self.conv_shortcut(hidden))
        return F.relu(hidden + residual, inplace=True)


class BackboneLevel(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.blocks = nn.Sequential(
            ResidualBlock(in_channels, out_channels, stride), ResidualBlock(out_channels, out_channels, 1)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.blocks(hidden)


class Backbone(nn.Module):
    """Images (b, 3, H, W), normalised like ImageNet -> features (b, c, H/8, W/8)."""

    _gradient_checkpointing_func: Callable  # set by enable_gradient_checkpointing

    def __init__(self, level_channels: tuple[int, ...], feature_channels: int):
        super().__init__()
        self.conv_in = nn.Conv2d(3, level_channels[0], 7, stride=2, padding=3, bias=False)
        in_channels = (level_channels[0], *level_channels[:-1])
        self.levels = nn.ModuleList(map(BackboneLevel, in_channels, level_channels, (1, 2, 2)))
        self.conv_out = nn.Conv2d(level_channels[-1], feature_channels, 1)
        self.gradient_checkpointing = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(F.instance_norm(self.conv_in(images)), inplace=True)
        for level in self.levels:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden = self._gradient_checkpointing_func(level, hidden)
            else:
                hidden = level(hidden)
        return self.conv_out(hidden)


class WindowAttention(nn.Module):
    """One head of attention inside each of 2 x 2 windows; the windows stand where other networks have heads."""

    def __init__(self, channels: int):
        super().__init__()
        self.to_q = Linear(channels, channels, bias=False)
        self.to_k = Linear(channels, channels, bias=False)
        self.to_v = Linear(channels, channels, bias=False)
        self.to_out = Linear(channels, channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, source: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        height, width = source.shape[1:3]
        projected = [self.to_q(source), self.to_k(target), self.to_v(target)]
        if mask is not None:
            # It comes with windows that are moved by half their size; the grid wraps around, the mask undoes that.
            projected = [torch.roll(tokens, (-(height // 4), -(width // 4)), dims=(1, 2)) for tokens in projected]
        query, key, value = map(self.split_windows, projected)
        message = attend(query, key, value, mask)
        message = message.unflatten(2, (2, 2)).unflatten(1, (height // 2, width // 2))
        message = message.permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
        if mask is not None:
            message = torch.roll(message, (height // 4, width // 4), dims=(1, 2))
        return self.norm(self.to_out(message))

    @staticmethod
    def split_windows(tokens: torch.Tensor) -> torch.Tensor:
        """(b, h, w, c) -> (b, n / 4, 4, c)"""
        windows = tokens.unflatten(2, (2, -1)).unflatten(1, (2, -1))
        return windows.permute(0, 2, 4, 1, 3, 5).flatten(3, 4).flatten(1, 2)


class FeedForward(nn.Module):
    def __init__(self, channels: int, expansion: int):
        super().__init__()
        self.linear_in = Linear(2 * channels, 2 * channels * expansion, bias=False)
        self.linear_out = Linear(2 * channels * expansion, channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, source: torch.Tensor, message: torch.Tensor) -> torch.Tensor:
        hidden = F.gelu(self.linear_in(torch.cat((source, message), dim=-1)))
        return self.norm(self.linear_out(hidden))


class TransformerLayer(nn.Module):
    def __init__(self, channels: int, expansion: int):
        super().__init__()
        self.self_attention = WindowAttention(channels)
        self.cross_attention = WindowAttention(channels)
        self.feed_forward = FeedForward(channels, expansion)

    def forward(self, source: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        source = source + self.self_attention(source, source, mask)
        return source + self.feed_forward(source, self.cross_attention(source, target, mask))


class Transformer(nn.Module):
    """Lets the features of two images see each other: (b, c, h, w) twice -> (b, c, h, w) twice."""

    _gradient_checkpointing_func: Callable  # set by enable_gradient_checkpointing

    def __init__(self, channels: int, num_layers: int, expansion: int):
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(channels, expansion) for _ in range(num_layers))
        self.gradient_checkpointing = False

    def forward(self, features1: torch.Tensor, features2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, channels, height, width = features1.shape
        position = sine_position(height // 2, width // 2, channels, features1.device)
        position = position.repeat(2, 2, 1).to(features1.dtype)
        shifted_mask = shifted_window_mask(height, width, features1.device)

        # Both directions in one batch: image 1 looks at image 2, and image 2 at image 1.  The channels of a position
        # must lie side by side, or every layer would gather them anew.
        source = torch.cat((features1, features2)).permute(0, 2, 3, 1).contiguous() + position
        for index, layer in enumerate(self.layers):
            target = torch.cat(source.chunk(2)[::-1])
            mask = shifted_mask if index % 2 == 1 else None
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                source = self._gradient_checkpointing_func(layer, source, target, mask)
            else:
                source = layer(source, target, mask)
        features1, features2 = source.permute(0, 3, 1, 2).chunk(2)
        return features1, features2


@once_per_size
@torch.inference_mode(False)
def sine_position(height: int, width: int, channels: int, device: torch.device) -> torch.Tensor:
    """Sine position code of one window, (height, width, channels): the first half of the channels is y, then x."""
    pairs = torch.arange(channels // 4, device=device, dtype=torch.float32)
    frequency = 10000.0 ** (-4 * pairs / channels)

    def encode(length: int) -> torch.Tensor:
        place = torch.arange(1, length + 1, device=device, dtype=torch.float32) / (length + 1e-6) * 2 * math.pi
        angle = place[:, None] * frequency
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)

    y = encode(height)[:, None].expand(-1, width, -1)
    x = encode(width)[None].expand(height, -1, -1)
    return torch.cat((y, x), dim=-1)


@once_per_size
@torch.inference_mode(False)
def shifted_window_mask(height: int, width: int, device: torch.device) -> torch.Tensor:
    """(1, 4, n / 4, n / 4), True where two positions of a shifted window are neighbours without wrapping around."""

    def wrapped(length: int) -> torch.Tensor:
        return torch.arange(length, device=device) >= length - length // 4

    region = 2 * wrapped(height)[:, None] + wrapped(width)[None].long()
    region = WindowAttention.split_windows(region[None, :, :, None])[0, :, :, 0].T
    return (region[:, :, None] == region[:, None, :])[None]


class Propagation(nn.Module):
    """Attention over one image's features carries the flow to where matching found nothing."""

    def __init__(self, channels: int):
        super().__init__()
        self.to_q = Linear(channels, channels)
        self.to_k = Linear(channels, channels)

    def forward(self, flow: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        query = self.to_q(features.permute(0, 2, 3, 1))
        # The published network projects its queries once more to get its keys, and its weights rely on that.
        return attend_everywhere(query.permute(0, 3, 1, 2), self.to_k(query).permute(0, 3, 1, 2), flow)


def attend_everywhere(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(query . key / sqrt(c)) value over all positions; all (b, channels, h, w), computed in float32."""
    channels, (height, width) = value.shape[1], query.shape[2:]
    query, key, value = (maps.float().flatten(2).transpose(1, 2)[:, :, None] for maps in (query, key, value))
    # Attention that never holds the n x n scores wants values as wide as the keys.
    value = F.pad(value, (0, key.shape[-1] - channels))
    with torch.autocast(query.device.type, enabled=False):
        attended = dispatch_attention_fn(query, key, value)
    return attended[:, :, 0, :channels].transpose(1, 2).unflatten(2, (height, width))


def match(features1: torch.Tensor, features2: torch.Tensor) -> torch.Tensor:
    """The flow of the 1/8 grid in its own pixels: expected position of the match minus own position."""
    height, width = features1.shape[2:]
    grid = pixel_grid(height, width, features1.device)
    return attend_everywhere(features1, features2, grid.expand(len(features1), -1, -1, -1)) - grid


class ConvexUpsampler(nn.Module):
    """Every fine pixel is a convex combination of the 3 x 3 coarse flows around it, with learned weights."""

    def __init__(self, feature_channels: int, hidden_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(2 + feature_channels, hidden_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden_channels, 9 * REDUCTION**2, 1)

    def forward(self, flow: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        height, width = flow.shape[2:]
        weights = self.conv2(F.relu(self.conv1(torch.cat((flow.to(features.dtype), features), dim=1))))
        weights = weights.float().unflatten(1, (9, REDUCTION**2)).softmax(dim=1)
        neighbours = F.unfold(REDUCTION * flow, 3, padding=1).unflatten(2, (height, width)).unflatten(1, (2, 9))
        # Neighbour by neighbour: one product of both would be thousands of tiny matrices.
        fine = flow.new_zeros(len(flow), 2, REDUCTION**2, height, width)
        for neighbour in range(9):
            fine = fine.addcmul(weights[:, None, neighbour], neighbours[:, :, neighbour, None])
        return F.pixel_shuffle(fine.flatten(1, 2), REDUCTION)


class GMFlow(ModelMixin, ConfigMixin):
    """
    Optical flow between two images by global matching of transformer features.

    Args:
        backbone_channels (`tuple[int, ...]`): Channels at 1/2, 1/4 and 1/8 of the image size.
        feature_channels (`int`): Channels of the features that are matched, divisible by 4.
        num_layers (`int`): Transformer layers; every second one works on shifted windows.
        feedforward_expansion (`int`): Hidden width of the feed-forward part over its input width.
        upsampler_channels (`int`): Hidden width of the convex upsampler.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar = ["ResidualBlock", "TransformerLayer"]
    _repeated_blocks: ClassVar = ["TransformerLayer"]

    @register_to_config
    def __init__(
        self,
        backbone_channels: tuple[int, ...] = (64, 96, 128),
        feature_channels: int = 128,
        num_layers: int = 6,
        feedforward_expansion: int = 4,
        upsampler_channels: int = 256,
    ):
        super().__init__()
        if len(backbone_channels) != 3:
            raise ValueError(f"`backbone_channels` must be three numbers, not {backbone_channels}.")
        if feature_channels % 4 != 0:
            raise ValueError(f"`feature_channels` must be divisible by 4, which {feature_channels} is not.")
        self.backbone = Backbone(tuple(backbone_channels), feature_channels)
        self.transformer = Transformer(feature_channels, num_layers, feedforward_expansion)
        self.propagation = Propagation(feature_channels)
        self.upsampler = ConvexUpsampler(feature_channels, upsampler_channels)

    def forward(self, image1: torch.Tensor, image2: torch.Tensor) -> torch.Tensor:
        """
        Find where every pixel of one image lies in another.

        Args:
            image1 (`torch.Tensor` of shape `(b, 3, h, w)`): RGB in [-1, 1], sides divisible by 16.
            image2 (`torch.Tensor` of shape `(b, 3, h, w)`): The image to search in.

        Returns:
            `torch.Tensor` of shape `(b, 2, h, w)`, float32: `warp(image2, flow)` resembles `image1`.

        Raises:
            `ValueError`: if the shapes differ, or a side is not divisible by 16.
        """
        if image1.shape != image2.shape:
            raise ValueError(f"The images differ in shape: {tuple(image1.shape)} and {tuple(image2.shape)}.")
        features1, features2 = self.encode(torch.cat((image1, image2))).chunk(2)
        return self.flow_between_features(features1, features2)

    @apply_forward_hook
    def flow_between_frames(self, frames: torch.Tensor, batch_size: int = 4) -> torch.Tensor:
        """
        Find the flow from every frame of a clip, except the first, back to the frame before it.

        Args:
            frames (`torch.Tensor` of shape `(b, t, 3, h, w)`): RGB in [-1, 1], sides divisible by 16.
            batch_size (`int`): Frames, then pairs of frames, that are worked on at a time; bounds the memory.

        Returns:
            `torch.Tensor` of shape `(b, t - 1, 2, h, w)`, float32: entry `k` is the flow from frame `k + 1` to `k`.

        Raises:
            `ValueError`: if the shape is not that of a clip, or a side is not divisible by 16.
        """
        if frames.ndim != 5 or frames.shape[1] == 0:
            raise ValueError(f"`frames` must have the shape (b, t, 3, h, w) with t > 0, not {tuple(frames.shape)}.")
        clips, length, _, height, width = frames.shape
        if length == 1:
            return frames.new_zeros((clips, 0, 2, height, width), dtype=torch.float32)
        features = torch.cat([self.encode(batch) for batch in frames.flatten(0, 1).split(batch_size)])
        features = features.unflatten(0, (clips, length))
        now, before = features[:, 1:].flatten(0, 1), features[:, :-1].flatten(0, 1)
        pairs = zip(now.split(batch_size), before.split(batch_size), strict=True)
        flows = [self.flow_between_features(*pair) for pair in pairs]
        return torch.cat(flows).unflatten(0, (clips, length - 1))

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"Images must have the shape (b, 3, h, w), not {tuple(images.shape)}.")
        height, width = images.shape[2:]
        if height % 16 != 0 or width % 16 != 0:
            raise ValueError(f"Sides must be divisible by 16, which {height} x {width} are not: resize or pad first.")
        mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return self.backbone((((images + 1) / 2 - mean) / std).to(self.dtype))

    def flow_between_features(self, features1: torch.Tensor, features2: torch.Tensor) -> torch.Tensor:
        features1, features2 = self.transformer(features1, features2)
        flow = self.propagation(match(features1, features2), features1)
        return self.upsampler(flow, features1)
