"""YuNet: detection, saving and loading."""

import numpy as np
import pytest
import skimage.data
import torch
from huggingface_hub import constants

from keep_hf import KeepPipeline
from keep_hf.faces.yunet import YuNet
from paths import SHARED


YUNET_FILE = SHARED / "weights" / "yunet_n_dynamic.onnx"
needs_yunet = pytest.mark.skipif(not YUNET_FILE.exists(), reason="the YuNet file of ../shared is missing")
# Eyes, nose and mouth corners in the image, the median over three sizes and their mirror images
ASTRONAUT = np.array([(204.0, 104.2), (246.2, 105.3), (223.0, 128.2), (204.1, 142.6), (242.3, 144.3)])


@needs_yunet
def test_a_face_is_found():
    (faces,) = YuNet(YUNET_FILE).detect([skimage.data.astronaut()])
    assert len(faces) == 1
    assert np.linalg.norm(faces.landmarks[0] - ASTRONAUT, axis=-1).mean() < 0.08 * 42
    assert len(YuNet(YUNET_FILE).detect([np.zeros((100, 100, 3), np.uint8)])[0]) == 0


@needs_yunet
def test_the_newest_file_in_full_precision_is_loaded(tmp_path):
    YuNet(YUNET_FILE).save_pretrained(tmp_path / "detector", safe_serialization=True)
    again = YuNet.from_pretrained(tmp_path / "detector", dtype=torch.float32)
    assert again.model_file.read_bytes() == YUNET_FILE.read_bytes()
    for name in ("2022mar", "2026may", "2026may_int8", "2023mar"):
        (tmp_path / f"face_detection_yunet_{name}.onnx").write_bytes(YUNET_FILE.read_bytes())
    assert YuNet.from_pretrained(tmp_path).model_file.name == "face_detection_yunet_2026may.onnx"


def test_missing_and_damaged_files_are_reported(tmp_path):
    with pytest.raises(ValueError, match="no YuNet file"):
        YuNet(tmp_path / "nothing.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="damaged or not a YuNet file"):
        YuNet(tmp_path / "damaged.onnx")
    (tmp_path / "damaged.onnx").unlink()
    with pytest.raises(ValueError, match="no YuNet file in full precision"):
        YuNet.from_pretrained(tmp_path)


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


@needs_yunet
def test_a_placed_file_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "keep_hf" / "releases" / "yunet"
    folder.mkdir(parents=True)
    (folder / "face_detection_yunet_2023mar.onnx").write_bytes(YUNET_FILE.read_bytes())
    assert isinstance(YuNet.from_pretrained(cache_dir=tmp_path), YuNet)
