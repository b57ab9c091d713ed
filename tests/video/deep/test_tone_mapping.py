"""The tone mapping between HDR and the range of the networks: known values of the standards, and its inverse."""

import numpy as np
import pytest

from keep_hf.video.deep.tone_mapping import DISPLAY_GAMMA, HLG, PQ, ToneMapping


def grey(*values: float) -> np.ndarray:
    return np.repeat(np.array(values, np.float32)[None, :, None], 3, axis=2)


def curve(light: float, white: float) -> float:
    """The SDR signal of a light in units of the reference white."""
    return (light * (1 + light / white**2) / (1 + light)) ** (1 / DISPLAY_GAMMA)


# ITU-R BT.2408, table 1: HDR reference white of 203 nits is 58 % of PQ and 75 % of HLG.  ST 2084: 100 nits are 50.8 %.
@pytest.mark.parametrize(
    ("transfer", "signal", "nits", "peak"),
    [
        (PQ, 0.5807, 203, 10000),
        (PQ, 0.5081, 100, 10000),
        (PQ, 1, 10000, 10000),
        (HLG, 0.75, 203, 1000),
        (HLG, 1, 1000, 1000),
    ],
)
def test_known_levels_of_light(transfer, signal, nits, peak):
    result = ToneMapping(transfer).to_sdr(grey(signal))
    assert np.ptp(result) < 1e-3  # grey stays grey
    assert result.mean() == pytest.approx(curve(nits / 203, peak / 203), abs=2e-3)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_black_and_peak_are_those_of_the_standard_range(transfer):
    result = ToneMapping(transfer).to_sdr(grey(0, 1))[0, :, 0]
    assert result == pytest.approx([0, 1], abs=1e-3)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_the_inverse_is_exact_to_a_tenth_of_a_level(transfer):
    signal = np.random.default_rng(0).uniform(0.15, 0.75, (64, 64, 3)).astype(np.float32)
    sdr = ToneMapping(transfer).to_sdr(signal)
    assert sdr.min() < 0  # colours outside of BT.709 are part of it
    assert np.abs(ToneMapping(transfer).to_signal(sdr) - signal).max() * 1023 < 0.1


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_images_of_8_bits_agree_with_the_exact_values(transfer):
    signal = np.random.default_rng(1).integers(0, 65536, (32, 32, 3), dtype=np.uint16)
    exact = ToneMapping(transfer).to_sdr(signal / np.float32(65535))
    assert np.abs(ToneMapping(transfer).to_sdr_image(signal) - np.clip(exact * 255, 0, 255)).max() < 0.51
