"""Faster ways to compute a layer, and the conditions under which they are taken.

A fast path gives the result of the plain layer up to rounding.  None is taken while gradients are recorded, so
training runs the plain layers.  `layers.py` decides with the two predicates here:

- `takes_fast_path`: kernels on CPUs.  torch calls MKL for linear layers and for fused attention, and MKL does not use
  AVX-512 (nor its bf16 instructions) on AMD processors.  oneDNN does, and so do torch's own matrix products.
- `can_fold`: upsampling on any device.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import nn


# The types in which a CPU computes products with instructions of its own. Where oneDNN is missing (macOS) there are
# no fast kernels. Without bf16 instructions oneDNN emulates bf16, which is slower than the plain layer.
FAST_DTYPES: set[torch.dtype] = set()
if torch.backends.mkldnn.is_available():
    FAST_DTYPES.add(torch.float32)
    if torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported():
        FAST_DTYPES.add(torch.bfloat16)

# Positions of a feature map from which folding pays: on a smaller map the sums of the taps cost what they save.
MIN_FOLDED_POSITIONS = 1024


def takes_fast_path(x: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a layer with a fast kernel for `dtype` uses it for the input `x`.

    It does not where autocast would compute in another type, nor in a compiled or traced graph, whose kernels the
    compiler chooses.
    """
    return (
        x.dtype == dtype
        and dtype in FAST_DTYPES
        and x.device.type == "cpu"
        and is_plain(x)
        and not torch.is_grad_enabled()
        and (not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") == dtype)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds its values in the usual way; those of quantized weights have classes of their own."""
    return type(tensor) in (torch.Tensor, nn.Parameter)


def can_call_onednn(layer: nn.Linear, x: torch.Tensor) -> bool:
    """Whether `linear` may take the weights of `layer`: unmodified ones of the type of `x`, on the same device."""
    weight = layer.weight
    return (
        takes_fast_path(x, torch.float32)
        and is_plain(weight)
        and weight.dtype == x.dtype
        and weight.device == x.device
    )


def warn_if_slow(dtype: torch.dtype, device: torch.device) -> None:
    """Warn if networks in bf16 run on a CPU without bf16 instructions, which computes them slower than in float32."""
    if dtype == torch.bfloat16 and device.type == "cpu" and dtype not in FAST_DTYPES:
        warnings.warn(
            "bf16 is slow on this CPU, which has no AVX-512 bf16 instructions: fp32 is faster.", stacklevel=2
        )


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`F.linear` on a CPU in float32, computed by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention on a CPU in bf16 as two products; torch sums the softmax between them in float32.

    Args:
        query, key, value (`torch.Tensor` of shape `(b, tokens, heads, width)`).
        mask (`torch.Tensor` of shape `(b, heads, tokens, tokens)`, *optional*): `True` where a score counts.

    Returns:
        `torch.Tensor` of shape `(b, tokens, heads, width)`.
    """
    query, key, value = (tokens.transpose(1, 2) for tokens in (query, key, value))
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


def can_fold(conv: nn.Conv2d, x: torch.Tensor) -> bool:
    """Whether `upsample_folded` may read the weights of `conv` in place of a call of the module.

    Hooks act when a module is called.  Offloading brings the weights to the device then, layerwise casting brings them
    to the compute type, and an adapter replaces the module.  So the convolution must be an unmodified one, with its
    weights where the input is.
    """
    return (
        not torch.is_grad_enabled()
        and x.shape[-2] * x.shape[-1] >= MIN_FOLDED_POSITIONS
        and type(conv) is nn.Conv2d
        and "forward" not in conv.__dict__  # the hooks of accelerate and diffusers replace this method of the instance
        and not conv._forward_pre_hooks
        and not conv._forward_hooks
        and is_plain(conv.weight)
        and conv.weight.device == x.device
        and conv.weight.dtype == x.dtype
    )


def upsample_folded(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    """Nearest-neighbour upsampling by 2 and a 3 x 3 convolution, as one convolution of the small map.

    Args:
        x (`torch.Tensor` of shape `(b, in, h, w)`).
        conv (`nn.Conv2d`): The convolution.  Its weights are folded again in every call, which costs little, so that
            new weights take effect at once.

    Returns:
        `torch.Tensor` of shape `(b, out, 2 * h, 2 * w)`.
    """
    (b, _, h, w), channels = x.shape, conv.out_channels
    bias = None if conv.bias is None else conv.bias.repeat(4)
    quarters = F.conv2d(x, fold_taps(conv.weight), bias, padding=1).unflatten(1, (2, 2, channels))
    result = x.new_empty(b, channels, h, 2, w, 2)
    for row in (0, 1):
        for column in (0, 1):
            result[..., row, :, column] = quarters[:, row, column, :, row : row + h, column : column + w]
    return result.flatten(4, 5).flatten(2, 3)


def fold_taps(weight: torch.Tensor) -> torch.Tensor:
    """The taps of a 3 x 3 convolution of an upsampled map, as taps on the small map.

    Every pixel of the small map becomes two in a row.  Two of the three taps in a row fall on the same small pixel:
    left | middle + right for the left one of the two, left + middle | right for the right one.  The same holds for
    columns.  That leaves 4 of 9 multiplications.

    Returns:
        `torch.Tensor` of shape `(4 * out, in, 2, 2)`: for the four pixels, row by row.
    """

    def fold(taps: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        first, middle, last = taps.unbind(dim)
        return torch.stack([first, middle + last], dim), torch.stack([first + middle, last], dim)

    return torch.cat([taps for rows in fold(weight, 2) for taps in fold(rows, 3)])
