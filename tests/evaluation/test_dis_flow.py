"""DIS flow follows the conventions of the flow network."""

import cv2
import numpy as np
import pytest
import torch

from keep_hf.evaluation.dis_flow import DISFlow
from keep_hf.evaluation.metrics import find_flow, flicker
from keep_hf.models.flow.warp import warp
from keep_hf.video.pixels import to_tensor


def texture(height: int = 160, width: int = 192) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.5), None, 0, 255, cv2.NORM_MINMAX)


def test_flow_goes_from_the_first_image_to_the_second():
    large = texture()
    now, before = large[8:136, 8:168], large[10:138, 3:163]  # what is at x now is at x + 5 before, and at y - 2
    flow = DISFlow()(to_tensor(now)[None], to_tensor(before)[None])
    assert flow.shape == (1, 2, 128, 160)
    assert flow.dtype == torch.float32
    inner = flow[0, :, 16:-16, 16:-16]
    assert inner[0].median().item() == pytest.approx(5, abs=0.1)
    assert inner[1].median().item() == pytest.approx(-2, abs=0.1)
    moved = warp(to_tensor(before)[None], flow)
    assert (moved - to_tensor(now)[None])[..., 16:-16, 16:-16].abs().mean() < 0.02


def test_flicker_with_dis_is_what_motion_does_not_explain():
    large = texture()
    now, before = large[8:136, 8:168], large[10:138, 3:163]
    still = flicker(now, before, torch.zeros(1, 2, 128, 160))
    moved = flicker(now, before, find_flow(DISFlow(), now, before))
    assert moved < 2 < 15 < still
