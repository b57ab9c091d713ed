"""What diffusers' own tests demand of every pipeline, for `KeepPipeline`.

diffusers' test classes are not part of its package; these tests check the same properties.  Tested elsewhere: saving,
variants, optional components and the Hub (test_hub.py); dictionary and tuple, offloading of whole models, attention
backends and the progress bar (test_pipeline.py); offloading of layers (models/test_offloading.py).  Not applicable:

- Prompts, guidance, schedulers, steps, several results per input, callbacks at the end of a step, latents as output:
  the pipeline restores a video once, without noise, so it also takes no generator.
- Attention slicing, VAE slicing and tiling, FreeU, xFormers: memory is bounded by `restore_video` and `stream`.
- DDUF files, which hold transformers' and diffusers' own components only.
- `enable_sequential_cpu_offload` needs an accelerator (accelerate fails for every model with `cpu:0`); its hooks are
  those of `accelerate.cpu_offload`, which are tested.
"""

import numpy as np
import pytest
import torch

from conftest import SIZE, make_clip, make_components
from keep_hf import KeepPipeline
from restored import restore


class Named(KeepPipeline):
    """A pipeline of another class with the same components."""


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_clip(3, SIZE, SIZE)


@pytest.fixture
def pipe() -> KeepPipeline:
    pipe = KeepPipeline(**make_components(), gain_window=7, fidelity=0.25)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_components_build_the_same_pipeline(pipe, crops):
    assert set(pipe.components) == {"vq", "kalman", "flow", "detector", "parser", "identity"}
    again = KeepPipeline(**pipe.components, gain_window=7, fidelity=0.25)
    np.testing.assert_array_equal(restore(again, crops, aligned=True), restore(pipe, crops, aligned=True))


@pytest.mark.parametrize("cls", [KeepPipeline, Named])
def test_from_pipe_shares_the_components_and_keeps_the_settings(cls, pipe, crops):
    other = cls.from_pipe(pipe)
    assert type(other) is cls
    assert all(getattr(other, name) is component for name, component in pipe.components.items())
    assert (other.config.gain_window, other.config.fidelity) == (7, 0.25)
    np.testing.assert_array_equal(restore(other, crops, aligned=True), restore(pipe, crops, aligned=True))


def test_from_pipe_takes_other_components_and_settings(pipe):
    other = KeepPipeline.from_pipe(pipe, kalman=None, flow=None, gain_window=3)
    assert other.kalman is None
    assert other.flow is None
    assert other.config.gain_window == 3
    assert pipe.kalman is not None
    assert KeepPipeline.from_pipe(pipe, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_from_pipe_of_an_offloaded_pipeline(pipe, crops):
    expected = restore(pipe, crops, aligned=True)
    pipe.enable_model_cpu_offload(device="cpu")
    other = KeepPipeline.from_pipe(pipe)
    other.enable_model_cpu_offload(device="cpu")
    np.testing.assert_array_equal(restore(other, crops, aligned=True), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_pipeline_is_converted_to_half_precision(pipe, crops, dtype):
    expected = restore(pipe, crops, aligned=True).astype(int)
    pipe.to(dtype)
    assert {pipe.vq.dtype, pipe.kalman.dtype, pipe.flow.dtype} == {dtype}
    restored = restore(pipe, crops, aligned=True)
    assert restored.std() > 10
    assert np.abs(restored - expected).mean() < 40  # random weights: rounding changes some codes


def test_types_by_component(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = KeepPipeline.from_pretrained(tmp_path, dtype={"vq": torch.bfloat16, "default": torch.float32})
    assert (loaded.vq.dtype, loaded.kalman.dtype, loaded.flow.dtype) == (torch.bfloat16, torch.float32, torch.float32)


@pytest.mark.parametrize("offload_type", ["leaf_level", "block_level"])
def test_group_offloading_of_all_components(pipe, crops, offload_type, tmp_path):
    expected = restore(pipe, crops, aligned=True).astype(int)
    pipe.enable_group_offload(
        torch.device("cpu"),
        offload_type=offload_type,
        num_blocks_per_group=1,
        offload_to_disk_path=str(tmp_path),
    )
    assert np.abs(restore(pipe, crops, aligned=True) - expected).max() <= 1


def test_weights_of_all_components_in_8_bits(pipe, crops):
    for name in ("vq", "kalman", "flow"):
        getattr(pipe, name).enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    assert restore(pipe, crops, aligned=True).std() > 10
