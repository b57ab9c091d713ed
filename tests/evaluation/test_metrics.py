"""The measures against values worked out by hand or written out in another way, on made videos and real faces."""

import json
import math
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

import keep_hf
from conftest import make_clip
from keep_hf import FaceIdentity, GMFlow, YuNet
from keep_hf.evaluation.metrics import compare_videos, find_flow, flicker, inspect_video, landmark_jitter
from keep_hf.evaluation.series import COMPARED, INSPECTED, Series, VideoMeasures, join_videos
from keep_hf.faces.alignment import crop_face, estimate_alignment
from keep_hf.faces.landmarks import LandmarkNetwork
from keep_hf.models.lpips import LPIPS
from keep_hf.video.reader import VideoReader
from paths import SHARED


WEIGHTS = SHARED / "weights"
needs_shared = pytest.mark.skipif(not (WEIGHTS / "pfld.onnx").exists(), reason="the weights of ../shared are not here")


class Angle:
    """Stands in for an identity network: the mean level of a face is an angle in degrees."""

    def embed(self, faces):
        angles = np.radians([face.mean() for face in faces])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


class WhitePixels:
    """Stands in for a landmark network: the points are the white pixels, row by row."""

    def find(self, faces):
        return np.stack([np.argwhere(face[..., 0] == 255)[:, ::-1] for face in faces]).astype(np.float32)


class KnownFlow:
    """Stands in for a flow network: everything moves alike; what it was shown is kept."""

    device = torch.device("cpu")

    def __init__(self, x, y):
        self.motion = torch.tensor([float(x), float(y)])
        self.shown = []

    def __call__(self, now, before):
        self.shown.append((now, before))
        return self.motion[None, :, None, None].expand(1, 2, *now.shape[2:])


def flat(*levels, size=16):
    return [np.full((size, size, 3), level, np.uint8) for level in levels]


def white_pixels(*places, size=64):
    face = np.zeros((size, size, 3), np.uint8)
    for x, y in places:
        face[y, x] = 255
    return face


@pytest.fixture(scope="module")
def lpips():
    torch.manual_seed(0)
    network = LPIPS("alex").eval()
    with torch.no_grad():
        for weights in network.channel_weights:
            weights.weight.abs_()
    return network


def values(measured, key):
    return measured.measures[key].values


# PSNR and SSIM


def test_psnr_of_known_differences():
    truth = make_clip(3, 40, 32).clip(20, 200)
    everywhere, red, half = truth.copy(), truth.copy(), truth.copy()
    everywhere += 5
    red[..., 0] += 6
    half[:, ::2] -= 8
    for restored, mse in ((everywhere, 25), (red, 36 / 3), (half, 64 / 2)):
        measured = compare_videos(restored, truth)
        np.testing.assert_allclose(values(measured, "psnr"), [10 * math.log10(255**2 / mse)] * 3)
    assert values(compare_videos(everywhere, truth), "psnr")[0] == pytest.approx(34.1514, abs=1e-4)


def written_out_ssim(a, b):
    """Wang et al., 2004, on one channel: 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255."""
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
    truth = make_clip(2, 40, 32)
    noise = np.random.default_rng(0).normal(0, 15, truth.shape)
    restored = np.clip(truth + noise, 0, 255).astype(np.uint8)
    expected = [
        np.mean([written_out_ssim(frame[..., c], other[..., c]) for c in range(3)])
        for frame, other in zip(restored, truth, strict=True)
    ]
    np.testing.assert_allclose(values(compare_videos(restored, truth), "ssim"), expected, rtol=1e-6)
    # Without texture only the means count.
    a, b, c1 = 60, 180, 2.55**2
    measured = compare_videos(flat(a), flat(b))
    assert values(measured, "ssim")[0] == pytest.approx((2 * a * b + c1) / (a**2 + b**2 + c1))


# Faces


def test_ids_is_the_cosine_and_its_sigma_the_deviation():
    measured = compare_videos(flat(10, 40, 100), flat(10, 100, 10), identity=Angle())
    np.testing.assert_allclose(values(measured, "ids"), [1, 0.5, 0], atol=1e-6)
    series = measured.measures["ids"]
    assert series.mean == pytest.approx(0.5)
    assert series.sigma == pytest.approx(math.sqrt((0.25 + 0 + 0.25) / 3))


def test_akd_is_in_pixels_of_a_face_of_512():
    truth = [white_pixels((10, 10), (30, 40))] * 2
    restored = [white_pixels((10, 10), (30, 40)), white_pixels((13, 14), (30, 41))]
    series = compare_videos(restored, truth, landmarks=WhitePixels()).measures["akd"]
    # Moved by 5 and by 1 of 64 pixels
    np.testing.assert_allclose(series.values, [0, 3 * 8])
    assert (series.mean, series.sigma) == (12, 12)


def test_identity_steps_are_cosines_of_neighbours():
    measured = inspect_video(flat(0, 60, 60, 0), identity=Angle())
    series = measured.measures["identity_steps"]
    np.testing.assert_allclose(series.values, [0.5, 1, 0.5], atol=1e-6)
    assert series.sigma == pytest.approx(math.sqrt(2 / 36))


def test_landmark_jitter_takes_no_account_of_steady_motion():
    steady = [white_pixels((10 + 3 * t, 50 - 2 * t), (20 + 3 * t, 60 - 2 * t)) for t in range(5)]
    measured = inspect_video(steady, landmarks=WhitePixels())
    assert values(measured, "landmark_jitter") == [0, 0, 0]
    # To and fro by one of 64 pixels: every point is 1 off the middle of its neighbours along x.
    shaking = [white_pixels((10 + t % 2, 50), (20 + t % 2, 60)) for t in range(4)]
    measured = inspect_video(shaking, landmarks=WhitePixels())
    np.testing.assert_allclose(values(measured, "landmark_jitter"), [8 / math.sqrt(1.5)] * 2)


def test_landmark_jitter_of_noise_is_the_noise():
    noise = np.random.default_rng(0).normal(0, 0.7, (3, 100_000, 2))
    assert landmark_jitter(*noise) == pytest.approx(math.sqrt(2) * 0.7, rel=0.01)


# Flicker


def moving(num_frames, motion=2, size=48, seed=0):
    """A texture that moves to the right."""
    texture = np.random.default_rng(seed).integers(40, 200, (size, size + motion * num_frames, 3), dtype=np.uint8)
    starts = [motion * (num_frames - t) for t in range(num_frames)]
    return [texture[:, start : start + size] for start in starts]


def test_flicker_is_what_motion_does_not_explain():
    still, flow = moving(4), KnownFlow(-2, 0)
    unsteady = [frame + np.uint8(6 * (t % 2)) for t, frame in enumerate(still)]
    measured = compare_videos(unsteady, still, flow=flow)
    np.testing.assert_allclose(values(measured, "flicker"), [6, 6, 6], atol=1e-3)
    # What came in at the left was nowhere before and does not count.
    np.testing.assert_allclose(values(measured, "reference_flicker"), [0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(values(inspect_video(unsteady, flow=flow), "flicker"), [6, 6, 6], atol=1e-3)
    wrong = compare_videos(unsteady, still, flow=KnownFlow(0, 0))
    assert min(values(wrong, "reference_flicker")) > 30


def test_flow_is_of_the_reference_or_else_of_the_video():
    restored, truth, flow = flat(1, 2, size=32), flat(100, 200, size=32), KnownFlow(0, 0)
    compare_videos(restored, truth, flow=flow)
    inspect_video(restored, flow=flow)
    levels = [[round((x.mean().item() + 1) * 127.5) for x in pair] for pair in flow.shown]
    assert levels == [[200, 100], [2, 1]]


def test_flow_of_any_size():
    for height, width, small in ((512, 256, (512, 256)), (600, 1024, (304, 512)), (50, 30, (48, 32))):
        flow = KnownFlow(1, -2)
        frame = np.zeros((height, width, 3), np.uint8)
        field = find_flow(flow, frame, frame)
        assert flow.shown[0][0].shape == (1, 3, *small)
        expected = torch.tensor([width / small[1], -2 * height / small[0]])[None, :, None, None]
        torch.testing.assert_close(field, expected.expand(1, 2, height, width))


def test_flicker_without_any_pixel_in_sight_is_no_number():
    frame = np.zeros((16, 16, 3), np.uint8)
    assert math.isnan(flicker(frame, frame, torch.full((1, 2, 16, 16), 100.0)))


def test_flow_network_of_the_package_explains_motion():
    flow = GMFlow.from_pretrained(Path(keep_hf.__file__).parent / "checkpoints" / "keep-tiny" / "flow").eval()
    smooth = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    large = np.kron(smooth, np.ones((8, 8, 1))).astype(np.uint8)
    frames = [large[:128, 8 - 4 * t : 136 - 4 * t] for t in range(3)]
    explained = inspect_video(frames, flow=flow).measures["flicker"].mean
    unexplained = inspect_video(frames, flow=KnownFlow(0, 0)).measures["flicker"].mean
    assert explained < 0.4 * unexplained


# Whole videos


def check_perfect(measured):
    assert values(measured, "psnr") == [math.inf] * measured.num_frames and measured.measures["psnr"].mean == math.inf
    for key, perfect in (("ssim", 1), ("lpips", 0), ("ids", 1), ("akd", 0)):
        series = measured.measures[key]
        assert series.mean == pytest.approx(perfect, abs=1e-6) and series.sigma == pytest.approx(0, abs=1e-6)
    assert set(values(measured, "lpips")) == {0}
    assert values(measured, "flicker") == values(measured, "reference_flicker")


def test_equal_videos_are_perfect(lpips, components):
    frames = [np.maximum(frame // 2, white_pixels((20, 30), (40, 50))) for frame in make_clip(3, 64, 64)]
    networks = {"identity": Angle(), "landmarks": WhitePixels(), "flow": components["flow"]}
    check_perfect(compare_videos(frames, frames, lpips=lpips, **networks))


@needs_shared
def test_equal_faces_are_perfect_and_worse_ones_worse(lpips):
    networks = {
        "lpips": lpips,
        "identity": FaceIdentity(WEIGHTS / "MobileFaceNet.onnx"),
        "landmarks": LandmarkNetwork(WEIGHTS / "pfld.onnx"),
    }
    detector = YuNet(WEIGHTS / "yunet_n_dynamic.onnx")
    with VideoReader(SHARED / "media" / "hq_eval" / "talkvid_04.mp4") as reader:
        images = [frame.image for frame, _ in zip(reader, range(3), strict=False)]
    matrix = estimate_alignment(detector.detect(images[:1])[0].landmarks[0], 256)
    faces = [crop_face(image, matrix, 256) for image in images]
    perfect = compare_videos(faces, faces, **networks, flow=KnownFlow(0, 0))
    check_perfect(perfect)
    # A shift of the picture by 4 of 256 pixels is one of 8 of 512 for the landmarks.
    shifted = compare_videos([np.roll(face, 4, axis=1) for face in faces], faces, **networks)
    assert shifted.measures["akd"].mean == pytest.approx(8, abs=2.5)
    assert shifted.measures["ids"].mean > 0.9
    random = np.random.default_rng(0)
    noisy = [np.clip(face + random.normal(0, 25, face.shape), 0, 255).astype(np.uint8) for face in faces]
    worse = compare_videos(noisy, faces, **networks)
    # Noise of 25 levels would be 20.17 dB, a little more where it is clipped.
    assert 20.1 < worse.measures["psnr"].mean < 21.5
    for key in ("ssim", "ids"):
        assert worse.measures[key].mean < perfect.measures[key].mean - 0.005
    for key in ("lpips", "akd"):
        assert worse.measures[key].mean > 0 and worse.measures[key].sigma > 0
    steadiness = inspect_video(noisy, networks["identity"], networks["landmarks"])
    calm = inspect_video(faces, networks["identity"], networks["landmarks"])
    assert steadiness.measures["identity_steps"].mean < calm.measures["identity_steps"].mean
    assert steadiness.measures["landmark_jitter"].mean > calm.measures["landmark_jitter"].mean


def test_lpips_sees_levels_from_minus_1_to_1(lpips):
    frames, truth = make_clip(2, 40, 40, seed=1), make_clip(2, 40, 40, seed=2)
    as_tensors = [torch.tensor(x.transpose(0, 3, 1, 2) / 255 * 2 - 1, dtype=torch.float32) for x in (frames, truth)]
    expected = lpips(*as_tensors).detach().numpy()
    np.testing.assert_allclose(values(compare_videos(frames, truth, lpips=lpips), "lpips"), expected, rtol=1e-4)


def test_missing_networks_are_told_and_stop_nothing(monkeypatch):
    measured = compare_videos(flat(1, 2), flat(2, 3))
    assert list(measured.measures) == list(COMPARED)
    assert [key for key, series in measured.measures.items() if series is not None] == ["psnr", "ssim"]
    assert measured.to_dict()["measures"]["akd"] is None
    monkeypatch.setattr("keep_hf.evaluation.metrics.find_spec", lambda name: None)
    measured = compare_videos(flat(1, 2), flat(2, 3), identity=Angle())
    assert [key for key, series in measured.measures.items() if series is not None] == ["ids"]
    assert "pip install scikit-image" in COMPARED["psnr"].needs
    assert dict.fromkeys(INSPECTED) == inspect_video(flat(1, 2)).measures


def test_few_frames_of_long_videos_are_held():
    alive, most = 0, 0

    def gone():
        nonlocal alive
        alive -= 1

    def video():
        nonlocal alive, most
        for frame in make_clip(30, 32, 32):
            copy = frame.copy()
            weakref.finalize(copy, gone)
            alive += 1
            most = max(most, alive)
            yield copy

    flow = KnownFlow(0, 0)
    assert compare_videos(video(), video(), identity=Angle(), flow=flow).num_frames == 30
    assert most <= 6
    most = 0
    assert inspect_video(video(), identity=Angle(), flow=flow).num_frames == 30
    assert most <= 3


# Figures


def test_equal_frames_are_left_out_of_the_mean_and_counted():
    series = compare_videos(flat(50, 55, 70), flat(50, 50, 50)).measures["psnr"]
    expected = [10 * math.log10(255**2 / 25), 10 * math.log10(255**2 / 400)]
    assert series.values == pytest.approx([math.inf, *expected])
    assert series.mean == pytest.approx(np.mean(expected)) and series.sigma == pytest.approx(np.std(expected))
    written = json.loads(json.dumps(series.to_dict(), allow_nan=False))
    assert written["left_out"] == 1 and written["values"][0] == "inf"


def test_what_is_no_number_stays_none():
    series = Series([math.nan, 1.0, 3.0])
    assert (series.mean, series.sigma, series.to_dict()["left_out"]) == (2, 1, 1)
    # One frame has no neighbour to compare with.
    alone = inspect_video(flat(7), identity=Angle())
    assert alone.to_dict()["measures"]["identity_steps"] == {
        "mean": "nan",
        "sigma": "nan",
        "left_out": 0,
        "values": [],
    }
    assert Series([math.inf, math.inf]).mean == math.inf
    assert math.isnan(Series([math.inf, math.nan]).mean)


def test_videos_count_alike_however_long():
    short = VideoMeasures("a", 1, {"ids": Series([0.2]), "akd": None})
    long = VideoMeasures("b", 4, {"ids": Series([0.4, 0.4, 0.8, 0.8]), "akd": None})
    joint = join_videos([short, long])
    assert (joint.num_videos, joint.num_frames) == (2, 5)
    # Means 0.2 and 0.6, deviations 0 and 0.2
    assert joint.mean == {"ids": pytest.approx(0.4), "akd": None}
    assert joint.sigma == {"ids": pytest.approx(0.1), "akd": None}
    assert json.loads(json.dumps(joint.to_dict(), allow_nan=False))["mean"]["akd"] is None
    assert join_videos(iter([long])).mean["ids"] == pytest.approx(0.6)


def test_videos_measured_otherwise_do_not_join():
    measured = VideoMeasures("a", 1, {"ids": Series([0.2])})
    for other in (VideoMeasures("b", 1, {"ids": None}), VideoMeasures("b", 1, {"akd": Series([0.2])})):
        with pytest.raises(ValueError, match=r"'b' was measured in .* 'a' in"):
            join_videos([measured, other])
    with pytest.raises(ValueError, match="no videos"):
        join_videos([])


# Doors


def test_videos_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match=r"differ in size, 24 x 24 and 16 x 16: resize"):
        compare_videos(flat(1), flat(1, size=24))
    with pytest.raises(ValueError, match="differ in size"):
        inspect_video([*flat(1), *flat(1, size=24)])
    with pytest.raises(ValueError, match="restored video ends after 1 frames"):
        compare_videos(flat(1), flat(1, 2))
    with pytest.raises(ValueError, match="reference video ends after 2 frames"):
        compare_videos(iter(flat(1, 2, 3)), iter(flat(1, 2)))
    for measure in (lambda: compare_videos([], [], name="none"), lambda: inspect_video([], name="none")):
        with pytest.raises(ValueError, match="'none' has no frames"):
            measure()


def test_frames_of_another_kind_are_refused():
    for frame in (np.zeros((16, 16, 3), np.float32), np.zeros((16, 16), np.uint8), np.zeros((16, 16, 4), np.uint8)):
        with pytest.raises(ValueError, match="RGB, uint8"):
            inspect_video([frame])
    with pytest.raises(ValueError, match="at least 11 pixels"):
        compare_videos(flat(1, size=10), flat(1, size=10))
    wide = [np.zeros((16, 20, 3), np.uint8)]
    with pytest.raises(ValueError, match="cut the faces"):
        compare_videos(wide, wide, identity=Angle())
    assert compare_videos(wide, wide).measures["ssim"].mean == pytest.approx(1)
