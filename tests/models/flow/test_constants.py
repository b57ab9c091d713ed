"""Constants that are kept between calls, and graphs that must not keep them."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

from keep_hf import GMFlow
from keep_hf.models.flow.warp import pixel_grid


CPU = torch.device("cpu")


def test_a_constant_is_computed_once():
    assert pixel_grid(5, 7, CPU) is pixel_grid(5, 7, CPU)
    assert pixel_grid(7, 5, CPU).shape == (1, 2, 7, 5)


def test_a_constant_of_inference_can_be_used_in_training():
    with torch.inference_mode():
        pixel_grid(3, 11, CPU)
    weight = torch.ones(1, requires_grad=True)
    (pixel_grid(3, 11, CPU) * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("called_before", [False, True])
def test_modes_that_replace_tensors_neither_use_nor_leave_a_constant(called_before):
    size = (4, 13 + called_before, CPU)
    if called_before:
        pixel_grid(*size)
    with FakeTensorMode() as mode:
        assert pixel_grid(*size).fake_mode is mode
    assert type(pixel_grid(*size)) is torch.Tensor


def test_flow_is_the_same_before_during_and_after_an_export():
    torch.manual_seed(0)
    flow = GMFlow(backbone_channels=(8, 8, 16), feature_channels=16, num_layers=2, upsampler_channels=16).eval()
    images = torch.rand(2, 1, 3, 48, 80)
    program = torch.export.export(flow, tuple(images))
    with torch.no_grad():
        after = flow(*images).flow
        assert type(after) is torch.Tensor
        torch.testing.assert_close(program.module()(*images).flow, after, atol=1e-3, rtol=0)
        again = torch.export.export(flow, tuple(images)).module()(*images).flow
    torch.testing.assert_close(again, after, atol=1e-3, rtol=0)
