"""Images to tensors and back: every level survives, in every memory layout."""

import numpy as np
import pytest
import torch

from keep_hf.video.pixels import to_images, to_tensor


CLIP = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
LEVELS = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)


def test_images_survive_the_round_trip():
    tensor = to_tensor(CLIP)
    assert tensor.shape == (3, 3, 6, 8)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    np.testing.assert_array_equal(to_images(tensor), CLIP)
    np.testing.assert_array_equal(to_images(to_tensor(CLIP[0])), CLIP[0])
    np.testing.assert_array_equal(to_images(to_tensor(CLIP[None])), CLIP[None])


def test_levels_are_those_of_the_published_code():
    expected = (torch.arange(256).float() / 255 - 0.5) / 0.5
    assert torch.equal(to_tensor(LEVELS)[0].flatten(), expected)
    assert (expected[0], expected[-1]) == (-1, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    tensor = to_tensor(CLIP, dtype=dtype)
    assert torch.equal(tensor, to_tensor(CLIP).to(dtype))
    assert np.abs(to_images(tensor).astype(int) - CLIP).max() <= 1


@pytest.mark.filterwarnings("error")
def test_any_memory_layout_is_accepted():
    read_only = CLIP.copy()
    read_only.flags.writeable = False
    for images, expected in (
        (list(CLIP), CLIP),
        (tuple(CLIP), CLIP),
        (CLIP[:, :, ::-1], CLIP[:, :, ::-1]),
        (CLIP[..., ::-1], CLIP[..., ::-1]),
        (CLIP.transpose(0, 2, 1, 3), CLIP.transpose(0, 2, 1, 3)),
        (read_only, CLIP),
    ):
        np.testing.assert_array_equal(to_images(to_tensor(images)), expected)


def test_images_are_not_changed():
    images = CLIP.copy()
    to_tensor(images).fill_(0)
    np.testing.assert_array_equal(images, CLIP)


def test_values_outside_the_range_are_clamped_and_halves_rounded():
    tensor = torch.tensor([-3.0, 0.0, 3.0]).reshape(3, 1, 1)
    assert to_images(tensor).ravel().tolist() == [0, 128, 255]
