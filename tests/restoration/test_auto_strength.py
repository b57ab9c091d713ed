"""The strength that each face gets: what it depends on, how slowly it changes, and what is reported."""

import cv2
import numpy as np
import pytest

from conftest import SIZE, make_clip, make_faces
from keep_hf.faces.alignment import TEMPLATE_SIZE
from keep_hf.restoration.auto_strength import AutoStrength, Judgement, Measurement, StrengthSummary, luma, measure
from restored import changed, restore


FRAME_RATE = 25
RANDOM = np.random.default_rng(0)
LARGE = make_faces((100, 60, 320))  # in frames of 640 x 480: large enough to have detail


def patches(width: int, height: int) -> np.ndarray:
    """An image of rectangles that cover each other, uint8 `(h, w)`: like a face, it has edges and smooth areas."""
    random = np.random.default_rng(1)
    image = np.full((height, width), 128, np.uint8)
    for side in np.geomspace(200, 6, 1500):
        left, top = random.uniform(-side, width), random.uniform(-side, height)
        corners = [(int(left), int(top)), (int(left + side), int(top + random.uniform(0.3, 2) * side))]
        cv2.rectangle(image, *corners, float(random.integers(60, 200)), -1)
    return image


@pytest.fixture(scope="module")
def sharp() -> np.ndarray:
    return patches(TEMPLATE_SIZE, TEMPLATE_SIZE).astype(np.float32)


@pytest.fixture(scope="module")
def blurred(sharp) -> np.ndarray:
    return cv2.GaussianBlur(sharp, None, 6)


def weight(crop: np.ndarray, change: np.ndarray, is_direct: bool) -> float:
    return AutoStrength(FRAME_RATE, is_direct).judge({0: (crop, change)})[0].weight


def test_sharpness_falls_and_the_error_grows_with_blur(sharp):
    measured = [measure(cv2.GaussianBlur(sharp, None, sigma), 0 * sharp) for sigma in (0.1, 1.5, 3, 6)]
    sharpness, _, error, _ = np.transpose(measured)
    assert (np.diff(sharpness) < 0).all()
    assert (np.diff(error) > 0).all()


def test_sharpness_does_not_depend_on_contrast(sharp):
    whole, half = measure(sharp, 0 * sharp), measure(sharp / 2, 0 * sharp)
    np.testing.assert_allclose(half[[0, 2]], whole[[0, 2]], rtol=0.01)


def test_noise_is_measured_and_is_not_mistaken_for_sharpness(blurred):
    noise = RANDOM.standard_normal(blurred.shape).astype(np.float32)
    clean, noisy = measure(blurred, 0 * blurred), measure(blurred + 5 * noise, 0 * blurred)
    assert clean[1] < 0.5
    assert 4 < noisy[1] < 6
    raw = np.square(cv2.pyrDown(5 * noise)).mean() ** 0.5  # what the noise adds to the band of detail
    assert raw > 1
    assert noisy[0] < 0.2, "a noisy blurred face counts as sharp"


@pytest.mark.parametrize("is_direct", [False, True])
def test_a_sharp_face_is_left_as_it_is(sharp, is_direct):
    softened = cv2.GaussianBlur(sharp, None, 6) - sharp
    assert weight(sharp, softened, is_direct) == 0


@pytest.mark.parametrize("is_direct", [False, True])
def test_a_blurred_face_is_restored(sharp, blurred, is_direct):
    assert weight(blurred, 0.6 * (sharp - blurred), is_direct) == 1


def test_a_result_that_departs_too_far_counts_less(sharp):
    soft = cv2.GaussianBlur(sharp, None, 2)
    departs = cv2.GaussianBlur(sharp[::-1], None, 3) - soft
    weights = {kind: [weight(soft, scale * departs, kind) for scale in (0.05, 0.3, 3)] for kind in (False, True)}
    for found in weights.values():
        assert found == sorted(found, reverse=True)
        assert found[0] == 1
        assert found[-1] < 0.5
    assert weights[False][1] < weights[True][1], "codes are trusted as much as a direct path"


@pytest.mark.parametrize("is_direct", [False, True])
def test_the_weight_changes_slowly(sharp, blurred, is_direct):
    auto = AutoStrength(FRAME_RATE, is_direct)
    change = 0.6 * (sharp - blurred)
    weights = [auto.judge({0: (sharp, change)})[0].weight]
    weights += [auto.judge({0: (blurred, change)})[0].weight for _ in range(4 * FRAME_RATE)]
    assert weights[0] == 0
    assert weights[FRAME_RATE] > 0.4
    assert weights[-1] > 0.95
    assert np.diff(weights).max() < 1.5 / FRAME_RATE


def test_a_track_segment_starts_with_its_own_measurement(sharp, blurred):
    auto = AutoStrength(FRAME_RATE, is_direct=False)
    change = 0.6 * (sharp - blurred)
    auto.judge({0: (sharp, change)})
    found = auto.judge({0: (sharp, change), 1: (blurred, change)})
    assert [found[0].weight, found[1].weight] == [0, 1]
    auto.judge({})
    assert auto.judge({0: (blurred, change)})[0].weight == 1, "a segment that is over is remembered"


def test_a_crop_without_content_is_no_error():
    flat = np.full((TEMPLATE_SIZE, TEMPLATE_SIZE), 128, np.float32)
    assert 0 <= weight(flat, 0 * flat, False) <= 1


def test_luma_is_that_of_the_crop_at_512_pixels():
    crop = np.zeros((64, 64, 3), np.uint8)
    crop[..., 1] = 100
    np.testing.assert_allclose(luma(crop), 59, atol=0.5)
    assert luma(crop).shape == (TEMPLATE_SIZE, TEMPLATE_SIZE)


@pytest.mark.parametrize(
    ("weight", "error", "reason"),
    [
        (1.0, 0.9, "restored"),
        (0.0, 0.02, "left as it is: already sharp"),
        (0.0, 0.3, "left as it is: the result departs from the input by more than the input lacks"),
        (0.604, 0.3, "restored at 60 %: the result departs from the input by more than the input lacks"),
        (0.3, 0.07, "restored at 30 %: nearly sharp"),
    ],
)
def test_the_report_gives_the_reason(weight, error, reason):
    summary = StrengthSummary(is_automatic=True)
    for change in (-0.005, 0.005):
        summary.add(Judgement(weight, Measurement(0.3, 1.0, error + change, 0.4)))
    entry = summary.to_dict()
    assert entry["reason"] == reason
    assert entry["weight"] == weight
    assert entry["error"] == error
    assert entry["weight_range"] == [weight, weight]


# In the pipeline


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Sharp frames of 640 x 480."""
    image = np.repeat(patches(640, 480)[..., None], 3, axis=-1)
    image[..., 2] = 255 - image[..., 2]  # not grey
    return np.stack([np.roll(image, 2 * index, axis=1) for index in range(3)])


def blur(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, None, 6) for frame in frames])


def test_by_default_sharp_faces_stay_unchanged_and_blurred_ones_are_restored(make_pipe, frames):
    """The crop of the network has only 64 pixels; what counts is the detail of the frame."""
    with make_pipe(*[LARGE] * 3).stream() as stream:
        restored = np.stack(stream.step(frames) + stream.flush())
    np.testing.assert_array_equal(restored, frames)
    assert stream.report()["tracks"][0]["strength"]["reason"] == "left as it is: already sharp"

    blurred = blur(frames)
    with make_pipe(*[LARGE] * 3).stream() as stream:
        automatic = np.stack(stream.step(blurred) + stream.flush())
    np.testing.assert_array_equal(automatic, restore(make_pipe(*[LARGE] * 3), blurred))
    assert changed(blurred, automatic).any(axis=(1, 2)).all()
    assert stream.report()["tracks"][0]["strength"]["reason"] == "restored"


def test_aligned_frames_are_judged_too(make_pipe):
    crops = blur(make_clip(3, SIZE, SIZE))
    automatic = restore(make_pipe(), crops, aligned=True, strength="auto")
    np.testing.assert_array_equal(automatic, restore(make_pipe(), crops, aligned=True))


def test_a_number_is_used_as_it_is(make_pipe, frames):
    for options, weight in (({"strength": 0.5}, 0.5), ({"gain_mode": "official"}, 1.0)):
        with make_pipe(*[LARGE] * 3).stream(**options) as stream:
            restored = np.stack(stream.step(frames) + stream.flush())
        assert changed(frames, restored).any()
        reason = f"restored at {weight:.0%}, as requested".replace("%", " %")
        expected = {"weight": weight, "weight_range": [weight, weight], "reason": reason}
        assert stream.report()["tracks"][0]["strength"] == expected


def test_a_stream_continues_with_the_smoothed_measurements(make_pipe, frames):
    """The video becomes blurred while it runs, so that each weight depends on the frames before."""
    video = np.concatenate([frames, blur(frames), blur(frames)])

    def open_stream():
        return make_pipe(*[LARGE] * 9, gain_window=2).stream(frame_rate=5)

    with open_stream() as stream:
        expected = stream.step(video) + stream.flush()
    report = stream.report()["tracks"][0]["strength"]
    assert report["weight_range"][0] == 0
    assert report["weight_range"][1] > 0.5
    before = open_stream()
    restored = before.step(video[:7])
    state = before.state_dict()
    after = open_stream()
    after.follower.detector.num_seen = before.follower.num_searched
    after.load_state_dict(state, video[len(restored) :])
    restored += after.step(video[7:]) + after.flush()
    np.testing.assert_array_equal(np.stack(restored), np.stack(expected))
    assert after.report()["tracks"][0]["strength"] == report
