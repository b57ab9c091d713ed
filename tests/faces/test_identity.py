"""Identity with a real network: crops of one person are similar, those of others are not; loading and saving."""

from itertools import islice

import cv2
import numpy as np
import pytest
from huggingface_hub import constants

from keep_hf.faces.alignment import TEMPLATE, crop_face, estimate_alignment
from keep_hf.faces.identity import ARCFACE_SIZE, ARCFACE_TEMPLATE, CROP_TO_ARCFACE, FaceIdentity
from keep_hf.faces.yunet import YuNet
from keep_hf.video.reader import VideoReader
from onnx_files import write_embedding_network, write_yunet
from paths import SHARED


MODEL = SHARED / "weights" / "MobileFaceNet.onnx"
needs_shared = pytest.mark.skipif(not MODEL.exists(), reason="MobileFaceNet.onnx of ../shared is not here")


@pytest.fixture(scope="module")
def identity():
    return FaceIdentity.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def crops():
    """Two crops a second and a half apart of each of four people."""
    detector = YuNet.from_pretrained(SHARED / "weights" / "yunet_n_dynamic.onnx")
    crops = []
    for number in (1, 4, 9, 12):
        with VideoReader(SHARED / "media" / "hq_eval" / f"talkvid_{number:02}.mp4") as reader:
            images = [frame.image for frame in islice(reader, 0, 37, 36)]
        for image, faces in zip(images, detector.detect(images), strict=True):
            crops.append(crop_face(image, estimate_alignment(faces.landmarks[0], 256), 256))
    return crops


def test_a_network_that_is_nowhere_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"no face recognition network me/network: .*: HF_HUB_OFFLINE is set"):
        FaceIdentity.from_pretrained("me/network", cache_dir=tmp_path)
    (tmp_path / "network.pth").touch()
    with pytest.raises(ValueError, match=r"network.pth is no .onnx file"):
        FaceIdentity.from_pretrained(tmp_path / "network.pth")


def test_crops_are_moved_to_the_alignment_of_arcface():
    places = TEMPLATE @ CROP_TO_ARCFACE[:, :2].T + CROP_TO_ARCFACE[:, 2]
    # The templates are two different mean faces: no similarity transform maps one onto the other within 2 px.
    assert np.abs(places - ARCFACE_TEMPLATE).max() < 2.2
    np.testing.assert_allclose(places.mean(axis=0), ARCFACE_TEMPLATE.mean(axis=0))
    # Least squares: no rotation or scale reduces the distance.
    distance = ((places - ARCFACE_TEMPLATE) ** 2).sum()
    for turn in (1.01, 0.99, 1 + 0.01j, 1 - 0.01j):
        moved = (places - places.mean(axis=0)) @ (1, 1j) * turn + places.mean(axis=0) @ (1, 1j)
        assert (np.abs(moved - ARCFACE_TEMPLATE @ (1, 1j)) ** 2).sum() > distance


@needs_shared
def test_embeddings_of_one_person_are_similar_and_of_others_are_not(identity, crops):
    embeddings = identity.embed(crops)
    assert embeddings.shape == (8, 128)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    similarity = embeddings @ embeddings.T
    people = np.arange(8) // 2
    same = similarity[(people[:, None] == people) & ~np.eye(8, dtype=bool)]
    others = similarity[people[:, None] != people]
    assert same.mean() > 0.8
    assert same.min() > 0.6
    assert abs(others.mean()) < 0.15
    assert others.max() < 0.45


@needs_shared
def test_the_size_of_the_crop_hardly_matters(identity, crops):
    small = [cv2.resize(crop, (128, 128), interpolation=cv2.INTER_AREA) for crop in crops]
    assert (identity.embed(crops) * identity.embed(small)).sum(axis=1).min() > 0.9


@needs_shared
def test_channel_order_and_normalization_are_used(identity, crops):
    swapped = FaceIdentity.from_pretrained(MODEL, channel_order="bgr")
    mirrored = [np.ascontiguousarray(crop[..., ::-1]) for crop in crops]
    np.testing.assert_allclose(swapped.embed(mirrored), identity.embed(crops), atol=1e-5)
    raw = FaceIdentity.from_pretrained(MODEL, mean=(0, 0, 0), scale=1).embed(crops)
    assert (raw @ raw.T).min() > 0.4  # With levels of 255 all embeddings are similar.


@needs_shared
def test_embeddings_are_those_of_opencv(identity, crops):
    network = cv2.dnn.readNetFromONNX(str(MODEL))
    faces = [crop_face(crop, CROP_TO_ARCFACE @ np.diag([2, 2, 1]), ARCFACE_SIZE) for crop in crops]
    for face, found in zip(faces, identity.embed(crops), strict=True):
        network.setInput((face.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 127.5)
        expected = network.forward().reshape(-1)
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


def test_a_saved_network_is_loaded_with_its_settings(tmp_path):
    file = write_embedding_network(tmp_path / "network.onnx")
    faces = [np.random.default_rng(i).integers(0, 256, (128, 128, 3), np.uint8) for i in range(20)]
    settings = {"mean": (123.7, 116.3, 103.5), "scale": 1 / 57.4, "channel_order": "bgr"}
    network = FaceIdentity.from_pretrained(file, **settings)
    network.save_pretrained(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*.onnx"))
    loaded = FaceIdentity.from_pretrained(tmp_path / "saved", torch_dtype=None)
    np.testing.assert_array_equal(loaded.embed(faces), network.embed(faces))
    # More faces than one batch
    np.testing.assert_allclose(loaded.embed(faces)[-1:], loaded.embed(faces[-1:]), atol=1e-5)
    default = FaceIdentity.from_pretrained(tmp_path / "saved", mean=(127.5,) * 3, scale=1 / 127.5, channel_order="rgb")
    by_file = FaceIdentity.from_pretrained(file)
    np.testing.assert_array_equal(default.embed(faces), by_file.embed(faces))
    assert np.abs(by_file.embed(faces) - network.embed(faces)).max() > 0.01


def test_no_faces_give_no_rows(tmp_path):
    network = FaceIdentity.from_pretrained(write_embedding_network(tmp_path / "network.onnx", width=6))
    assert network.embed([]).shape == (0, 6)


def test_invalid_crops_and_channel_orders_are_rejected(tmp_path):
    file = write_embedding_network(tmp_path / "network.onnx")
    with pytest.raises(ValueError, match="aligned crops"):
        FaceIdentity.from_pretrained(file).embed([np.zeros((64, 80, 3), np.uint8)])
    with pytest.raises(ValueError, match="channel_order"):
        FaceIdentity.from_pretrained(file, channel_order="grb")


def test_missing_file_is_reported(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*none\.onnx"):
        FaceIdentity.from_pretrained(tmp_path / "none.onnx")


def test_folder_must_contain_one_file(tmp_path):
    with pytest.raises(ValueError, match="found none"):
        FaceIdentity.from_pretrained(tmp_path)
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"found a\.onnx, b\.onnx"):
        FaceIdentity.from_pretrained(tmp_path)


def test_damaged_file_is_reported(tmp_path):
    (tmp_path / "noise.onnx").write_bytes(bytes(range(256)) * 64)
    with pytest.raises(ValueError, match=r"noise\.onnx is damaged"):
        FaceIdentity.from_pretrained(tmp_path / "noise.onnx")
    content = write_embedding_network(tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"half\.onnx is damaged"):
        FaceIdentity.from_pretrained(tmp_path / "half.onnx")


def test_network_of_another_kind_is_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be used as a face recognition network: it has several outputs"):
        FaceIdentity.from_pretrained(write_yunet(tmp_path / "yunet.onnx"))
