"""Metrics against values that were worked out by hand or by another implementation."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

import keep_hf
from conftest import make_clip
from keep_hf import GMFlow
from keep_hf.evaluation.metrics import (
    find_flow,
    flicker,
    identity_similarity,
    landmark_distance,
    landmark_jitter,
    lpips_distance,
    psnr,
    ssim,
)
from stand_ins import Angle, KnownFlow, WhitePixels, flat, untrained_lpips, white_pixels


def test_psnr_of_known_differences():
    truth = make_clip(1, 40, 32)[0].clip(20, 200)
    everywhere, red, half = truth.copy(), truth.copy(), truth.copy()
    everywhere += 5
    red[..., 0] += 6
    half[::2] -= 8
    for restored, mse in ((everywhere, 25), (red, 36 / 3), (half, 64 / 2)):
        assert psnr(restored, truth) == pytest.approx(10 * math.log10(255**2 / mse))
    assert psnr(everywhere, truth) == pytest.approx(34.1514, abs=1e-4)
    assert psnr(truth, truth) == math.inf


def written_out_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al., 2004, on one channel: 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255."""
    places = np.arange(-5, 6)
    window = np.exp(-(places[:, None] ** 2 + places**2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = (sliding_window_view(x.astype(np.float64), (11, 11)) for x in (a, b))

    def weigh(x):
        return (x * window).sum(axis=(2, 3))

    mean_a, mean_b = weigh(a), weigh(b)
    variance_a, variance_b = weigh(a * a) - mean_a**2, weigh(b * b) - mean_b**2
    covariance = weigh(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return np.mean(luminance * (2 * covariance + c2) / (variance_a + variance_b + c2))


def test_ssim_is_the_published_equation():
    truth = make_clip(1, 40, 32)[0]
    noise = np.random.default_rng(0).normal(0, 15, truth.shape)
    restored = np.clip(truth + noise, 0, 255).astype(np.uint8)
    expected = np.mean([written_out_ssim(restored[..., c], truth[..., c]) for c in range(3)])
    assert ssim(restored, truth) == pytest.approx(expected, rel=1e-6)
    # Without texture only the means count.
    a, b, c1 = 60, 180, 2.55**2
    assert ssim(*flat(a, b)) == pytest.approx((2 * a * b + c1) / (a**2 + b**2 + c1))


def test_lpips_takes_levels_from_minus_1_to_1():
    network = untrained_lpips()
    frame, truth = make_clip(1, 40, 40, seed=1)[0], make_clip(1, 40, 40, seed=2)[0]
    tensors = [torch.tensor(x.transpose(2, 0, 1)[None] / 255 * 2 - 1, dtype=torch.float32) for x in (frame, truth)]
    assert lpips_distance(network, frame, truth) == pytest.approx(network(*tensors).item(), rel=1e-4)


def test_identity_similarity_is_the_cosine():
    assert identity_similarity(Angle(), *flat(40, 100)) == pytest.approx(0.5)


def test_landmark_distance_is_in_pixels_of_a_face_of_512():
    truth, restored = white_pixels((10, 10), (30, 40)), white_pixels((13, 14), (30, 41))
    # The points differ by 5 and by 1 of 64 pixels.
    assert landmark_distance(WhitePixels(), restored, truth) == pytest.approx(3 * 8)


def test_landmark_jitter_of_noise_is_the_noise():
    noise = np.random.default_rng(0).normal(0, 0.7, (3, 100_000, 2))
    assert landmark_jitter(*noise) == pytest.approx(math.sqrt(2) * 0.7, rel=0.01)


@pytest.mark.parametrize(
    ("height", "width", "expected_size"), [(512, 256, (512, 256)), (600, 1024, (304, 512)), (50, 30, (48, 32))]
)
def test_flow_of_any_size(height, width, expected_size):
    flow = KnownFlow(1, -2)
    frame = np.zeros((height, width, 3), np.uint8)
    field = find_flow(flow, frame, frame)
    assert flow.shown[0][0].shape == (1, 3, *expected_size)
    expected = torch.tensor([width / expected_size[1], -2 * height / expected_size[0]])[None, :, None, None]
    torch.testing.assert_close(field, expected.expand(1, 2, height, width))


def test_flicker_is_nan_if_all_pixels_come_from_outside():
    frame = np.zeros((16, 16, 3), np.uint8)
    assert math.isnan(flicker(frame, frame, torch.full((1, 2, 16, 16), 100.0)))


def test_the_flow_network_of_the_package_explains_motion():
    flow = GMFlow.from_pretrained(Path(keep_hf.__file__).parent / "checkpoints" / "keep-tiny" / "flow").eval()
    smooth = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    large = np.kron(smooth, np.ones((8, 8, 1))).astype(np.uint8)
    previous, frame = (large[:128, 8 - 4 * t : 136 - 4 * t] for t in range(2))
    explained = flicker(frame, previous, find_flow(flow, frame, previous))
    assert explained < 0.4 * flicker(frame, previous, torch.zeros(1, 2, 128, 128))
