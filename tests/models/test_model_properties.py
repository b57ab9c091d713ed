"""What diffusers' own tests demand of every model, for the four models of this package.

diffusers' test classes are not part of its package; these tests check the same properties.  Tested elsewhere:
offloading and `device_map` (test_offloading.py); the Hub (tests/test_hub.py); checkpointing of gradients, for each
model; entry points that are compiled (test_compile.py).  Not applicable:

- LoRA, IP adapters and text encoders: no model has text or adapters.
- Caches of features between denoising steps (FasterCache, first block cache and others): there are no steps.
- Context and tensor parallelism: windows and grids are small; clips are divided instead.
- xFormers and attention slicing: attention goes through diffusers' dispatcher, which chooses the kernel.
- GGUF, Quanto, bitsandbytes and torchao need packages that are not used here; weights of their kinds are tested in
  test_fast_paths.py.
- Checkpointing of gradients for `FaceDetector`, which is small.
- Attention backends of a model for `FaceDetector`, which has no attention, and `GMFlow`, which uses the default of the
  process.
"""

import copy
import json
from dataclasses import dataclass

import pytest
import torch
from diffusers.training_utils import EMAModel
from diffusers.utils import BaseOutput
from torch import nn

from conftest import SIZE, make_components
from keep_hf import FaceDetector


@dataclass
class Case:
    """A model and the arguments of its `forward`."""

    model: nn.Module
    inputs: tuple[torch.Tensor, ...]


def make_case(name: str) -> Case:
    torch.manual_seed(0)
    if name == "detector":
        detector = FaceDetector(block_out_channels=(4, 4, 8, 8, 8), neck_channels=8, close_up_channels=(4, 4, 8, 8))
        return Case(detector.eval(), (torch.rand(2, 3, 64, 96) * 2 - 1,))
    images = torch.rand(2, 2, 3, SIZE, SIZE) * 2 - 1
    inputs = {"vq": (images[0],), "kalman": (torch.randn(2, 3, 16, 8, 8),), "flow": tuple(images)}
    return Case(make_components()[name], inputs[name])


NAMES = ("vq", "kalman", "flow", "detector")


@pytest.fixture(params=NAMES)
def case(request) -> Case:
    return make_case(request.param)


@torch.no_grad()
def run(model: nn.Module, case: Case) -> tuple[torch.Tensor, ...]:
    return model(*case.inputs, return_dict=False)


def assert_equal_outputs(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...], atol: float = 0) -> None:
    for tensor, expected in zip(one, other, strict=True):
        torch.testing.assert_close(tensor, expected, rtol=0, atol=atol)


def public_config(model: nn.Module) -> dict:
    return {name: value for name, value in json.loads(model.to_json_string()).items() if not name.startswith("_")}


# Output


@torch.no_grad()
def test_dictionary_and_tuple_have_the_same_values(case):
    output = case.model(*case.inputs)
    assert isinstance(output, BaseOutput)
    assert type(run(case.model, case)) is tuple
    assert_equal_outputs(output.to_tuple(), run(case.model, case))
    assert_equal_outputs(tuple(getattr(output, name) for name in output), run(case.model, case))


def test_two_calls_give_the_same_bits(case):
    assert_equal_outputs(run(case.model, case), run(case.model, case))


def test_images_of_a_batch_are_independent(case):
    first = Case(case.model, tuple(tensor[:1] for tensor in case.inputs))
    assert_equal_outputs(run(case.model, first), tuple(tensor[:1] for tensor in run(case.model, case)), atol=1e-3)


# Saving and loading


def test_a_saved_model_is_loaded_with_the_same_bits(case, tmp_path):
    case.model.save_pretrained(tmp_path)
    loaded = type(case.model).from_pretrained(tmp_path)
    assert not loaded.training
    assert public_config(loaded) == public_config(case.model)
    assert_equal_outputs(run(loaded, case), run(case.model, case))


def test_a_model_from_a_config_has_the_same_weights_by_name_and_shape(case):
    created = type(case.model).from_config(case.model.config)
    shapes = {name: weight.shape for name, weight in case.model.state_dict().items()}
    assert {name: weight.shape for name, weight in created.state_dict().items()} == shapes


def test_a_variant_is_loaded_under_its_name_only(case, tmp_path):
    case.model.save_pretrained(tmp_path, variant="fp16")
    loaded = type(case.model).from_pretrained(tmp_path, variant="fp16")
    assert_equal_outputs(run(loaded, case), run(case.model, case))
    with pytest.raises(OSError, match="no file named"):
        type(case.model).from_pretrained(tmp_path)


@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_is_loaded_in_half_precision(case, dtype, low_cpu_mem_usage, tmp_path):
    case.model.save_pretrained(tmp_path)
    loaded = type(case.model).from_pretrained(tmp_path, dtype=dtype, low_cpu_mem_usage=low_cpu_mem_usage)
    assert loaded.dtype == dtype
    half = Case(loaded, tuple(tensor.to(dtype) for tensor in case.inputs))
    assert all(torch.isfinite(tensor).all() for tensor in run(loaded, half))


def test_weights_in_several_files(case, tmp_path):
    size = sum(weight.numel() * weight.element_size() for weight in case.model.state_dict().values())
    case.model.save_pretrained(tmp_path, max_shard_size=size // 2)
    assert len(list(tmp_path.glob("*.safetensors"))) >= 2
    assert_equal_outputs(run(type(case.model).from_pretrained(tmp_path), case), run(case.model, case))


# Training


def test_a_step_of_training_lowers_the_loss_and_its_average_follows(case):
    """Batch norms of the detector need several images, which the inputs are."""
    model = case.model.train()
    average = EMAModel(model.parameters(), decay=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    losses = []
    for _ in range(2):
        loss = model(*case.inputs, return_dict=False)[0].float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.step(model.parameters())
        losses.append(loss.item())
    assert losses[1] < losses[0]
    changed = [not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)]
    assert any(changed)
    average.copy_to(model.parameters())
    assert any(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


# Weights in fewer bits, compilation, export


def test_weights_in_8_bits_need_less_memory_and_give_finite_results(case):
    model = copy.deepcopy(case.model).bfloat16()
    size = model.get_memory_footprint()
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    assert model.get_memory_footprint() < 0.9 * size
    assert model.dtype == torch.bfloat16
    half = Case(model, tuple(tensor.bfloat16() for tensor in case.inputs))
    assert all(torch.isfinite(tensor).all() for tensor in run(model, half))
    assert model.get_memory_footprint() < 0.9 * size


@pytest.mark.slow
def test_repeated_blocks_are_compiled_without_breaks(case):
    expected = run(case.model, case)
    names = set(case.model.state_dict())
    torch._dynamo.reset()
    case.model.compile_repeated_blocks(backend="eager", fullgraph=True)
    assert_equal_outputs(run(case.model, case), expected, atol=1e-3)
    assert set(case.model.state_dict()) == names


@pytest.mark.slow
def test_an_exported_model_gives_the_same_result(case):
    with torch.no_grad():
        program = torch.export.export(case.model, case.inputs)
        exported = program.module()(*case.inputs)
    assert type(exported) is type(case.model(*case.inputs))
    # Codes are equal unless two are equally likely; none are here.
    assert_equal_outputs(exported.to_tuple(), run(case.model, case), atol=1e-3)


@pytest.mark.parametrize("name", ["vq", "kalman"])
def test_attention_uses_the_backend_and_the_processor_that_are_set(name):
    case = make_case(name)
    expected = run(case.model, case)
    case.model.set_attention_backend("_native_math")
    assert_equal_outputs(run(case.model, case), expected, atol=1e-3)
    # `reset_attention_backend` leaves the last one as the default of the process: end with the usual one.
    case.model.set_attention_backend("native")
    case.model.reset_attention_backend()
    processors = case.model.attn_processors
    assert processors
    case.model.set_attn_processor(dict(processors))
    assert_equal_outputs(run(case.model, case), expected)
