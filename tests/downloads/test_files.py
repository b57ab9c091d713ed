"""Downloads by URL from a local server: whole, in parts, and with every fault that a network has."""

import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from keep_hf.downloads.files import download_file
from release_server import ReleaseServer, serve_releases


CONTENT = bytes(range(256)) * 1000
ADVICE = "Or place it there."


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the retries of huggingface_hub
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)  # what breaks off within a chunk of 10 MB is lost
    with serve_releases() as state:
        state.files["/weights.pth"] = CONTENT
        yield state


def download(server: ReleaseServer, folder: Path) -> Path:
    download_file(f"{server.address}/weights.pth", folder / "weights.pth", ADVICE)
    return folder / "weights.pth"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded(server, tmp_path):
    assert download(server, tmp_path).read_bytes() == CONTENT
    assert files(tmp_path) == ["weights.pth"]
    assert server.requests == [("/weights.pth", None)]


def test_redirects_are_followed(server, tmp_path):
    server.files = {"/storage": CONTENT}
    server.redirects["/weights.pth"] = f"{server.address}/storage"
    assert download(server, tmp_path).read_bytes() == CONTENT


def test_an_answer_that_breaks_off_is_resumed(server, tmp_path):
    server.breaks, server.bytes_before_break = 2, 1000
    assert download(server, tmp_path).read_bytes() == CONTENT
    assert [requested for _, requested in server.requests] == [None, "bytes=1000-", "bytes=2000-"]


def test_a_later_download_continues_where_a_failed_one_stopped(server, tmp_path):
    server.breaks, server.bytes_before_break = 1, 1000
    server.is_gone_after = 1
    with pytest.raises(OSError, match=rf"{server.address}/weights.pth cannot be downloaded.*{ADVICE}"):
        download(server, tmp_path)
    assert files(tmp_path) == ["weights.pth.incomplete"]
    assert (tmp_path / "weights.pth.incomplete").read_bytes() == CONTENT[:1000]
    server.is_gone_after = None
    server.requests.clear()
    assert download(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [("/weights.pth", "bytes=1000-")]


def test_a_file_that_always_breaks_off_is_not_taken_for_whole(server, tmp_path):
    server.breaks, server.bytes_before_break = 1000, 0
    with pytest.raises(OSError, match=rf"cannot be downloaded.*without sending complete message body.*{ADVICE}"):
        download(server, tmp_path)
    assert files(tmp_path) == ["weights.pth.incomplete"]


def test_the_rest_of_a_part_is_downloaded(server, tmp_path):
    (tmp_path / "weights.pth.incomplete").write_bytes(CONTENT[:1234])
    assert download(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [("/weights.pth", "bytes=1234-")]


def test_a_server_that_sends_no_parts_sends_the_whole_file(server, tmp_path):
    server.knows_ranges = False
    (tmp_path / "weights.pth.incomplete").write_bytes(b"x" * 1234)
    assert download(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("num_bytes", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_after_which_nothing_comes_is_downloaded_again(server, tmp_path, num_bytes):
    (tmp_path / "weights.pth.incomplete").write_bytes(b"x" * num_bytes)
    assert download(server, tmp_path).read_bytes() == CONTENT


def test_a_missing_file_is_reported(server, tmp_path):
    server.files.clear()
    with pytest.raises(OSError, match=rf"weights.pth cannot be downloaded to {tmp_path}: .*404.*{ADVICE}"):
        download(server, tmp_path)
    assert "weights.pth" not in files(tmp_path)


def test_a_missing_network_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with serve_releases() as server:
        pass
    with pytest.raises(OSError, match=rf"cannot be downloaded.*refused.*{ADVICE}"):
        download(server, tmp_path)


def test_a_full_disk_is_reported(server, tmp_path):
    (tmp_path / "weights.pth.incomplete").symlink_to("/dev/full")
    with pytest.raises(OSError, match=rf"no space left on the disk. {ADVICE}"):
        download(server, tmp_path)
    assert not (tmp_path / "weights.pth").exists()


def test_nothing_is_downloaded_offline(server, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=rf"cannot be downloaded.*HF_HUB_OFFLINE is set. {ADVICE}"):
        download(server, tmp_path)
    assert not server.requests
