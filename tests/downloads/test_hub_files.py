"""YuNet from the Hub, or from the place that the message names."""

import pytest
from huggingface_hub import constants

from hub_server import serve, set_endpoint
from keep_hf.downloads.hub import YUNET_REPOSITORY, locate_yunet
from keep_hf.downloads.options import DownloadOptions


def test_the_files_are_downloaded_once(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "face_detection_yunet_2023mar.onnx").write_bytes(b"network")
    (repository / "README.md").write_text("a card")
    options = DownloadOptions(cache_dir=tmp_path / "cache", token=False)
    with serve(repository, YUNET_REPOSITORY) as (endpoint, downloaded):
        set_endpoint(monkeypatch, endpoint)
        folder = locate_yunet(YUNET_REPOSITORY, options)
        assert downloaded == ["face_detection_yunet_2023mar.onnx"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate_yunet(YUNET_REPOSITORY, options) == folder
    assert [path.read_bytes() for path in folder.iterdir()] == [b"network"]


def test_without_a_network_the_message_says_where_to_place_which_file(tmp_path, monkeypatch):
    options = DownloadOptions(cache_dir=tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    place = tmp_path / "keep_hf" / "releases" / "yunet"
    with pytest.raises(OSError, match=rf"HF_HUB_OFFLINE is set.*yunet_2023mar.onnx .*place it in {place}"):
        locate_yunet(YUNET_REPOSITORY, options)
    (place / "face_detection_yunet_2023mar.onnx").write_bytes(b"network")
    assert locate_yunet(YUNET_REPOSITORY, options) == place
