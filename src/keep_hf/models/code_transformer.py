"""The code transformer: it chooses a code of the codebook for every latent (KEEP, section 3.2, "Generative Model").

Legend: b images, n tokens of the code grid in row-major order.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from .fast_paths import is_plain
from .layers import Attention, Linear


class CodeTransformerLayer(nn.Module):
    """Self-attention and feedforward, both pre-norm; the position is added to queries and keys, not to values."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, num_heads, channels // num_heads, bias=True)
        self.norm2 = nn.LayerNorm(channels)
        self.linear1 = Linear(channels, 2 * channels)
        self.linear2 = Linear(2 * channels, channels)

    def forward(self, tokens: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        value = self.norm1(tokens)
        query = value + position
        tokens = tokens + self.attention(query, query, value)
        return tokens + self.linear2(F.gelu(self.linear1(self.norm2(tokens))))


class CodeLogits(Linear):
    """Linear layer to the logits of the codes, in float32 for half-precision weights.

    In half precision the largest logits are often equal, and the code would be chosen by chance.
    """

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.weight.dtype in (torch.float16, torch.bfloat16) and is_plain(self.weight):
            return F.linear(tokens.float(), self.weight.float())
        return super().forward(tokens)


class CodeTransformer(nn.Module):
    """Latents `(b, latent_channels, grid, grid)` -> logits of the codes `(b, n, num_codes)`, see [`CodeLogits`].

    Args:
        latent_channels (`int`): Width of a latent.
        num_tokens (`int`): Positions of the code grid.
        channels, num_heads, num_layers (`int`): Of the transformer.
        num_codes (`int`): Entries of the codebook.
    """

    _gradient_checkpointing_func: Callable[..., torch.Tensor]  # set by `enable_gradient_checkpointing`

    def __init__(
        self, latent_channels: int, num_tokens: int, channels: int, num_heads: int, num_layers: int, num_codes: int
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.linear_in = Linear(latent_channels, channels)
        self.position = nn.Parameter(torch.randn(num_tokens, channels) * 0.02)
        self.layers = nn.ModuleList(CodeTransformerLayer(channels, num_heads) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(channels)
        self.to_logits = CodeLogits(channels, num_codes, bias=False)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        tokens = self.linear_in(latents.flatten(2).transpose(1, 2))
        for layer in self.layers:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(layer, tokens, self.position)
            else:
                tokens = layer(tokens, self.position)
        return self.to_logits(self.norm_out(tokens))
