"""DIS flow follows the conventions of the flow network."""

import cv2
import numpy as np
import pytest
import torch

from keep_hf.evaluation.metrics import find_flow, flicker
from keep_hf.models.flow.dis import DISFlow
from keep_hf.models.flow.warp import warp
from keep_hf.video.pixels import to_tensor


def texture(height: int = 160, width: int = 192) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.5), None, 0, 255, cv2.NORM_MINMAX)


def test_flow_goes_from_the_first_image_to_the_second():
    large = texture()
    now, before = large[8:136, 8:168], large[10:138, 3:163]  # what is at x now is at x + 5 before, and at y - 2
    flow = DISFlow()(to_tensor(now)[None], to_tensor(before)[None]).flow
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


def test_a_search_at_half_the_resolution_returns_the_flow_of_the_whole(tmp_path):
    large = cv2.resize(texture(), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    now, before = large[16:272, 16:336], large[20:276, 6:326]
    DISFlow(160).save_pretrained(tmp_path)
    flow = DISFlow.from_pretrained(tmp_path)
    assert flow.side == 160
    found = flow.flow_between_frames(torch.stack([to_tensor(before), to_tensor(now), to_tensor(now)])[None])
    assert found.shape == (1, 2, 2, 256, 320)
    inner = found[0, 0, :, 32:-32, 32:-32]
    assert inner[0].median().item() == pytest.approx(10, abs=0.3)
    assert inner[1].median().item() == pytest.approx(-4, abs=0.3)
    assert found[0, 1].abs().max() < 0.1


def test_a_folder_without_its_configuration_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="no config"):
        DISFlow.from_pretrained(tmp_path)


def test_dis_in_clips_is_dis_on_pairs():
    frames = torch.rand(2, 3, 3, 32, 48) * 2 - 1
    flow = DISFlow()
    flows = flow.flow_between_frames(frames)
    assert flows.shape == (2, 2, 2, 32, 48)
    assert torch.equal(flows[1, 1], flow(frames[1:, 2], frames[1:, 1]).flow[0])
    assert flow.flow_between_frames(frames[:, :1]).shape == (2, 0, 2, 32, 48)
