"""Alignment compared with the published script (golden data); properties of crops and pastes."""

import json

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from keep_hf.faces.alignment import (
    BORDER_COLOUR,
    TEMPLATE,
    colour_offset,
    crop_face,
    estimate_alignment,
    is_grey,
    paste_face,
    to_grey,
)
from paths import SHARED


GOLDEN = SHARED / "reference" / "golden"


def similarity(angle, scale, shift):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([turn, np.array(shift, float)[:, None]], axis=1)


def apply(matrix, points):
    return points @ matrix[:, :2].T + matrix[:, 2]


def with_face(frame, *args, **kwargs):
    """A copy of the frame with a face in it."""
    result = frame.copy()
    paste_face(result, *args, **kwargs)
    return result


@pytest.fixture
def frame():
    """Smooth colour everywhere, so that interpolation alone changes little."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)


@pytest.mark.skipif(not (GOLDEN / "alignment.json").exists(), reason="the golden data of ../shared is missing")
def test_crops_equal_those_of_the_published_script():
    golden = load_file(str(GOLDEN / "alignment.safetensors"))
    image = np.ascontiguousarray(golden["image_bgr_u8"][..., ::-1])
    for name, facts in json.loads((GOLDEN / "alignment.json").read_text())["sets"].items():
        matrix = estimate_alignment(np.array(facts["landmarks"]))
        np.testing.assert_allclose(matrix, golden[f"{name}.affine"], atol=1e-3)
        crop = crop_face(image, matrix)
        np.testing.assert_allclose(crop[::2, ::2, ::-1].astype(int), golden[f"{name}.crop_sub2"], atol=1)


def test_a_known_transform_is_found_despite_one_wrong_point():
    matrix = similarity(0.3, 1.7, (-80, -150))
    landmarks = apply(cv2.invertAffineTransform(matrix), TEMPLATE)
    landmarks[2] += (15, -9)
    np.testing.assert_allclose(estimate_alignment(landmarks), matrix, atol=1e-3)
    np.testing.assert_allclose(estimate_alignment(landmarks, 128), matrix / 4, atol=1e-3)


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.zeros((4, 2)), "shape"),
        (np.full((5, 2), np.nan), "finite"),
        (np.full((5, 2), 7.0) + np.linspace(0, 0.1, 10).reshape(5, 2), "within one pixel"),
    ],
)
def test_landmarks_that_cannot_be_aligned_are_rejected(landmarks, message):
    with pytest.raises(ValueError, match=message):
        estimate_alignment(landmarks)


def test_crop_outside_the_frame_has_the_border_colour(frame):
    crop = crop_face(frame, similarity(0, 1, (10_000, 0)), 64)
    assert (crop == BORDER_COLOUR).all()


def test_crop_averages_where_the_face_is_much_larger_than_the_crop():
    checks = np.indices((512, 512)).sum(axis=0) % 2 * 255
    checks = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
    matrix = similarity(0, 0.24, (0, 0))
    assert crop_face(checks, matrix, 96)[4:-4, 4:-4].std() < 20
    # The same crop, sampled at points, is full of aliasing.
    assert cv2.warpAffine(checks, matrix, (96, 96))[4:-4, 4:-4].std() > 40


@pytest.mark.parametrize("scale", [0.12, 0.3, 0.8, 2.3, 5.1])
def test_crop_and_paste_do_not_shift_pixels(scale):
    """A ramp shows any shift: the value of a pixel is its own x coordinate."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3)).copy()
    size = round(180 * scale)
    matrix = similarity(0.2, scale, (0, 0))
    matrix[:, 2] = (size - 1) / 2 - matrix[:, :2] @ (128, 128)
    rows, columns = np.mgrid[:size, :size]
    places = apply(cv2.invertAffineTransform(matrix), np.stack([columns, rows], axis=-1).reshape(-1, 2))
    crop = crop_face(ramp, matrix, size)
    np.testing.assert_allclose(crop[..., 0].reshape(-1), places[:, 0], atol=1.5)
    pasted = with_face(np.full_like(ramp, 128), crop, matrix, offset=np.zeros(3))
    difference = pasted[118:138, 108:148, 0].astype(int) - ramp[118:138, 108:148, 0]
    assert np.abs(difference).max() <= 2
    assert abs(difference.mean()) < 0.12


@pytest.mark.parametrize("size", [128, 512])
def test_crop_and_paste_back_change_little(frame, size):
    matrix = similarity(-0.25, size / 250, (0, 0))
    matrix[:, 2] = (size - 1) / 2 - matrix[:, :2] @ (330, 250)
    pasted = with_face(frame, crop_face(frame, matrix, size), matrix)
    difference = np.abs(pasted.astype(int) - frame)
    assert difference.max() <= 8
    assert difference.mean() < 0.2


def test_paste_does_not_change_pixels_outside_the_crop(frame):
    matrix = similarity(0.4, 1.6, (0, 0))
    matrix[:, 2] = 255.5 - matrix[:, :2] @ (300, 230)
    rows, columns = np.mgrid[:480, :640]
    inside = np.abs(apply(matrix, np.stack([columns, rows], axis=-1).reshape(-1, 2)) - 255.5).max(axis=1) < 255.5
    inside = inside.reshape(480, 640)
    pasted = with_face(frame, np.full((512, 512, 3), 255, np.uint8), matrix)
    assert (pasted[~inside] == frame[~inside]).all()
    assert (pasted[inside] != frame[inside]).mean() > 0.7
    assert (with_face(frame, np.full((512, 512, 3), 255, np.uint8), matrix, strength=0.0) == frame).all()


def test_strength_lies_between_frame_and_face():
    frame, face = np.full((200, 200, 3), 100, np.uint8), np.full((128, 128, 3), 160, np.uint8)
    matrix = similarity(0, 1, (-36, -36))
    whole, half = (with_face(frame, face, matrix, strength)[100, 100, 0] for strength in (1.0, 0.5))
    # The colour match changes the face by at most 12 levels.
    assert whole == 148
    assert half == 124


def test_no_seam_where_the_face_ends():
    frame, face = np.full((300, 300, 3), 60, np.uint8), np.full((512, 512, 3), 180, np.uint8)
    pasted = with_face(frame, face, similarity(0, 2, (-44, -44))).astype(int)
    steps = max(np.abs(np.diff(pasted[..., 0], axis=axis)).max() for axis in (0, 1))
    assert pasted.max() - pasted.min() > 100
    assert steps <= 6


def test_small_difference_of_colour_is_corrected(frame):
    frame = frame // 2 + 60
    matrix = similarity(0, 1, (-200, -120))
    face = crop_face(frame, matrix, 256)
    pasted = with_face(frame, face + np.array([8, 0, 4], np.uint8), matrix)
    assert np.abs(pasted.astype(int) - frame).max() <= 2


def test_face_that_grows_keeps_its_detail_without_ringing():
    """An image without detail finer than a crop pixel is reproduced; linear interpolation would blur it."""
    noise = np.random.default_rng(1).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    frame = cv2.GaussianBlur(cv2.resize(noise, (480, 480), interpolation=cv2.INTER_CUBIC), (0, 0), 4)
    matrix = similarity(0.2, 128 / 440, (0, 0))
    matrix[:, 2] = 63.5 - matrix[:, :2] @ (240, 240)
    crop = crop_face(frame, matrix, 128)
    middle = np.s_[140:340, 140:340]
    linear = cv2.warpAffine(crop, matrix, (480, 480), flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
    pasted = with_face(frame, crop, matrix)
    errors = [np.square(x[middle].astype(float) - frame[middle]).mean() for x in (pasted, linear)]
    assert errors[0] < errors[1] / 2

    step = np.full((128, 128, 3), 60, np.uint8)
    step[:, 64:] = 200
    pasted = with_face(np.full_like(frame, 128), step, matrix, offset=np.zeros(3))[middle]
    # Overshoot of at most an eighth of a hard step, within two pixels of the crop.
    assert pasted.min() >= 60 - 18
    assert pasted.max() <= 200 + 18
    away = np.abs(apply(matrix, np.stack(np.mgrid[140:340, 140:340][::-1], axis=-1).reshape(-1, 2))[:, 0] - 63.5) > 2.6
    assert set(pasted.reshape(-1, 3)[away].ravel()) == {60, 200}


def test_colour_offset_is_the_difference_of_the_means():
    crop = np.full((64, 64, 3), (90, 120, 150), np.uint8)
    face = np.full((64, 64, 3), (85, 122, 250), np.uint8)
    np.testing.assert_allclose(colour_offset(crop, face), (5, -2, -12), atol=1e-4)
    # Pixels outside the mask or outside the frame do not count.
    crop[:, :40] = 255
    mask = np.ones((64, 64), np.float32)
    mask[:, :40] = 0
    np.testing.assert_allclose(colour_offset(crop, face, mask), (5, -2, -12), atol=1e-4)
    crop[:, :40] = BORDER_COLOUR
    np.testing.assert_allclose(colour_offset(crop, face), (5, -2, -12), atol=1e-4)
    assert (colour_offset(crop, face, np.zeros((64, 64), np.float32)) == 0).all()


def test_a_given_offset_replaces_the_colour_match(frame):
    matrix = similarity(0, 1, (-200, -120))
    face = crop_face(frame // 2 + 60, matrix, 256)
    plain, moved = (with_face(frame, face, matrix, offset=np.array(offset)) for offset in ((0, 0, 0), (7, 0, -3.5)))
    change = moved[200:300, 280:380].astype(int) - plain[200:300, 280:380]
    # Half a level changes half of the pixels by one level: an offset that changes slowly does not jump.
    np.testing.assert_allclose(change.mean(axis=(0, 1)), (7, 0, -3.5), atol=0.1)
    matched = with_face(frame, face, matrix, offset=colour_offset(crop_face(frame, matrix, 256), face))
    assert (matched == with_face(frame, face, matrix)).all()


@pytest.mark.parametrize("scale", [0.4, 1, 2.5])
def test_pixels_outside_the_mask_are_unchanged(scale):
    size = round(200 * scale)
    frame, face = np.full((300, 300, 3), 60, np.uint8), np.full((size, size, 3), 180, np.uint8)
    matrix = similarity(0, scale, (0, 0))
    matrix[:, 2] = (size - 1) / 2 - matrix[:, :2] @ (150, 150)
    mask = np.ones((size, size), np.float32)
    mask[:, size // 2 :] = 0
    pasted = with_face(frame, face, matrix, offset=np.zeros(3), mask=mask)
    assert (pasted[:, 154:] == 60).all()
    whole = with_face(frame, face, matrix, offset=np.zeros(3))
    assert (pasted[:, :146] == whole[:, :146]).all()
    assert (whole[100:200, 100:200] == 180).all()
    half = with_face(frame, face, matrix, offset=np.zeros(3), mask=np.full((size, size), 0.5, np.float32))
    np.testing.assert_allclose(half.astype(int) - 60, (whole.astype(int) - 60) / 2, atol=1)


def test_mask_is_averaged_when_a_face_shrinks():
    frame, face = np.full((120, 120, 3), 60, np.uint8), np.full((512, 512, 3), 180, np.uint8)
    checks = (np.indices((512, 512)).sum(axis=0) % 2).astype(np.float32)
    matrix = similarity(0.1, 512 / 47, (0, 0))
    matrix[:, 2] = 255.5 - matrix[:, :2] @ (60, 60)
    pasted = with_face(frame, face, matrix, offset=np.zeros(3), mask=checks)
    assert np.abs(pasted[50:70, 50:70].astype(int) - 120).max() <= 3


def test_face_is_averaged_when_it_shrinks():
    frame = np.full((120, 120, 3), 128, np.uint8)
    checks = np.repeat((np.indices((512, 512)).sum(axis=0) % 2 * 255)[..., None], 3, axis=2).astype(np.uint8)
    for side in (64, 20, 4):
        scale = 512 / side
        pasted = with_face(frame, checks, similarity(0, scale, (-40.3 * scale, -40.3 * scale)))
        assert np.abs(pasted.astype(int) - 128).max() <= 40


@pytest.mark.parametrize("shift", [(-560, 100), (100, 180), (5_000, 0)])
def test_face_that_leaves_the_frame_is_cut_off(frame, shift):
    matrix = similarity(0, 1, shift)
    pasted = with_face(frame, np.full((256, 256, 3), 250, np.uint8), matrix)
    assert pasted.shape == frame.shape
    assert (pasted == frame).all() == (shift[0] == 5_000)


def test_invalid_pastes_are_rejected(frame):
    with pytest.raises(ValueError, match="face must have the shape"):
        paste_face(frame, np.zeros((4, 5, 3), np.uint8), similarity(0, 1, (0, 0)))
    with pytest.raises(ValueError, match="strength"):
        paste_face(frame, np.zeros((4, 4, 3), np.uint8), similarity(0, 1, (0, 0)), strength=1.5)
    with pytest.raises(ValueError, match=r"mask must have the shape \(4, 4\)"):
        paste_face(frame, np.zeros((4, 4, 3), np.uint8), similarity(0, 1, (0, 0)), mask=np.ones((8, 8), np.float32))


def test_grey_by_the_published_rule(frame):
    assert not is_grey(frame)
    grey = to_grey(frame)
    assert is_grey(grey)
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 0] == grey[..., 2]).all()
    # A constant tint is grey by this rule; the mean of three variances decides, at 10.
    assert is_grey(grey // 2 + np.array([30, 0, 10], np.uint8))
    waves = np.zeros((2, 2, 3), np.uint8)
    waves[0, :, 0] = 7  # Differences to red of 0 and 7: variance 12.25 twice, 0 once, mean 8.2.
    assert is_grey(waves)
    waves[0, :, 0] = 8  # Variance 16 twice, 0 once, mean 10.7.
    assert not is_grey(waves)
    assert is_grey(waves, limit=12)


def test_a_correction_keeps_the_detail_of_the_frame():
    """The crop has a quarter of the resolution of the frame, which keeps its own texture."""
    texture = np.random.default_rng(0).integers(60, 190, (400, 400, 3), dtype=np.uint8)
    matrix = np.array([[0.25, 0, 0], [0, 0.25, 0]])
    crop = crop_face(texture, matrix, 100)
    frame = texture.copy()
    paste_face(frame, crop, matrix, crop=crop)
    np.testing.assert_array_equal(frame, texture)
    paste_face(frame, crop + 8, matrix, crop=crop)
    np.testing.assert_allclose(frame[150:250, 150:250].astype(int) - texture[150:250, 150:250], 8, atol=1)


def test_a_correction_reaches_further_than_a_face_without_a_seam():
    frame, crop = np.full((512, 512, 3), 100, np.uint8), np.full((512, 512, 3), 100, np.uint8)
    corrected, replaced = frame.copy(), frame.copy()
    paste_face(corrected, crop + 20, np.eye(2, 3), crop=crop)
    paste_face(replaced, crop + 20, np.eye(2, 3), offset=np.zeros(3))
    inside = slice(36, -36)  # 0.86 of the half side
    np.testing.assert_array_equal(corrected[256, inside], 120)
    assert replaced[256, 36, 0] < 110
    assert np.abs(np.diff(corrected[256, :, 0].astype(int))).max() <= 2


def test_a_correction_needs_the_crop_of_its_face(frame):
    face = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="crop must have the shape"):
        paste_face(frame, face, np.eye(2, 3), crop=face[:32])
