"""Degradations for training: each kind, every codec, and the fast form of the paper's against the reference."""

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from conftest import make_clip
from keep_hf.degrade import Degradation, degrade_frames
from training.data.degradations.clips import DegradationShares, degrade_clip
from training.data.degradations.codecs import COMPRESSIONS, compress, encode_jpegs, encode_mpeg, through_codec
from training.data.degradations.paper import degrade_as_paper
from training.data.degradations.real import degrade_as_enlarged, draw_blur
from training.data.packed_faces import change_colours


# Only blur and shrinking: the codec is lossless but for its chroma
BLUR_ONLY = Degradation(blur_sigma=(4, 4), noise_sigma=(0, 0), crf=(0, 0), resize_probabilities=(1, 0, 0))


@pytest.fixture(scope="module")
def smooth() -> np.ndarray:
    """A clip of large shapes, like faces: `make_clip` with less of its fine noise."""
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in make_clip(2, 512, 512)])


def shares(**kinds: float) -> DegradationShares:
    return DegradationShares(**{name: kinds.get(name, 0.0) for name in ("clear", "paper", "enlarged", "real")})


@pytest.mark.parametrize("kind", ["clear", "paper", "enlarged", "real"])
@pytest.mark.parametrize("seed", range(3))
def test_a_degraded_clip_has_its_shape_and_depends_on_the_seed_only(smooth, kind, seed):
    first, again = (degrade_clip(smooth, np.random.default_rng(seed), shares(**{kind: 1.0})) for _ in range(2))
    assert first.shape == smooth.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - smooth).mean() < 40
    assert (first != smooth).any() or kind == "clear"


def test_shares_that_do_not_add_up_to_1_are_rejected():
    with pytest.raises(ValueError, match="must add up to 1"):
        DegradationShares(clear=0.5)
    with pytest.raises(ValueError, match="must not be negative"):
        DegradationShares(clear=-0.1, paper=0.68)


# Codecs


@pytest.mark.parametrize("kind", COMPRESSIONS)
@pytest.mark.parametrize("side", [57, 66])
def test_every_codec_returns_all_frames(kind, side, monkeypatch):
    monkeypatch.setattr("training.data.degradations.codecs.COMPRESSIONS", {kind: 1.0})
    clip = make_clip(3, side, side)
    compressed = compress(clip, np.random.default_rng(0))
    assert compressed.shape[0] == 3
    assert kind == "h264 twice" or compressed.shape == clip.shape
    assert (compressed.shape != clip.shape or (compressed != clip).any()) == (kind != "none")


def test_codecs_keep_the_mean_colour():
    # A network would learn to undo a shift, and then shift the colours of real videos.
    colours = np.random.default_rng(0).integers(20, 236, (4, 4, 3), dtype=np.uint8)
    clip = cv2.resize(colours, (256, 256), interpolation=cv2.INTER_CUBIC)[None]
    coded = through_codec(clip, "libx264", {"crf": "8"})
    assert np.abs((coded.astype(np.float32) - clip).mean(axis=(0, 1, 2))).max() < 0.2


def test_the_probabilities_of_the_codecs_add_up_to_1():
    assert sum(COMPRESSIONS.values()) == pytest.approx(1)
    assert ("hevc" in COMPRESSIONS) == ("libx265" in av.codecs_available)


def test_the_quality_of_jpegs_may_change_from_frame_to_frame(smooth):
    clip = np.repeat(smooth[:1], 3, axis=0)
    good, poor, same = np.abs(
        encode_jpegs(clip, np.array([95, 10, 10]), np.random.default_rng(0)).astype(int) - clip
    ).mean((1, 2, 3))
    assert good < poor / 2
    assert poor == same


def test_jpegs_keep_the_colours_of_rgb():
    red = np.zeros((1, 32, 32, 3), np.uint8)
    red[..., 0] = 200
    decoded = encode_jpegs(red, np.array([90.0]), np.random.default_rng(0))
    assert np.abs(decoded.astype(int) - red).max() < 6


def test_mpeg_at_a_rate_changes_its_quality_within_a_clip(smooth):
    class LowRate(np.random.Generator):
        def random(self) -> float:
            return 0.9  # not a constant quantizer

    clip = np.stack([np.roll(smooth[0, :256, :256], (7 * i, 11 * i), (0, 1)) for i in range(8)])
    coded = encode_mpeg(clip, "mpeg2video", LowRate(np.random.PCG64(3)))
    errors = np.abs(coded.astype(int) - clip).mean((1, 2, 3))
    assert errors.max() > 1.1 * errors.min()


# The paper's degradation


@pytest.mark.parametrize("isotropic", [0.0, 1.0])
@pytest.mark.parametrize("sigma", [1.0, 4.0, 8.0])
def test_the_fast_blur_is_that_of_the_reference(smooth, isotropic, sigma):
    ranges = replace(BLUR_ONLY, blur_sigma=(sigma, sigma), isotropic_probability=isotropic)
    reference = degrade_frames(smooth, ranges, seed=0)
    fast = degrade_as_paper(smooth, ranges, np.random.default_rng(0))
    assert fast.shape == reference.shape == (2, 128, 128, 3)
    assert np.square(fast.astype(float) - reference).mean() < 0.5  # 51 dB


@pytest.mark.parametrize("interpolation", range(3))
def test_the_noise_that_remains_is_that_of_the_reference(interpolation):
    grey = np.full((4, 512, 512, 3), 128, np.uint8)
    chosen = tuple(float(i == interpolation) for i in range(3))
    ranges = replace(BLUR_ONLY, noise_sigma=(10, 10), resize_probabilities=chosen, grey_noise_probability=1.0)
    deviations = [
        frames.astype(float).std()
        for frames in (
            degrade_frames(grey, ranges, seed=0),
            degrade_as_paper(grey, ranges, np.random.default_rng(0)),
        )
    ]
    assert deviations[1] == pytest.approx(deviations[0], rel=0.02)


# Real videos


def test_an_enlarged_face_has_steeper_edges_than_an_enlargement_without_sharpening(smooth, monkeypatch):
    def steepest(frames: np.ndarray) -> float:
        large = cv2.resize(frames[0], (512, 512), interpolation=cv2.INTER_LINEAR)
        return float(np.abs(np.diff(large.astype(float), axis=1)).mean())

    monkeypatch.setattr("training.data.degradations.real.compress", lambda frames, random: frames)
    sharpened = [steepest(degrade_as_enlarged(smooth, np.random.default_rng(seed))) for seed in range(6)]
    monkeypatch.setattr("training.data.degradations.real.sharpen", lambda frame, amount, sigma: frame)
    plain = [steepest(degrade_as_enlarged(smooth, np.random.default_rng(seed))) for seed in range(6)]
    assert all(a > b for a, b in zip(sharpened, plain, strict=True))


def test_the_kernel_of_a_motion_is_a_line_of_its_length():
    kernels = [draw_blur(np.random.default_rng(seed))[1] for seed in range(60)]
    kernels = [kernel for kernel in kernels if kernel is not None]
    assert len(kernels) > 5
    for kernel in kernels:
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        y, x = np.mgrid[-4:5, -4:5]
        spread = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=kernel.ravel(), ddof=0)
        small, large = np.linalg.eigvalsh(spread)
        # The variance along a line of length l is l^2 / 12.
        assert 1.8 < np.sqrt(12 * large) < 7.5
        assert small < large / 2


def test_some_clips_are_grey_and_some_sepia():
    clip = make_clip(1, 64, 64)
    luma = cv2.cvtColor(clip[0], cv2.COLOR_RGB2GRAY)
    tints = []
    for seed in range(200):
        changed = change_colours(clip, np.random.default_rng(seed))[0].astype(float)
        # In a grey clip the colour is a function of the luma.
        if all((changed[luma == level] == changed[luma == level][0]).all() for level in np.unique(luma)):
            tints.append(float((changed[..., 0] - changed[..., 2]).mean()))
    assert 8 < len(tints) < 40
    assert max(tints) > 25
