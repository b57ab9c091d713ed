"""The layers that the face model and the gain network are made of.

Attention takes tokens (b, tokens, channels) and is computed by whichever backend diffusers is set to:
`model.set_attention_backend(...)` reaches the processor below.  The others take feature maps (b, channels, h, w).

Without gradients some layers take a shorter way to the same result up to rounding; training takes the plain one.
"""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import nn


HAS_ONEDNN = torch.backends.mkldnn.is_available()
# Whether a CPU multiplies bf16 by instructions of its own
HAS_BF16 = HAS_ONEDNN and torch.cpu._is_avx512_bf16_supported()
MIN_FOLDED = 1024  # positions of a map from which `Upsample` folds its taps


def swish(x: torch.Tensor) -> torch.Tensor:
    """x sigmoid(x) of a tensor that nobody else needs; without gradients in its place, which saves a large new one."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class Linear(nn.Linear):
    """`nn.Linear`, on CPU in float32 by oneDNN: MKL, which torch calls, leaves AVX-512 alone on AMD's processors."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plain = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        if plain or not HAS_ONEDNN or x.device.type != "cpu" or x.dtype != torch.float32:
            return super().forward(x)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None, **dispatch: Any
) -> torch.Tensor:
    """softmax(query . key / sqrt(width)) value, by diffusers' dispatcher.

    In bf16 without gradients a CPU that can multiply it does so in two products: torch's fused attention goes through
    MKL, which has no such products on AMD's processors. The softmax between them is summed in float32 by torch.

    Args:
        query, key, value (`torch.Tensor` of shape `(b, tokens, heads, width)`).
        mask (`torch.Tensor`, *optional*): Of bool, for scores `(b, heads, tokens, tokens)`: `True` where they count.
        dispatch: Of the dispatcher; a backend that was chosen is taken.
    """
    plain = torch.is_grad_enabled() or any(choice is not None for choice in dispatch.values())
    if plain or not HAS_BF16 or query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return dispatch_attention_fn(query, key, value, attn_mask=mask, **dispatch)
    query, key, value = (tokens.transpose(1, 2) for tokens in (query, key, value))
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


class AttentionProcessor:
    """Scaled dot-product attention by whichever backend is set."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self, attention: "Attention", query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        query = attention.to_q(query).unflatten(-1, (attention.num_heads, -1))
        key = attention.to_k(key).unflatten(-1, (attention.num_heads, -1))
        value = attention.to_v(value).unflatten(-1, (attention.num_heads, -1))
        mixed = attend(query, key, value, backend=self._attention_backend, parallel_config=self._parallel_config)
        return attention.to_out(mixed.flatten(-2))


class Attention(nn.Module, AttentionModuleMixin):
    """Attention with separate inputs for query, key and value; scores are scaled by head_dim^-0.5.

    Args:
        channels (`int`): Width of the tokens.
        num_heads (`int`): Number of heads.
        head_dim (`int`): Width of one head.
        bias (`bool`): Whether the three input projections have a bias; the output projection always has.
    """

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
        self.set_processor(AttentionProcessor())

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return self.processor(self, query, key, value)


class ResidualBlock(nn.Module):
    """GroupNorm, swish, convolution, twice, plus the (projected) input."""

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
    """One-head attention over all positions of a feature map, plus the input."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups, channels, eps=1e-6)
        self.attention = Attention(channels, num_heads=1, head_dim=channels, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        tokens = self.attention(tokens, tokens, tokens)
        return x + tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class Downsample(nn.Module):
    """Half the size; padded on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the size: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # On a small map the sums of the taps cost as much as they save.
        if torch.is_grad_enabled() or x.shape[-2] * x.shape[-1] < MIN_FOLDED:
            return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        (b, _, h, w), channels = x.shape, self.conv.out_channels
        quarters = F.conv2d(x, fold_taps(self.conv.weight), self.conv.bias.repeat(4), padding=1)
        quarters = quarters.unflatten(1, (2, 2, channels))
        result = x.new_empty(b, channels, h, 2, w, 2)
        for row in (0, 1):
            for column in (0, 1):
                result[..., row, :, column] = quarters[:, row, column, :, row : row + h, column : column + w]
        return result.flatten(4, 5).flatten(2, 3)


def fold_taps(weight: torch.Tensor) -> torch.Tensor:
    """The taps of a 3 x 3 convolution on a picture at twice its size, as taps on the picture itself.

    Of three taps in a row two fall on the same pixel: left | middle + right for the left one of the two pixels that
    each becomes, left + middle | right for the right one; in columns alike.  That leaves 4 of 9 multiplications.

    Returns:
        `torch.Tensor` of shape `(4 * out, in, 2, 2)`: for the four pixels, row by row.
    """

    def fold(taps: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        first, middle, last = taps.unbind(dim)
        return torch.stack([first, middle + last], dim), torch.stack([first + middle, last], dim)

    return torch.cat([taps for rows in fold(weight, 2) for taps in fold(rows, 3)])
