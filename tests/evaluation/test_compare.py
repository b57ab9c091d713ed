"""Whole videos: which frames each metric compares, what is missing without a network, and which videos are refused."""

import math
import weakref

import numpy as np
import pytest

from conftest import make_clip
from keep_hf import FaceIdentity, YuNet
from keep_hf.evaluation.compare import compare_videos, inspect_video
from keep_hf.evaluation.series import NO_REFERENCE_METRICS, REFERENCE_METRICS, VideoMetrics
from keep_hf.faces.alignment import crop_face, estimate_alignment
from keep_hf.faces.landmarks import LandmarkNetwork
from keep_hf.models.lpips import LPIPS
from keep_hf.video.reader import VideoReader
from paths import SHARED
from stand_ins import Angle, KnownFlow, WhitePixels, flat, untrained_lpips, white_pixels


WEIGHTS = SHARED / "weights"
needs_shared = pytest.mark.skipif(not (WEIGHTS / "pfld.onnx").exists(), reason="the weights of ../shared are not here")


def values(video: VideoMetrics, key: str) -> list[float]:
    series = video.metrics[key]
    assert series is not None
    return series.values


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    return untrained_lpips()


# Metrics of every frame


def test_ids_and_its_sigma():
    video = compare_videos(flat(10, 40, 100), flat(10, 100, 10), identity=Angle())
    np.testing.assert_allclose(values(video, "ids"), [1, 0.5, 0], atol=1e-6)
    assert video.mean["ids"] == pytest.approx(0.5)
    assert video.sigma["ids"] == pytest.approx(math.sqrt((0.25 + 0 + 0.25) / 3))


def test_akd_and_its_sigma():
    truth = [white_pixels((10, 10), (30, 40))] * 2
    restored = [white_pixels((10, 10), (30, 40)), white_pixels((13, 14), (30, 41))]
    video = compare_videos(restored, truth, landmarks=WhitePixels())
    np.testing.assert_allclose(values(video, "akd"), [0, 3 * 8])
    assert (video.mean["akd"], video.sigma["akd"]) == (12, 12)


def test_identity_steps_are_cosines_of_neighbours():
    video = inspect_video(flat(0, 60, 60, 0), identity=Angle())
    np.testing.assert_allclose(values(video, "identity_steps"), [0.5, 1, 0.5], atol=1e-6)
    assert video.sigma["identity_steps"] == pytest.approx(math.sqrt(2 / 36))
    assert values(inspect_video(flat(7), identity=Angle()), "identity_steps") == []


def test_uniform_motion_is_no_landmark_jitter():
    uniform = [white_pixels((10 + 3 * t, 50 - 2 * t), (20 + 3 * t, 60 - 2 * t)) for t in range(5)]
    assert values(inspect_video(uniform, landmarks=WhitePixels()), "landmark_jitter") == [0, 0, 0]
    # Back and forth by one of 64 pixels: every point is 1 off the midpoint of its neighbours along x.
    shaking = [white_pixels((10 + t % 2, 50), (20 + t % 2, 60)) for t in range(4)]
    video = inspect_video(shaking, landmarks=WhitePixels())
    np.testing.assert_allclose(values(video, "landmark_jitter"), [8 / math.sqrt(1.5)] * 2)


# Flicker


def moving(num_frames: int, motion: int = 2, size: int = 48) -> list[np.ndarray]:
    """A texture that moves to the right."""
    texture = np.random.default_rng(0).integers(40, 200, (size, size + motion * num_frames, 3), dtype=np.uint8)
    starts = [motion * (num_frames - t) for t in range(num_frames)]
    return [texture[:, start : start + size] for start in starts]


def test_flicker_is_what_motion_does_not_explain():
    steady, flow = moving(4), KnownFlow(-2, 0)
    flickering = [frame + np.uint8(6 * (t % 2)) for t, frame in enumerate(steady)]
    video = compare_videos(flickering, steady, flow=flow)
    np.testing.assert_allclose(values(video, "flicker"), [6, 6, 6], atol=1e-3)
    # The pixels that enter on the left come from outside and do not count.
    np.testing.assert_allclose(values(video, "reference_flicker"), [0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(values(inspect_video(flickering, flow=flow), "flicker"), [6, 6, 6], atol=1e-3)
    wrong = compare_videos(flickering, steady, flow=KnownFlow(0, 0))
    assert min(values(wrong, "reference_flicker")) > 30


def test_flow_is_that_of_the_reference_if_there_is_one():
    restored, truth, flow = flat(1, 2, size=32), flat(100, 200, size=32), KnownFlow(0, 0)
    compare_videos(restored, truth, flow=flow)
    inspect_video(restored, flow=flow)
    levels = [[round((x.mean().item() + 1) * 127.5) for x in pair] for pair in flow.shown]
    assert levels == [[200, 100], [2, 1]]


# All metrics together


def check_perfect(video: VideoMetrics) -> None:
    assert values(video, "psnr") == [math.inf] * video.num_frames
    assert video.mean["psnr"] == math.inf
    for key, perfect in (("ssim", 1), ("lpips", 0), ("ids", 1), ("akd", 0)):
        assert video.mean[key] == pytest.approx(perfect, abs=1e-6)
        assert video.sigma[key] == pytest.approx(0, abs=1e-6)
    assert set(values(video, "lpips")) == {0}
    assert values(video, "flicker") == values(video, "reference_flicker")


def test_equal_videos_are_perfect(lpips, components):
    frames = [np.maximum(frame // 2, white_pixels((20, 30), (40, 50))) for frame in make_clip(3, 64, 64)]
    networks = {"identity": Angle(), "landmarks": WhitePixels(), "flow": components["flow"]}
    check_perfect(compare_videos(frames, frames, lpips=lpips, **networks))


@needs_shared
def test_equal_faces_are_perfect_and_noisy_ones_worse(lpips):
    identity = FaceIdentity.from_pretrained(WEIGHTS / "MobileFaceNet.onnx")
    landmarks = LandmarkNetwork.from_pretrained(WEIGHTS / "pfld.onnx")
    networks = {"lpips": lpips, "identity": identity, "landmarks": landmarks}
    detector = YuNet.from_pretrained(WEIGHTS / "yunet_n_dynamic.onnx")
    with VideoReader(SHARED / "media" / "hq_eval" / "talkvid_04.mp4") as reader:
        images = [frame.image for frame, _ in zip(reader, range(3), strict=False)]
    matrix = estimate_alignment(detector.detect(images[:1])[0].landmarks[0], 256)
    faces = [crop_face(image, matrix, 256) for image in images]
    perfect = compare_videos(faces, faces, **networks, flow=KnownFlow(0, 0))
    check_perfect(perfect)
    # A shift of the image by 4 of 256 pixels moves the landmarks by 8 of 512.
    shifted = compare_videos([np.roll(face, 4, axis=1) for face in faces], faces, **networks)
    assert shifted.mean["akd"] == pytest.approx(8, abs=2.5)
    assert shifted.mean["ids"] > 0.9

    random = np.random.default_rng(0)
    noisy = [np.clip(face + random.normal(0, 25, face.shape), 0, 255).astype(np.uint8) for face in faces]
    worse = compare_videos(noisy, faces, **networks)
    # Noise of 25 levels gives 20.17 dB, slightly more where it is clipped.
    assert 20.1 < worse.mean["psnr"] < 21.5
    for key in ("ssim", "ids"):
        assert worse.mean[key] < perfect.mean[key] - 0.005
    for key in ("lpips", "akd"):
        assert worse.mean[key] > 0
        assert worse.sigma[key] > 0
    clean, noisy = (inspect_video(frames, identity, landmarks).mean for frames in (faces, noisy))
    assert noisy["identity_steps"] < clean["identity_steps"]
    assert noisy["landmark_jitter"] > clean["landmark_jitter"]


def test_metrics_without_their_network_are_missing(monkeypatch):
    video = compare_videos(flat(1, 2), flat(2, 3))
    assert list(video.metrics) == list(REFERENCE_METRICS)
    assert [key for key, series in video.metrics.items() if series is not None] == ["psnr", "ssim"]
    assert video.to_dict()["metrics"]["akd"] is None
    monkeypatch.setattr("keep_hf.evaluation.compare.find_spec", lambda name: None)
    video = compare_videos(flat(1, 2), flat(2, 3), identity=Angle())
    assert [key for key, series in video.metrics.items() if series is not None] == ["ids"]
    assert "pip install scikit-image" in REFERENCE_METRICS["psnr"].needs
    assert dict.fromkeys(NO_REFERENCE_METRICS) == inspect_video(flat(1, 2)).metrics


def test_few_frames_of_long_videos_are_held():
    alive, most = 0, 0

    def release():
        nonlocal alive
        alive -= 1

    def video():
        nonlocal alive, most
        for frame in make_clip(30, 32, 32):
            copy = frame.copy()
            weakref.finalize(copy, release)
            alive += 1
            most = max(most, alive)
            yield copy

    flow = KnownFlow(0, 0)
    assert compare_videos(video(), video(), identity=Angle(), flow=flow).num_frames == 30
    assert most <= 6
    most = 0
    assert inspect_video(video(), identity=Angle(), flow=flow).num_frames == 30
    assert most <= 3


# Errors


def test_videos_that_do_not_match_are_refused():
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


def test_frames_of_other_types_and_shapes_are_refused():
    for frame in (np.zeros((16, 16, 3), np.float32), np.zeros((16, 16), np.uint8), np.zeros((16, 16, 4), np.uint8)):
        with pytest.raises(ValueError, match="RGB, uint8"):
            inspect_video([frame])
    with pytest.raises(ValueError, match="at least 11 pixels"):
        compare_videos(flat(1, size=10), flat(1, size=10))
    wide = [np.zeros((16, 20, 3), np.uint8)]
    with pytest.raises(ValueError, match="align the faces"):
        compare_videos(wide, wide, identity=Angle())
    assert compare_videos(wide, wide).mean["ssim"] == pytest.approx(1)
