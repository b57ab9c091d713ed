"""Multi-head attention as used by every network here, computed by whichever backend diffusers is set to.

Tokens are (b, tokens, channels).  `model.set_attention_backend(...)` of diffusers reaches the processor below.
"""

import torch
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import nn


class AttentionProcessor:
    """Scaled dot-product attention through diffusers' dispatcher."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self, attention: "Attention", query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        query = attention.to_q(query).unflatten(-1, (attention.num_heads, -1))
        key = attention.to_k(key).unflatten(-1, (attention.num_heads, -1))
        value = attention.to_v(value).unflatten(-1, (attention.num_heads, -1))
        mixed = dispatch_attention_fn(
            query, key, value, backend=self._attention_backend, parallel_config=self._parallel_config
        )
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
        self.to_q = nn.Linear(channels, num_heads * head_dim, bias=bias)
        self.to_k = nn.Linear(channels, num_heads * head_dim, bias=bias)
        self.to_v = nn.Linear(channels, num_heads * head_dim, bias=bias)
        self.to_out = nn.Linear(num_heads * head_dim, channels)
        self.set_processor(AttentionProcessor())

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return self.processor(self, query, key, value)
