"""The degradation of the paper: reproducible, ordered by strength, at the true frame rate."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from keep_hf.degrade import LEVELS, TRAINING, Degradation, degrade_frames, degrade_video
from keep_hf.video.reader import VideoReader
from media import gradient, packets, write_clip


SHARP = Degradation(blur_sigma=(0.01, 0.01), noise_sigma=(0, 0), scale=1, crf=(4, 4))


def textured_clip(num_frames: int = 6, size: int = 512) -> np.ndarray:
    """Stripes and blobs of several sizes that move two pixels per frame."""
    y, x = np.mgrid[:size, : size + 2 * num_frames]
    pattern = sum(np.sin(x / wavelength) * np.cos(y / wavelength / 1.3) for wavelength in (2, 4, 8, 16, 40))
    image = np.stack([128 + 24 * pattern, 118 + 20 * np.roll(pattern, 9, axis=1), 108 + 16 * pattern[::-1]], axis=-1)
    image = np.clip(image, 0, 255).astype(np.uint8)
    return np.stack([image[:, 2 * index : 2 * index + size] for index in range(num_frames)])


def psnr(degraded: np.ndarray, sharp: np.ndarray) -> float:
    size = (sharp.shape[2], sharp.shape[1])
    enlarged = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in degraded])
    return float(10 * np.log10(255**2 / np.mean((enlarged.astype(float) - sharp) ** 2)))


def test_equal_seeds_give_equal_clips_and_other_seeds_do_not():
    # x264 itself is not reproducible at widths, as 104, that are not a multiple of 128 (see REPRODUCIBLE).
    frames = textured_clip(3)[:, :416, :416]
    first = degrade_frames(frames, "medium", seed=7)
    assert first.dtype == np.uint8
    assert first.shape == (3, 104, 104, 3)
    for _ in range(8):
        assert np.array_equal(first, degrade_frames(frames, "medium", seed=7))
    assert not np.array_equal(first, degrade_frames(frames, "medium", seed=8))


def test_levels_are_ordered_by_strength():
    sharp = textured_clip()
    for seed in range(3):
        mild, medium, heavy = (psnr(degrade_frames(sharp, level, seed=seed), sharp) for level in LEVELS)
        assert mild > medium + 0.2 > heavy + 0.4


def test_levels_are_within_the_published_range():
    assert list(LEVELS) == ["mild", "medium", "heavy"]
    for name in ("blur_sigma", "noise_sigma", "crf"):
        ranges = [getattr(level, name) for level in LEVELS.values()]
        assert ranges[0][0] == getattr(TRAINING, name)[0]
        assert ranges[-1][1] == getattr(TRAINING, name)[1]
        assert ranges == sorted(ranges)
    for level in LEVELS.values():
        assert replace(level, blur_sigma=(2, 10), noise_sigma=(0, 10), crf=(14, 33)) == TRAINING


def test_each_step_has_an_effect():
    sharp = textured_clip(2, 128)
    untouched = psnr(degrade_frames(sharp, SHARP, seed=0), sharp)
    blurred = psnr(degrade_frames(sharp, replace(SHARP, blur_sigma=(2, 2)), seed=0), sharp)
    noisy = psnr(degrade_frames(sharp, replace(SHARP, noise_sigma=(5, 5)), seed=0), sharp)
    compressed = psnr(degrade_frames(sharp, replace(SHARP, crf=(40, 40)), seed=0), sharp)
    assert untouched > 35
    assert blurred < 33
    # Two additions of sigma 5: 255 / (5 sqrt(2)) is 31.1 dB.
    assert noisy == pytest.approx(31.1, abs=1.5)
    assert compressed < 32


def test_blur_is_centred_and_keeps_brightness():
    point = np.zeros((1, 65, 65, 3), np.uint8)
    point[0, 32, 32] = 255
    flat = np.full((1, 65, 65, 3), 120, np.uint8)
    for seed in range(4):
        degradation = replace(SHARP, blur_sigma=(1, 3), isotropic_probability=0)
        response = degrade_frames(point, degradation, seed=seed)[0].astype(float).sum(axis=-1)
        y, x = np.mgrid[:65, :65]
        assert (response * x).sum() / response.sum() == pytest.approx(32, abs=0.6)
        assert (response * y).sum() / response.sum() == pytest.approx(32, abs=0.6)
        assert np.abs(degrade_frames(flat, degradation, seed=seed).astype(int) - 120).max() <= 2


def test_colours_pass_the_codec_unchanged():
    colours = np.random.default_rng(0).integers(20, 236, (4, 4, 3), dtype=np.uint8)
    clip = np.repeat(cv2.resize(colours, (256, 256), interpolation=cv2.INTER_CUBIC)[None], 2, axis=0)
    shift = degrade_frames(clip, SHARP, seed=0).astype(np.float32) - clip
    # swscale's own conversion darkens by more than a level.
    assert np.abs(shift.mean(axis=(0, 1, 2))).max() < 0.2


def test_one_blur_per_clip_and_new_noise_per_frame():
    still = np.repeat(textured_clip(1), 3, axis=0)
    clean = degrade_frames(still, replace(TRAINING, noise_sigma=(0, 0), crf=(4, 4)), seed=1).astype(int)
    assert np.abs(clean[1:] - clean[0]).mean() < 1.5
    noisy = degrade_frames(still, replace(TRAINING, noise_sigma=(10, 10), crf=(4, 4)), seed=1).astype(int)
    assert np.abs(noisy[1:] - noisy[0]).mean() > 4


def test_codec_uses_the_true_frame_rate():
    # x264 allocates more bits to frames that are shown longer: CRF 36 at 1 frame per second is CRF 25 at 25.
    sharp = textured_clip(8, 256)
    at_25 = psnr(degrade_frames(sharp, replace(SHARP, crf=(25, 25)), seed=0, frame_rate=25), sharp)
    at_1 = psnr(degrade_frames(sharp, replace(SHARP, crf=(25, 25)), seed=0, frame_rate=1), sharp)
    official = psnr(degrade_frames(sharp, replace(SHARP, crf=(36, 36)), seed=0, frame_rate=1), sharp)
    assert at_1 > at_25 + 2
    assert official == pytest.approx(at_25, abs=0.3)
    assert np.array_equal(
        degrade_frames(sharp[:2], SHARP, seed=0, frame_rate=Fraction(25)),
        degrade_frames(sharp[:2], SHARP, seed=0),
    )


@pytest.mark.parametrize(("num_frames", "height", "width"), [(1, 512, 512), (2, 500, 204), (3, 67, 389), (60, 64, 64)])
def test_odd_sizes_and_lengths(num_frames, height, width):
    frames = np.stack([gradient(index, width, height) for index in range(num_frames)])
    degraded = degrade_frames(frames, "medium", seed=3)
    assert degraded.shape == (num_frames, round(height / 4), round(width / 4), 3)
    means = degraded.mean(axis=(1, 2, 3))
    assert np.allclose(means, frames.mean(axis=(1, 2, 3)), atol=6)
    assert (np.diff(means) > 0).all()  # all frames, in order
    assert np.abs(degraded[0, -1].astype(int) - degraded[0, -2]).mean() < 15  # no padding is visible at the edge


def test_other_face_sizes_are_degraded_alike():
    half = TRAINING.at_size(256)
    assert half == replace(TRAINING, blur_sigma=(1, 5), kernel_size=11, scale=2)
    assert TRAINING.at_size(512) == TRAINING
    sharp = textured_clip(2)
    small = np.stack([cv2.resize(frame, (256, 256), interpolation=cv2.INTER_AREA) for frame in sharp])
    large = degrade_frames(sharp, replace(LEVELS["medium"], noise_sigma=(0, 0)), seed=0)
    other = degrade_frames(small, replace(LEVELS["medium"], noise_sigma=(0, 0)).at_size(256), seed=0)
    assert large.shape == other.shape
    assert np.abs(large.astype(int) - other).mean() < 4
    with pytest.raises(ValueError, match="face_size must be at least 128"):
        TRAINING.at_size(100)


def test_invalid_arguments():
    frames = textured_clip(1, 128)
    for arguments, message in (
        ((frames.astype(np.float32), "mild"), r"uint8 array of shape \(t, h, w, 3\), got float32 \(1, 128, 128, 3\)"),
        ((frames[0], "mild"), r"got uint8 \(128, 128, 3\)"),
        ((list(frames), "mild"), "got list"),
        ((frames[:0], "mild"), "at least one frame"),
        ((frames, "awful"), "one of mild, medium, heavy or a Degradation, got 'awful'"),
        ((frames[:, :40], "mild"), "128 x 40 are too small"),
    ):
        with pytest.raises(ValueError, match=message):
            degrade_frames(*arguments, seed=0)
    with pytest.raises(ValueError, match="seed must not be negative, got -1"):
        degrade_frames(frames, "mild", seed=-1)
    with pytest.raises(ValueError, match="frame_rate must be positive, got 0"):
        degrade_frames(frames, "mild", seed=0, frame_rate=0)
    for options, message in (
        ({"blur_sigma": (0, 2)}, "blur_sigma"),
        ({"noise_sigma": (5, 2)}, "noise_sigma"),
        ({"crf": (20, 60)}, "crf"),
        ({"kernel_size": 20}, "kernel_size must be a positive odd number"),
        ({"scale": 0.5}, "scale must be at least 1"),
        ({"resize_probabilities": (1, 1, 1)}, "add up to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Degradation(**options)


def test_video_file(tmp_path):
    source = write_clip(
        tmp_path / "in.mp4", width=256, height=192, frame_rate=Fraction(30000, 1001), audio_codec="aac", num_frames=20
    )
    for name, seed in (("out.mp4", 1), ("again.mp4", 1), ("other.mp4", 2)):
        degrade_video(source, tmp_path / name, "medium", seed=seed)
    reader = VideoReader(tmp_path / "out.mp4")
    assert (reader.width, reader.height, reader.frame_rate) == (64, 48, Fraction(30000, 1001))
    assert packets(source, "audio") == packets(tmp_path / "out.mp4", "audio")
    before, after = list(VideoReader(source)), list(reader)
    assert [frame.pts * frame.time_base for frame in before] == [frame.pts * frame.time_base for frame in after]
    assert np.allclose([frame.image.mean() for frame in before], [frame.image.mean() for frame in after], atol=4)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()
    assert (tmp_path / "out.mp4").read_bytes() != (tmp_path / "other.mp4").read_bytes()
    with pytest.raises(ValueError, match="WebM does not support"):
        degrade_video(source, tmp_path / "out.webm", "mild")
