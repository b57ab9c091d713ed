"""The fast paths of layers: equal to the plain layers up to rounding, and taken only where they may be."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from accelerate import cpu_offload
from diffusers.hooks import apply_layerwise_casting
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from keep_hf.models import fast_paths
from keep_hf.models.code_transformer import CodeLogits
from keep_hf.models.layers import Linear, Upsample, attend


SIDE = 32  # of a feature map large enough to be folded


def plain_upsample(layer: Upsample, x: torch.Tensor) -> torch.Tensor:
    return layer.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


def count_flops(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


# --- upsampling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 5, 32, 48), (1, 5, 33, 40), (1, 5, 4, 4)])
def test_upsample_equals_nearest_and_convolution(shape):
    torch.manual_seed(0)
    layer = Upsample(5).double()
    x = torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        upsampled = layer(x)
    assert upsampled.is_contiguous()
    torch.testing.assert_close(upsampled, plain_upsample(layer, x), rtol=1e-12, atol=1e-12)


def test_upsample_of_large_maps_needs_fewer_multiplications():
    layer, x = Upsample(8), torch.randn(1, 8, 64, 64)
    with torch.no_grad():
        folded = count_flops(lambda: layer(x))
    assert folded / count_flops(lambda: layer(x)) == pytest.approx(4 / 9 * (65 / 64) ** 2)


def test_compiled_upsample_folds_in_one_graph():
    layer, x, graphs = Upsample(4), torch.randn(1, 4, SIDE, SIDE), []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), plain_upsample(layer, x), rtol=1e-5, atol=1e-5)
    assert len(graphs) == 1
    assert not any("interpolate" in str(node.target) for node in graphs[0].graph.nodes)


def test_folded_taps_follow_the_weights():
    """Nothing is cached: loaded weights, or weights of another type, take effect at once."""
    torch.manual_seed(0)
    layer, other = Upsample(4), Upsample(4)
    x = torch.randn(1, 4, SIDE, SIDE)
    with torch.no_grad():
        before = layer(x)
        layer.load_state_dict(other.state_dict())
        torch.testing.assert_close(layer(x), plain_upsample(other, x), rtol=1e-5, atol=1e-5)
        assert (layer(x) - before).abs().max() > 0.1
        half = layer.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain_upsample(other, x), rtol=0.05, atol=0.05)
    assert set(layer.state_dict()) == {"conv.weight", "conv.bias"}
    assert fast_paths.fold_taps(layer.conv.weight).shape == (16, 4, 2, 2)


@torch.no_grad()
def test_upsample_with_offloaded_weights_equals_the_plain_layer():
    torch.manual_seed(0)
    layer, x = Upsample(4), torch.randn(1, 4, SIDE, SIDE)
    expected = plain_upsample(layer, x)
    cpu_offload(layer, execution_device=torch.device("cpu"))
    assert layer.conv.weight.is_meta
    assert torch.equal(layer(x), expected)


@torch.no_grad()
def test_upsample_with_weights_stored_in_8_bits_computes_in_the_type_of_the_input():
    torch.manual_seed(0)
    layer, x = Upsample(4), torch.randn(1, 4, SIDE, SIDE)
    stored = copy.deepcopy(layer)
    for parameter in stored.parameters():
        parameter.copy_(parameter.to(torch.float8_e4m3fn))
    apply_layerwise_casting(layer, storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert layer.conv.weight.dtype == torch.float8_e4m3fn
    assert torch.equal(layer(x), plain_upsample(stored, x))


class Doubled(torch.nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


@torch.no_grad()
@pytest.mark.parametrize("modification", ["pre_hook", "hook", "parametrization", "replacement"])
def test_upsample_calls_a_modified_convolution(modification):
    layer, x = Upsample(4), torch.randn(1, 4, SIDE, SIDE)
    assert fast_paths.can_fold(layer.conv, x)
    if modification == "pre_hook":
        layer.conv.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
    elif modification == "hook":
        layer.conv.register_forward_hook(lambda module, inputs, output: 2 * output)
    elif modification == "parametrization":
        parametrize.register_parametrization(layer.conv, "weight", Doubled())
    else:
        layer.conv = torch.nn.Sequential(layer.conv, torch.nn.ReLU())
    assert torch.equal(layer(x), plain_upsample(layer, x))


# --- linear layers and attention -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (2, 3, 24), (2, 5, 3, 24)])
def test_linear_equals_the_plain_layer(shape, bias):
    torch.manual_seed(0)
    layer = Linear(24, 10, bias=bias)
    for x in (torch.randn(shape), torch.randn(24, *shape[:-1]).movedim(0, -1)):  # contiguous, and not
        expected = F.linear(x, layer.weight, layer.bias)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), expected.detach(), rtol=1e-5, atol=1e-5)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        with torch.no_grad():
            assert copy.deepcopy(layer).bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.flatten(0, -2).sum(0).expand(10, 24))


class QuantizedWeight(torch.Tensor):
    """An int8 weight with a scale per row that poses as float32, in the way of torchao; only `F.linear` takes it."""

    @staticmethod
    def __new__(cls, values: torch.Tensor, scale: torch.Tensor) -> "QuantizedWeight":
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=scale.dtype)

    def __init__(self, values: torch.Tensor, scale: torch.Tensor) -> None:
        self.values, self.scale = values, scale

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is F.linear:
            return F.linear(args[0], args[1].values * args[1].scale, *args[2:])
        return super().__torch_function__(function, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return cls(args[0].values, args[0].scale)
        raise NotImplementedError(f"{function} of a quantized weight")


@torch.no_grad()
@pytest.mark.parametrize("layer", [Linear(24, 10), CodeLogits(24, 10)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_quantized_weights_are_multiplied_by_their_own_rules(layer, dtype):
    torch.manual_seed(0)
    layer, x = copy.deepcopy(layer).to(dtype), torch.randn(3, 24, dtype=dtype)
    scale = layer.weight.abs().amax(1, keepdim=True) / 127
    values = (layer.weight / scale).round().to(torch.int8)
    layer.weight = torch.nn.Parameter(QuantizedWeight(values, scale), requires_grad=False)
    assert torch.equal(layer(x), F.linear(x, values * scale, layer.bias))


@torch.no_grad()
def test_integers_are_no_weights_of_the_logits():
    layer = CodeLogits(24, 10)
    layer.weight = torch.nn.Parameter(torch.ones(10, 24, dtype=torch.int8), requires_grad=False)
    with pytest.raises(RuntimeError, match="dtype"):
        layer(torch.randn(3, 24))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_traced_layers_are_the_plain_ones():
    torch.manual_seed(0)
    layer, x = Linear(24, 10), torch.randn(3, 24)
    traced = torch.jit.trace(layer, x)
    assert "aten::linear" in [node.kind() for node in traced.inlined_graph.nodes()]
    torch.testing.assert_close(traced(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bf16_equals_the_plain_attention(masked, monkeypatch):
    monkeypatch.setattr(fast_paths, "FAST_DTYPES", {torch.bfloat16})
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
        fast = attend(query, key, value, mask)
        chosen = attend(query, key, value, mask, backend="native")
    torch.testing.assert_close(fast.float(), expected, rtol=0.02, atol=0.02)
    assert torch.equal(chosen, plain)
    assert not torch.equal(fast, plain)


def test_bf16_on_a_cpu_without_its_instructions_warns(monkeypatch, recwarn):
    monkeypatch.setattr(fast_paths, "FAST_DTYPES", {torch.float32})
    with pytest.warns(UserWarning, match="fp32 is faster"):
        fast_paths.warn_if_slow(torch.bfloat16, torch.device("cpu"))
    recwarn.clear()
    fast_paths.warn_if_slow(torch.float32, torch.device("cpu"))
    fast_paths.warn_if_slow(torch.bfloat16, torch.device("cuda"))
    monkeypatch.setattr(fast_paths, "FAST_DTYPES", {torch.float32, torch.bfloat16})
    fast_paths.warn_if_slow(torch.bfloat16, torch.device("cpu"))
    assert not recwarn.list


def test_predicate(monkeypatch):
    monkeypatch.setattr(fast_paths, "FAST_DTYPES", {torch.float32, torch.bfloat16})
    x = torch.zeros(1)
    assert not fast_paths.takes_fast_path(x, torch.float32), "gradients are recorded"
    with torch.no_grad():
        assert fast_paths.takes_fast_path(x, torch.float32)
        assert not fast_paths.takes_fast_path(x, torch.bfloat16)
        assert not fast_paths.takes_fast_path(x.to("meta"), torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            assert not fast_paths.takes_fast_path(x, torch.float32)
            assert fast_paths.takes_fast_path(x.bfloat16(), torch.bfloat16)
        monkeypatch.setattr(fast_paths, "FAST_DTYPES", set())
        assert not fast_paths.takes_fast_path(x, torch.float32), "there is no fast kernel"
