"""The shorter ways that layers take without gradients: the plain result up to rounding, and gradients untouched."""

import copy

import pytest
import torch
import torch.nn.functional as F

from keep_hf.models import layers
from keep_hf.models.layers import Linear, ResidualBlock, Upsample, attend, fold_taps, swish


def plain_upsample(layer: Upsample, x: torch.Tensor) -> torch.Tensor:
    return layer.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


@pytest.mark.parametrize("shape", [(2, 5, 32, 48), (1, 5, 33, 40), (1, 5, 4, 4)])
def test_upsample_is_nearest_and_a_convolution(shape):
    torch.manual_seed(0)
    layer = Upsample(5).double()
    x = torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        short = layer(x)
    assert short.is_contiguous()
    torch.testing.assert_close(short, plain_upsample(layer, x), rtol=1e-12, atol=1e-12)


def test_the_upsample_of_large_maps_multiplies_less():
    from torch.utils.flop_counter import FlopCounterMode

    layer, counts = Upsample(8), []
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), FlopCounterMode(display=False) as counter:
            layer(torch.randn(1, 8, 64, 64))
        counts.append(counter.get_total_flops())
    assert counts[1] / counts[0] == pytest.approx(4 / 9 * (65 / 64) ** 2)


def test_folded_taps_follow_the_weights():
    """Nothing is kept: weights that are loaded, or moved to another dtype, count at once."""
    torch.manual_seed(0)
    layer, other = Upsample(4), Upsample(4)
    x = torch.randn(1, 4, 32, 32)
    with torch.no_grad():
        before = layer(x)
        layer.load_state_dict(other.state_dict())
        torch.testing.assert_close(layer(x), plain_upsample(other, x), rtol=1e-5, atol=1e-5)
        assert (layer(x) - before).abs().max() > 0.1
        half = layer.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain_upsample(other, x), rtol=0.05, atol=0.05)
    assert set(layer.state_dict()) == {"conv.weight", "conv.bias"}
    assert fold_taps(layer.conv.weight).shape == (16, 4, 2, 2)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (2, 3, 24), (2, 5, 3, 24)])
def test_linear_is_the_plain_one(shape, bias):
    torch.manual_seed(0)
    layer = Linear(24, 10, bias=bias)
    for x in (torch.randn(shape), torch.randn(24, *shape[:-1]).movedim(0, -1)):  # side by side in memory, and not
        expected = F.linear(x, layer.weight, layer.bias)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), expected.detach(), rtol=1e-5, atol=1e-5)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        with torch.no_grad():
            assert copy.deepcopy(layer).bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.flatten(0, -2).sum(0).expand(10, 24))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bf16_is_the_plain_one(masked, monkeypatch):
    monkeypatch.setattr(layers, "HAS_BF16", True)
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 20, 4, 8).bfloat16()
    mask = torch.rand(1, 4, 20, 20) < 0.5 if masked else None
    query, key, value = (tokens.requires_grad_() for tokens in (query, key, value))
    scores = torch.einsum("bnhc, bmhc -> bhnm", query.float(), key.float()) / 8**0.5
    scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
    expected = torch.einsum("bhnm, bmhc -> bnhc", scores.softmax(-1), value.float()).detach()
    plain = attend(query, key, value, mask)
    plain.sum().backward()
    assert query.grad is not None
    with torch.no_grad():
        short = attend(query, key, value, mask)
        chosen = attend(query, key, value, mask, backend="native")
    torch.testing.assert_close(short.float(), expected, rtol=0.02, atol=0.02)
    assert torch.equal(chosen, plain) and not torch.equal(short, plain)


def test_swish_spares_what_gradients_need():
    x = torch.randn(4, requires_grad=True)
    doubled = 2 * x
    swish(doubled).sum().backward()
    sigmoid = doubled.sigmoid()
    torch.testing.assert_close(x.grad, 2 * sigmoid * (1 + doubled * (1 - sigmoid)))
    torch.manual_seed(0)
    block, image = ResidualBlock(8, 8, 4), torch.randn(1, 8, 6, 6)
    seen, expected = image.clone(), block(image)
    with torch.no_grad():
        torch.testing.assert_close(block(seen), expected)
    assert torch.equal(seen, image), "the input of a block belongs to the caller"
