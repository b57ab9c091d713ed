"""GMFlow, optical flow as global matching (Xu et al., CVPR 2022), at the single scale that KEEP uses.

    images -> backbone, 1/8 size -> transformer over both images -> match every position with every other
           -> carry the flow into unmatched regions -> convex upsampling

In KEEP it estimates the flow from a degraded frame to the one before it (arXiv 2408.05205, section 3.2, eq. 12).

Flows are in pixels, channel 0 along x (to the right), channel 1 along y (down), and always float32.

Differences from the published code: the backbone processes every frame of a clip once, not twice; the four windows of
an attention layer take the place of attention heads; matching, propagation and upsampling stay in float32 when the
weights are half precision.

Legend: b pairs, c channels, h w rows and columns of the grid at 1/8 of the image size (in the public methods: of the
image), n = h * w positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.utils import BaseOutput
from torch import nn
from torch.nn import functional as F

from ...built_in import BuiltInWeights
from ...offloading import entry_point
from ..layers import Linear
from .transformer import Transformer
from .warp import pixel_grid


REDUCTION = 8  # image pixels per position of the matching grid, along one axis
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ResidualBlock(nn.Module):
    """Twice convolution, instance norm and ReLU, added to the input, which a 1 x 1 convolution projects if needed."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.conv_shortcut: nn.Conv2d | None = None
        if stride != 1 or in_channels != out_channels:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        residual = F.relu(F.instance_norm(self.conv1(hidden)), inplace=True)
        residual = F.relu(F.instance_norm(self.conv2(residual)), inplace=True)
        if self.conv_shortcut is not None:
            hidden = F.instance_norm(self.conv_shortcut(hidden))
        return F.relu(hidden + residual, inplace=True)


class BackboneLevel(nn.Module):
    """Two residual blocks; the first has the stride."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            ResidualBlock(in_channels, out_channels, stride), ResidualBlock(out_channels, out_channels, 1)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.blocks(hidden)


class Backbone(nn.Module):
    """Images `(b, 3, height, width)`, normalized like ImageNet -> features `(b, c, height / 8, width / 8)`.

    Args:
        level_channels (`tuple[int, ...]`): Channels at 1/2, 1/4 and 1/8 of the image size.
        feature_channels (`int`): Channels of the features.
    """

    _gradient_checkpointing_func: Callable[..., torch.Tensor]  # set by `enable_gradient_checkpointing`

    def __init__(self, level_channels: tuple[int, ...], feature_channels: int) -> None:
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


class Propagation(nn.Module):
    """Attention over the features of image 1 carries the flow into regions without a match."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q = Linear(channels, channels)
        self.to_k = Linear(channels, channels)

    def forward(self, flow: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Flow `(b, 2, h, w)` and features `(b, c, h, w)` -> flow `(b, 2, h, w)`."""
        query = self.to_q(features.permute(0, 2, 3, 1))
        # The published network projects its queries, not the features, to get its keys, and its weights rely on that.
        return attend_everywhere(query.permute(0, 3, 1, 2), self.to_k(query).permute(0, 3, 1, 2), flow)


def attend_everywhere(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(query . key / sqrt(c)) value over all positions; all `(b, channels, h, w)`, computed in float32."""
    channels, (height, width) = value.shape[1], query.shape[2:]
    query, key, value = (maps.float().flatten(2).transpose(1, 2)[:, :, None] for maps in (query, key, value))
    # Kernels that do not store the n x n scores need values as wide as the keys.
    value = F.pad(value, (0, key.shape[-1] - channels))
    with torch.autocast(query.device.type, enabled=False):
        attended = dispatch_attention_fn(query, key, value)
    return attended[:, :, 0, :channels].transpose(1, 2).unflatten(2, (height, width))


def match(features1: torch.Tensor, features2: torch.Tensor) -> torch.Tensor:
    """Match features `(b, c, h, w)` of two images.

    Returns:
        `torch.Tensor` of shape `(b, 2, h, w)`, float32: the flow in positions of this grid, which is the expected
        position of the match minus the own position.
    """
    height, width = features1.shape[2:]
    grid = pixel_grid(height, width, features1.device)
    return attend_everywhere(features1, features2, grid.expand(len(features1), -1, -1, -1)) - grid


class ConvexUpsampler(nn.Module):
    """Upsampling by 8: a fine flow is a convex combination of the 3 x 3 coarse flows around it, with learned weights.

    Args:
        feature_channels, hidden_channels (`int`): Widths of the features and of the hidden layer.
    """

    def __init__(self, feature_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2 + feature_channels, hidden_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden_channels, 9 * REDUCTION**2, 1)

    def forward(self, flow: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Flow `(b, 2, h, w)` and features `(b, c, h, w)` -> flow `(b, 2, 8 * h, 8 * w)` in pixels of the image."""
        height, width = flow.shape[2:]
        weights = self.conv2(F.relu(self.conv1(torch.cat((flow.to(features.dtype), features), dim=1))))
        weights = weights.float().unflatten(1, (9, REDUCTION**2)).softmax(dim=1)
        neighbours = F.unfold(REDUCTION * flow, 3, padding=1).unflatten(2, (height, width)).unflatten(1, (2, 9))
        # One neighbour at a time: a single product of both would be a batch of thousands of tiny matrices.
        fine = flow.new_zeros(len(flow), 2, REDUCTION**2, height, width)
        for neighbour in range(9):
            fine = fine.addcmul(weights[:, None, neighbour], neighbours[:, :, neighbour, None])
        return F.pixel_shuffle(fine.flatten(1, 2), REDUCTION)


@dataclass
class FlowOutput(BaseOutput):
    """Output of [`GMFlow`].

    Attributes:
        flow (`torch.Tensor` of shape `(b, 2, h, w)`): In pixels, x first, float32: `warp(image2, flow)` resembles
            `image1`.
    """

    flow: torch.Tensor


class GMFlow(BuiltInWeights, ModelMixin, ConfigMixin):
    """Optical flow between two images by global matching of transformer features.

    Args:
        backbone_channels (`tuple[int, ...]`, *optional*, defaults to `(64, 96, 128)`): Channels at 1/2, 1/4 and 1/8 of
            the image size.
        feature_channels (`int`, *optional*, defaults to 128): Channels of the features that are matched, divisible
            by 4.
        num_layers (`int`, *optional*, defaults to 6): Transformer layers; every second one works on shifted windows.
        feedforward_expansion (`int`, *optional*, defaults to 4): Hidden width of a feedforward over its input width.
        upsampler_channels (`int`, *optional*, defaults to 256): Hidden width of the convex upsampler.

    Raises:
        ValueError: If `backbone_channels` are not three numbers, or `feature_channels` is not divisible by 4.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar = ["ResidualBlock", "TransformerLayer"]
    _repeated_blocks: ClassVar = ["TransformerLayer"]
    _group_offload_block_modules: ClassVar = ["backbone", "transformer", "propagation", "upsampler"]

    @register_to_config
    def __init__(
        self,
        backbone_channels: tuple[int, ...] = (64, 96, 128),
        feature_channels: int = 128,
        num_layers: int = 6,
        feedforward_expansion: int = 4,
        upsampler_channels: int = 256,
    ) -> None:
        super().__init__()
        if len(backbone_channels) != 3:
            raise ValueError(f"`backbone_channels` must be three numbers, not {backbone_channels}.")
        if feature_channels % 4 != 0:
            raise ValueError(f"`feature_channels` must be divisible by 4, which {feature_channels} is not.")
        self.backbone = Backbone(tuple(backbone_channels), feature_channels)
        self.transformer = Transformer(feature_channels, num_layers, feedforward_expansion)
        self.propagation = Propagation(feature_channels)
        self.upsampler = ConvexUpsampler(feature_channels, upsampler_channels)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the parts that the methods of the network call; the arguments are those of `torch.compile`."""
        for part in self.children():
            part.compile(*args, **kwargs)

    def forward(
        self, image1: torch.Tensor, image2: torch.Tensor, return_dict: bool = True
    ) -> FlowOutput | tuple[torch.Tensor]:
        """Estimate the flow from one image to another.

        Args:
            image1 (`torch.Tensor` of shape `(b, 3, h, w)`): RGB in [-1, 1], sides divisible by 16.
            image2 (`torch.Tensor` of shape `(b, 3, h, w)`): The image to search in.
            return_dict (`bool`, *optional*, defaults to `True`): Whether to return a [`FlowOutput`].

        Returns:
            [`FlowOutput`] or a tuple of its field, the flow `(b, 2, h, w)`.

        Raises:
            ValueError: If the shapes differ, or a side is not divisible by 16.
        """
        if image1.shape != image2.shape:
            raise ValueError(f"The images differ in shape: {tuple(image1.shape)} and {tuple(image2.shape)}.")
        features1, features2 = self.encode(torch.cat((image1, image2))).chunk(2)
        flow = self.flow_between_features(features1, features2)
        return FlowOutput(flow) if return_dict else (flow,)

    @entry_point
    def flow_between_frames(self, frames: torch.Tensor, batch_size: int = 4) -> torch.Tensor:
        """Estimate the flow from every frame of a clip, except the first, back to the frame before it.

        Args:
            frames (`torch.Tensor` of shape `(b, t, 3, h, w)`): RGB in [-1, 1], sides divisible by 16.
            batch_size (`int`, *optional*, defaults to 4): Number of frames, then of pairs of frames, that are
                processed at once; bounds the memory.

        Returns:
            `torch.Tensor` of shape `(b, t - 1, 2, h, w)`, float32: entry `k` is the flow from frame `k + 1` to `k`.

        Raises:
            ValueError: If the shape is not that of a clip, or a side is not divisible by 16.
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

    @entry_point
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images `(b, 3, h, w)`, RGB in [-1, 1] -> features `(b, c, h / 8, w / 8)`."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"Images must have the shape (b, 3, h, w), not {tuple(images.shape)}.")
        height, width = images.shape[2:]
        if height % 16 != 0 or width % 16 != 0:
            raise ValueError(f"Sides must be divisible by 16, which {height} x {width} are not: resize or pad first.")
        mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return self.backbone((((images + 1) / 2 - mean) / std).to(self.dtype))

    @entry_point
    def flow_between_features(self, features1: torch.Tensor, features2: torch.Tensor) -> torch.Tensor:
        """Features `(b, c, h, w)` of two images -> flow `(b, 2, 8 * h, 8 * w)` from the first to the second."""
        features1, features2 = self.transformer(features1, features2)
        flow = self.propagation(match(features1, features2), features1)
        return self.upsampler(flow, features1)
