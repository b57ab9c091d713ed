"""Dense landmarks on real faces: their places, shifts and scales of the image; loading and saving."""

import cv2
import numpy as np
import pytest

from keep_hf.faces.alignment import crop_face, estimate_alignment
from keep_hf.faces.landmarks import LandmarkNetwork
from keep_hf.faces.yunet import YuNet
from keep_hf.video.reader import VideoReader
from onnx_files import write_embedding_network, write_yunet
from paths import SHARED


MODEL = SHARED / "weights" / "pfld.onnx"
needs_shared = pytest.mark.skipif(not MODEL.exists(), reason="pfld.onnx of ../shared is not here")


@pytest.fixture(scope="module")
def landmarks():
    return LandmarkNetwork.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def crops():
    """The faces of four people."""
    detector = YuNet.from_pretrained(SHARED / "weights" / "yunet_n_dynamic.onnx")
    crops = []
    for number in (1, 4, 9, 12):
        with VideoReader(SHARED / "media" / "hq_eval" / f"talkvid_{number:02}.mp4") as reader:
            image = next(iter(reader)).image
        crops.append(crop_face(image, estimate_alignment(detector.detect([image])[0].landmarks[0])))
    return crops


def five(points: np.ndarray) -> np.ndarray:
    """The eyes, nose and mouth corners of the 68 points."""
    return np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]])


def distance(points: np.ndarray, others: np.ndarray) -> float:
    return float(np.linalg.norm(points - others, axis=-1).mean())


@needs_shared
def test_points_lie_on_eyes_nose_and_mouth(landmarks, crops):
    found = landmarks.find(crops)
    assert found.shape == (4, 68, 2)
    assert found.dtype == np.float32
    detected = YuNet.from_pretrained(SHARED / "weights" / "yunet_n_dynamic.onnx").detect(crops)
    for points, faces in zip(found, detected, strict=True):
        # The eyes are 126 pixels apart; the two networks differ in what they call the tip of the nose.
        assert distance(five(points), faces.landmarks[0]) < 14
        brows, eyes, mouth, chin = (
            points[part, 1].mean() for part in (slice(17, 27), slice(36, 48), slice(48, 68), 8)
        )
        assert brows < eyes < mouth < chin
        assert points[0, 0] < points[36, 0] < points[45, 0] < points[16, 0]


@needs_shared
def test_points_move_and_scale_with_the_image(landmarks, crops):
    found = landmarks.find(crops)
    moved = [np.roll(crop, (6, 9), axis=(0, 1)) for crop in crops]
    assert distance(landmarks.find(moved), found + np.array((9, 6))) < 4
    # They keep their place in an image of a quarter of the size; pixel centres are at x + 1/2.
    small = [cv2.resize(crop, (128, 128), interpolation=cv2.INTER_AREA) for crop in crops]
    assert distance((landmarks.find(small) + 0.5) * 4 - 0.5, found) < 3


@needs_shared
def test_the_network_reads_the_region(landmarks, crops):
    left, top, right, bottom = (72, 136, 440, 504)
    cut = [crop[top:bottom, left:right] for crop in crops]
    whole = LandmarkNetwork.from_pretrained(MODEL, region=(0, 0, 512, 512))
    np.testing.assert_allclose(whole.find(cut) + np.array((left, top)), landmarks.find(crops), atol=0.2)


@needs_shared
def test_channel_order_and_normalization_are_used(landmarks, crops):
    expected = landmarks.find(crops)
    swapped = LandmarkNetwork.from_pretrained(MODEL, channel_order="rgb")
    np.testing.assert_allclose(swapped.find([crop[..., ::-1].copy() for crop in crops]), expected, atol=1e-3)
    assert (
        distance(LandmarkNetwork.from_pretrained(MODEL, mean=(127.5,) * 3, scale=1 / 127.5).find(crops), expected) > 1
    )
    dark = [crop // 2 for crop in crops]
    brighter = [(crop + np.array((10, 20, 30))).astype(np.uint8) for crop in dark]
    found = LandmarkNetwork.from_pretrained(MODEL, mean=(10, 20, 30)).find(brighter)
    np.testing.assert_allclose(found, landmarks.find(dark), atol=0.5)


@needs_shared
def test_points_are_those_of_opencv(crops):
    network, whole = (
        cv2.dnn.readNetFromONNX(str(MODEL)),
        LandmarkNetwork.from_pretrained(MODEL, region=(0, 0, 512, 512)),
    )
    small = [cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA) for crop in crops]
    for image, found in zip(small, whole.find(small), strict=True):
        network.setInput(image[..., ::-1].astype(np.float32).transpose(2, 0, 1)[None] / 255)
        np.testing.assert_allclose(found, network.forward().reshape(-1, 2) * 112 - 0.5, atol=1e-3)


def write_landmark_network(path):
    """A network whose points hardly depend on the image."""
    return write_embedding_network(path, size=64, width=8, scale=0.01)


def test_a_saved_network_is_loaded_with_its_settings(tmp_path):
    file = write_landmark_network(tmp_path / "network.onnx")
    faces = [np.random.default_rng(i).integers(0, 256, (128, 128, 3), np.uint8) for i in range(3)]
    settings = {
        "mean": (1.0, 2.0, 3.0), "scale": 1 / 250, "channel_order": "rgb", "region": (60.0, 120.0, 450.0, 510.0),
        "input_size": 64,
    }  # fmt: skip
    network = LandmarkNetwork.from_pretrained(file, **settings)
    network.save_pretrained(tmp_path / "saved")
    loaded = LandmarkNetwork.from_pretrained(tmp_path / "saved", torch_dtype=None)
    assert {
        name: tuple(x) if isinstance(x, list) else x for name, x in loaded.config.items() if name in settings
    } == settings
    found = loaded.find(faces)
    assert found.shape == (3, 4, 2)
    np.testing.assert_array_equal(found, network.find(faces))
    # About the centre of the region, in pixels of a crop of 128 x 128
    np.testing.assert_allclose(found.mean(axis=(0, 1)), (255 / 4, 315 / 4), atol=2)


def test_no_faces_give_no_rows(tmp_path):
    network = LandmarkNetwork.from_pretrained(write_landmark_network(tmp_path / "network.onnx"), input_size=64)
    assert network.find([]).shape == (0, 4, 2)


def test_invalid_crops_and_settings_are_rejected(tmp_path):
    file = write_landmark_network(tmp_path / "network.onnx")
    with pytest.raises(ValueError, match="aligned crops"):
        LandmarkNetwork.from_pretrained(file, input_size=64).find([np.zeros((64, 80, 3), np.uint8)])
    with pytest.raises(ValueError, match="channel_order"):
        LandmarkNetwork.from_pretrained(file, channel_order="grb")
    for region in ((0, 0, 512, 400), (300, 300, 100, 100)):
        with pytest.raises(ValueError, match="of a square"):
            LandmarkNetwork.from_pretrained(file, region=region)


def test_network_of_another_kind_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="several outputs"):
        LandmarkNetwork.from_pretrained(write_yunet(tmp_path / "yunet.onnx"))
    with pytest.raises(ValueError, match=r"is 8 numbers from .* fractions of the image"):
        LandmarkNetwork.from_pretrained(write_embedding_network(tmp_path / "embedding.onnx", scale=10))


def test_missing_or_ambiguous_file_is_reported(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*none\.onnx"):
        LandmarkNetwork.from_pretrained(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="found none"):
        LandmarkNetwork.from_pretrained(tmp_path)
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(bytes(range(256)) * 64)
    with pytest.raises(ValueError, match=r"found a\.onnx, b\.onnx"):
        LandmarkNetwork.from_pretrained(tmp_path)
