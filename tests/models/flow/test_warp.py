"""Warping of an image along a flow."""

import pytest
import torch

from keep_hf.models.flow.warp import warp


def random_image(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_warp_by_zero_is_the_image():
    image = random_image(2, 3, 5, 7)
    torch.testing.assert_close(warp(image, torch.zeros(2, 2, 5, 7)), image, atol=2e-6, rtol=0)


def test_warp_samples_where_the_flow_points_and_zero_outside():
    image = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
    one_right = torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, 3, 3)
    two_up = torch.tensor([0.0, -2.0])[None, :, None, None].expand(1, 2, 3, 3)
    half_right = 0.5 * one_right

    shifted_left = torch.tensor([[2.0, 3.0, 0.0], [5.0, 6.0, 0.0], [8.0, 9.0, 0.0]])
    shifted_down = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    between = torch.tensor([[1.5, 2.5, 1.5], [4.5, 5.5, 3.0], [7.5, 8.5, 4.5]])
    for flow, expected in ((one_right, shifted_left), (two_up, shifted_down), (half_right, between)):
        torch.testing.assert_close(warp(image, flow)[0, 0], expected, atol=1e-5, rtol=0)


def test_warp_keeps_the_dtype_and_has_gradients():
    image = random_image(1, 3, 16, 16)
    flow = torch.full((1, 2, 16, 16), 3.0, requires_grad=True)
    half = warp(image.bfloat16(), flow)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), warp(image, flow), atol=1e-2, rtol=0)
    warp(image, flow).sum().backward()
    assert flow.grad.abs().sum() > 0


def test_warp_refuses_a_flow_of_another_size():
    with pytest.raises(ValueError, match=r"\(1, 2, 16, 16\)"):
        warp(random_image(1, 3, 16, 16), torch.zeros(1, 2, 8, 8))
