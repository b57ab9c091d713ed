"""Smoothing of landmarks along time: the published filter."""

import numpy as np
import pytest

from keep_hf.faces.tracking.smoothing import smooth_landmarks


def test_smoothing_is_a_convolution_with_mirrored_ends():
    values = np.random.default_rng(0).normal(size=(9, 10))
    sigma, radius = 1.5, 6
    expected = np.zeros_like(values)
    for t in range(9):
        total = 0.0
        for offset in range(-radius, radius + 1):
            weight = np.exp(-(offset**2) / (2 * sigma**2))
            place = t + offset
            # ... 2 1 0 | 0 1 2 ... 7 8 | 8 7 6 ...
            place = -1 - place if place < 0 else 17 - place if place > 8 else place
            expected[t] += weight * values[place]
            total += weight
        expected[t] /= total
    np.testing.assert_allclose(smooth_landmarks(values, sigma), expected, atol=1e-12)
    np.testing.assert_allclose(smooth_landmarks(values.reshape(9, 5, 2), sigma).reshape(9, 10), expected, atol=1e-12)


def test_smoothing_of_a_step_has_the_published_values():
    """The values of scipy.ndimage.gaussian_filter1d(step, 5)."""
    expected = [0.0, 0.028490011931350746, 0.4601041715560248, 0.5398958284439753, 0.9823086145534988, 1.0]
    step = np.repeat([0.0, 1.0], 30)[:, None]
    smooth = smooth_landmarks(step, 5.0)[:, 0]
    np.testing.assert_allclose(smooth[[0, 20, 29, 30, 40, 59]], expected, atol=1e-12)


def test_clips_shorter_than_the_filter_and_sigma_of_zero():
    np.testing.assert_allclose(smooth_landmarks(np.full((1, 10), 3.0), 5.0), 3.0)
    np.testing.assert_allclose(smooth_landmarks(np.arange(20.0).reshape(2, 10), 0.0), np.arange(20.0).reshape(2, 10))
    with pytest.raises(ValueError, match="sigma"):
        smooth_landmarks(np.zeros((3, 10)), -1.0)
