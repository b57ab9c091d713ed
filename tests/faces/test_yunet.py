"""YuNet: the faces of OpenCV's FaceDetectorYN, saving and loading."""

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from accelerate import cpu_offload
from huggingface_hub import constants

from keep_hf import KeepPipeline
from keep_hf.faces.detection import Faces
from keep_hf.faces.yunet import YuNet
from keep_hf.restoration.fingerprint import fingerprint
from onnx_files import random, write_embedding_network, write_yunet
from paths import SHARED


YUNET_FILE = SHARED / "weights" / "yunet_n_dynamic.onnx"
needs_yunet = pytest.mark.skipif(not YUNET_FILE.exists(), reason="the YuNet file of ../shared is missing")
# Eyes, nose and mouth corners in the image, the median over three sizes and their mirror images
ASTRONAUT = np.array([(204.0, 104.2), (246.2, 105.3), (223.0, 128.2), (204.1, 142.6), (242.3, 144.3)])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network that is not trained."""
    return write_yunet(tmp_path_factory.mktemp("yunet") / "face_detection_yunet_2023mar.onnx")


@pytest.fixture(scope="module")
def images():
    """Smooth noise, of sizes that are and are not multiples of 32."""
    sizes = ((64, 96), (75, 131), (20, 33), (64, 96))
    noise = [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8) for i, size in enumerate(sizes)]
    return [cv2.GaussianBlur(image, (0, 0), 2) for image in noise]


def detect_with_opencv(file, image: np.ndarray, threshold: float) -> Faces:
    network = cv2.FaceDetectorYN.create(str(file), "", image.shape[1::-1], threshold, 0.3, 5000)
    rows = network.detect(np.ascontiguousarray(image[..., ::-1]))[1]
    rows = np.zeros((0, 15), np.float32) if rows is None else rows
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    return Faces(boxes, rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14])


def check_equal(found: Faces, expected: Faces) -> None:
    assert len(found) == len(expected)
    for part in ("boxes", "landmarks", "scores"):
        np.testing.assert_allclose(getattr(found, part), getattr(expected, part), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.99])
def test_faces_are_those_of_opencv(file, images, threshold):
    detector = YuNet.from_pretrained(file, threshold=threshold)
    with torch.no_grad():
        found = detector._search(images)
    for faces, image in zip(found, images, strict=True):
        check_equal(faces, detect_with_opencv(file, image, threshold))
    assert (sum(map(len, found)) > 4) == (threshold < 0.99)


@needs_yunet
def test_real_faces_are_those_of_opencv():
    image = skimage.data.astronaut()
    with torch.no_grad():
        (found,) = YuNet.from_pretrained(YUNET_FILE)._search([image])
    assert len(found) == 1
    check_equal(found, detect_with_opencv(YUNET_FILE, image, 0.6))


@needs_yunet
def test_a_face_is_found():
    detector = YuNet.from_pretrained(YUNET_FILE)
    (faces,) = detector.detect([skimage.data.astronaut()])
    assert len(faces) == 1
    assert np.linalg.norm(faces.landmarks[0] - ASTRONAUT, axis=-1).mean() < 0.08 * 42
    assert len(detector.detect([np.zeros((100, 100, 3), np.uint8)])[0]) == 0


def test_a_batch_gives_the_outputs_of_its_images(file):
    detector = YuNet.from_pretrained(file)
    images = torch.from_numpy(random(3, 3, 64, 96)) * 100
    with torch.no_grad():
        batch, single = detector(images), [detector(image[None]) for image in images]
    for output, *parts in zip(batch, *single, strict=True):
        torch.testing.assert_close(output, torch.cat(parts))


@pytest.mark.parametrize("place", ["cpu", "leaves on disk"])
def test_offloaded_weights_give_the_same_faces(file, images, tmp_path, place):
    expected, detector = YuNet.from_pretrained(file, threshold=0.4), YuNet.from_pretrained(file, threshold=0.4)
    if place == "cpu":
        cpu_offload(detector, execution_device=torch.device("cpu"))
    else:
        device = torch.device("cpu")
        detector.enable_group_offload(device, offload_type="leaf_level", offload_to_disk_path=str(tmp_path))
    assert fingerprint(detector) == fingerprint(expected)
    for found, faces in zip(detector.detect(images), expected.detect(images), strict=True):
        np.testing.assert_array_equal(found.boxes, faces.boxes)


def test_a_saved_network_is_loaded(file, images, tmp_path):
    detector = YuNet.from_pretrained(file, threshold=0.4)
    detector.save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    loaded = YuNet.from_pretrained(tmp_path / "saved")
    assert loaded.config["threshold"] == 0.4
    for found, expected in zip(loaded.detect(images), detector.detect(images), strict=True):
        np.testing.assert_array_equal(found.boxes, expected.boxes)
    assert YuNet.from_pretrained(tmp_path / "saved", threshold=0.7).config["threshold"] == 0.7
    for source in (file, tmp_path / "saved"):
        assert YuNet.from_pretrained(source, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_the_newest_file_in_full_precision_is_loaded(file, tmp_path):
    for name in ("2022mar", "2026may_int8", "2023mar"):
        (tmp_path / f"face_detection_yunet_{name}.onnx").write_bytes(b"an old file")
    with pytest.raises(ValueError, match=r"2023mar\.onnx is damaged"):
        YuNet.from_pretrained(tmp_path)
    (tmp_path / "face_detection_yunet_2026may.onnx").write_bytes(file.read_bytes())
    assert YuNet.from_pretrained(tmp_path).config["threshold"] == 0.6


def test_missing_and_other_files_are_reported(tmp_path):
    with pytest.raises(ValueError, match="no file"):
        YuNet.from_pretrained(tmp_path / "nothing.onnx")
    with pytest.raises(ValueError, match="no YuNet file in full precision"):
        YuNet.from_pretrained(tmp_path)
    other = write_embedding_network(tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=r"cannot be used as a YuNet network: it has no output cls_8"):
        YuNet.from_pretrained(other)


def test_without_a_network_the_message_says_where_to_place_which_file(components, tmp_path, monkeypatch):
    KeepPipeline(**components).save_pretrained(tmp_path / "pipeline")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cache = tmp_path / "cache"
    message = f"face_detection_yunet_2023mar.onnx .*place it in {cache / 'keep_hf' / 'releases' / 'yunet'}"
    with pytest.raises(OSError, match=message):
        YuNet.from_pretrained(cache_dir=cache)
    # A pipeline without a detector uses its own cache.
    with pytest.raises(OSError, match=message):
        KeepPipeline.from_pretrained(tmp_path / "pipeline", cache_dir=cache).face_detector()


def test_a_placed_file_is_used(file, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "keep_hf" / "releases" / "yunet"
    folder.mkdir(parents=True)
    (folder / "face_detection_yunet_2023mar.onnx").write_bytes(file.read_bytes())
    assert isinstance(YuNet.from_pretrained(cache_dir=tmp_path), YuNet)
