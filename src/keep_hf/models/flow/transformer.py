"""The transformer of GMFlow: attention within and between the features of two images, in 2 x 2 windows.

Legend: b pairs, c channels, h w rows and columns of the grid at 1/8 of the image size, n = h * w positions.
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from ..layers import Linear, attend
from .constants import constant


class WindowAttention(nn.Module):
    """Single-head attention inside each of 2 x 2 windows, with a projection and a norm of the result.

    The four windows take the place of attention heads, which needs no copies of the mask.

    Args:
        channels (`int`): Width of a token.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.to_q = Linear(channels, channels, bias=False)
        self.to_k = Linear(channels, channels, bias=False)
        self.to_v = Linear(channels, channels, bias=False)
        self.to_out = Linear(channels, channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, source: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Attend from `source` to `target`, both `(b, h, w, c)`; a mask shifts the windows by half their size."""
        height, width = source.shape[1:3]
        projected = [self.to_q(source), self.to_k(target), self.to_v(target)]
        if mask is not None:
            # Rolling the grid shifts the windows. It wraps around at the border, which the mask undoes.
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
        """Grid `(b, h, w, c)` -> positions of a window, windows `(b, n / 4, 4, c)`."""
        windows = tokens.unflatten(2, (2, -1)).unflatten(1, (2, -1))
        return windows.permute(0, 2, 4, 1, 3, 5).flatten(3, 4).flatten(1, 2)


class FeedForward(nn.Module):
    """Two linear layers of the tokens and the message of the attention, with a norm of the result.

    Args:
        channels (`int`): Width of a token.
        expansion (`int`): Hidden width over the input width, which is `2 * channels`.
    """

    def __init__(self, channels: int, expansion: int):
        super().__init__()
        self.linear_in = Linear(2 * channels, 2 * channels * expansion, bias=False)
        self.linear_out = Linear(2 * channels * expansion, channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, source: torch.Tensor, message: torch.Tensor) -> torch.Tensor:
        hidden = F.gelu(self.linear_in(torch.cat((source, message), dim=-1)))
        return self.norm(self.linear_out(hidden))


class TransformerLayer(nn.Module):
    """Attention of an image to itself, then to the other image with a feedforward; both are added to the tokens."""

    def __init__(self, channels: int, expansion: int):
        super().__init__()
        self.self_attention = WindowAttention(channels)
        self.cross_attention = WindowAttention(channels)
        self.feed_forward = FeedForward(channels, expansion)

    def forward(self, source: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        source = source + self.self_attention(source, source, mask)
        return source + self.feed_forward(source, self.cross_attention(source, target, mask))


class Transformer(nn.Module):
    """Features of two images `(b, c, h, w)` -> features that depend on both images, of the same shapes.

    Args:
        channels (`int`): Width of the features.
        num_layers (`int`): Layers; every second one works on shifted windows.
        expansion (`int`): See [`FeedForward`].
    """

    _gradient_checkpointing_func: Callable[..., torch.Tensor]  # set by `enable_gradient_checkpointing`

    def __init__(self, channels: int, num_layers: int, expansion: int):
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(channels, expansion) for _ in range(num_layers))
        self.gradient_checkpointing = False

    def forward(self, features1: torch.Tensor, features2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, channels, height, width = features1.shape
        position = sine_position(height // 2, width // 2, channels, features1.device)
        position = position.repeat(2, 2, 1).to(features1.dtype)
        shifted_mask = shifted_window_mask(height, width, features1.device)

        # Both directions in one batch: image 1 attends to image 2, and image 2 to image 1. The channels of a position
        # must be adjacent in memory, or every layer would copy the tokens.
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


@constant
def sine_position(height: int, width: int, channels: int, device: torch.device) -> torch.Tensor:
    """Sine encoding of the positions in a window, `(height, width, channels)`; half of the channels for y, then x."""
    pairs = torch.arange(channels // 4, device=device, dtype=torch.float32)
    frequency = 10000.0 ** (-4 * pairs / channels)

    def encode(length: int) -> torch.Tensor:
        phase = torch.arange(1, length + 1, device=device, dtype=torch.float32) / (length + 1e-6) * 2 * math.pi
        angle = phase[:, None] * frequency
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)

    y = encode(height)[:, None].expand(-1, width, -1)
    x = encode(width)[None].expand(height, -1, -1)
    return torch.cat((y, x), dim=-1)


@constant
def shifted_window_mask(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Mask `(1, 4, n / 4, n / 4)`: `True` for two positions of a shifted window on the same side of the border."""

    def wrapped(length: int) -> torch.Tensor:
        return torch.arange(length, device=device) >= length - length // 4

    region = 2 * wrapped(height)[:, None] + wrapped(width)[None].long()
    region = WindowAttention.split_windows(region[None, :, :, None])[0, :, :, 0].T
    return (region[:, :, None] == region[:, None, :])[None]
