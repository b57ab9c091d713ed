"""The layers of the face model and the gain network.

Attention takes tokens `(b, tokens, channels)`.  diffusers computes it with the backend that is set:
`model.set_attention_backend(...)` reaches `AttentionProcessor`.  The other layers take feature maps
`(b, channels, h, w)`.

Without gradients some layers take a faster path to the same result up to rounding, see `fast_paths`.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from torch import nn

from . import fast_paths


if TYPE_CHECKING:
    from diffusers.models._modeling_parallel import ParallelConfig


def swish(x: torch.Tensor) -> torch.Tensor:
    """Compute x sigmoid(x). Without gradients it overwrites `x`, to save a large tensor: pass only a temporary one."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class Linear(nn.Linear):
    """`nn.Linear` with a fast path on CPUs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if fast_paths.can_call_onednn(self, x):
            return fast_paths.linear(x, self.weight, self.bias)
        return super().forward(x)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    backend: AttentionBackendName | None = None,
    parallel_config: "ParallelConfig | None" = None,
) -> torch.Tensor:
    """softmax(query . key / sqrt(width)) value, with a fast path on CPUs.

    Args:
        query, key, value (`torch.Tensor` of shape `(b, tokens, heads, width)`).
        mask (`torch.Tensor` of shape `(b, heads, tokens, tokens)`, *optional*): `True` where a score counts.
        backend, parallel_config (*optional*): Of diffusers; if one is set, diffusers computes the attention with it.

    Returns:
        `torch.Tensor` of shape `(b, tokens, heads, width)`.
    """
    if backend is None and parallel_config is None and fast_paths.takes_fast_path(query, torch.bfloat16):
        return fast_paths.attention(query, key, value, mask)
    return dispatch_attention_fn(query, key, value, attn_mask=mask, backend=backend, parallel_config=parallel_config)


class AttentionProcessor:
    """Scaled dot-product attention with the backend that is set; diffusers sets the two attributes."""

    _attention_backend: AttentionBackendName | None = None
    _parallel_config: "ParallelConfig | None" = None

    def __call__(
        self, attention: "Attention", query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        query = attention.to_q(query).unflatten(-1, (attention.num_heads, -1))
        key = attention.to_k(key).unflatten(-1, (attention.num_heads, -1))
        value = attention.to_v(value).unflatten(-1, (attention.num_heads, -1))
        attended = attend(query, key, value, backend=self._attention_backend, parallel_config=self._parallel_config)
        return attention.to_out(attended.flatten(-2))


class Attention(nn.Module, AttentionModuleMixin):
    """Multi-head attention with separate inputs for query, key and value; scores are scaled by head_dim^-0.5.

    Args:
        channels (`int`): Width of the tokens.
        num_heads (`int`): Number of heads.
        head_dim (`int`): Width of one head.
        bias (`bool`): Whether the three input projections have a bias; the output projection always has one.
    """

    processor: AttentionProcessor
    _default_processor_cls = AttentionProcessor
    _available_processors = (AttentionProcessor,)
    _supports_qkv_fusion = False

    def __init__(self, channels: int, num_heads: int, head_dim: int, bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = Linear(channels, num_heads * head_dim, bias=bias)
        self.to_k = Linear(channels, num_heads * head_dim, bias=bias)
        self.to_v = Linear(channels, num_heads * head_dim, bias=bias)
        self.to_out = Linear(num_heads * head_dim, channels)
        self.processor = AttentionProcessor()

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return self.processor(self, query, key, value)


class ResidualBlock(nn.Module):
    """Twice GroupNorm, swish and convolution, added to the input, which a 1 x 1 convolution projects if needed."""

    def __init__(self, in_channels: int, out_channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(num_groups, in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(num_groups, out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(swish(self.norm1(x)))
        h = self.conv2(swish(self.norm2(h)))
        return self.shortcut(x) + h


class SpatialAttentionBlock(nn.Module):
    """Single-head attention over all positions of a feature map, added to the input."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups, channels, eps=1e-6)
        self.attention = Attention(channels, num_heads=1, head_dim=channels, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        tokens = self.attention(tokens, tokens, tokens)
        return x + tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class Downsample(nn.Module):
    """Halves the size with a convolution of stride 2; zero padding on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles the size: nearest neighbour, then a convolution; with a fast path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if fast_paths.can_fold(self.conv, x):
            return fast_paths.upsample_folded(x, self.conv)
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
