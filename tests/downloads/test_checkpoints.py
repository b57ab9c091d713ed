"""`from_single_file`: files, addresses and files on the Hub."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hub_server import serve, set_endpoint
from keep_hf import KeepPipeline, KeepVQModel
from keep_hf.downloads.checkpoints import is_checkpoint, locate_checkpoint
from keep_hf.downloads.options import DownloadOptions
from published import checkpoint_file, published_state_dict, small_codeformer
from release_server import serve_releases


@pytest.fixture(scope="module")
def content() -> bytes:
    return checkpoint_file(published_state_dict(small_codeformer()))


def is_small_codeformer(vq: KeepVQModel) -> bool:
    expected = small_codeformer().state_dict()
    return all(torch.equal(value, expected[key]) for key, value in vq.state_dict().items())


def test_a_file_is_loaded_as_a_pipeline_or_as_the_face_model_alone(content, tmp_path):
    (tmp_path / "mine.pth").write_bytes(content)
    pipe = KeepPipeline.from_single_file(tmp_path / "mine.pth")
    assert is_small_codeformer(pipe.vq)
    assert pipe.config.release is None
    vq = KeepVQModel.from_single_file(str(tmp_path / "mine.pth"))
    assert is_small_codeformer(vq)
    assert not vq.training
    for name in ("dtype", "torch_dtype"):
        assert KeepVQModel.from_single_file(tmp_path / "mine.pth", **{name: torch.float16}).dtype == torch.float16
        half = KeepPipeline.from_single_file(tmp_path / "mine.pth", **{name: torch.bfloat16})
        assert half.vq.dtype == torch.bfloat16
    assert KeepVQModel.from_single_file(tmp_path / "mine.pth", adain=False).config.adain is False


def test_the_file_of_a_release_is_recognized_by_its_name(content, tmp_path):
    (tmp_path / "codeformer.pth").write_bytes(content)
    with pytest.warns(UserWarning, match="starts with 1009e537"):
        pipe = KeepPipeline.from_single_file(tmp_path / "codeformer.pth")
    assert pipe.config.release == "codeformer"
    pipe.save_pretrained(tmp_path / "saved")
    assert "NTU S-Lab License 1.0" in (tmp_path / "saved" / "README.md").read_text()


def test_a_file_is_loaded_by_its_address(content, tmp_path):
    with serve_releases() as server:
        server.files = {"/a/mine.pth": content, "/b/mine.pth": b"another file"}
        address = f"{server.address}/a/mine.pth"
        with pytest.raises(OSError, match="local_files_only is set"):
            KeepPipeline.from_single_file(address, cache_dir=tmp_path, local_files_only=True)
        assert is_small_codeformer(KeepPipeline.from_single_file(address, cache_dir=tmp_path).vq)
        with pytest.raises(ValueError, match="damaged"):
            KeepPipeline.from_single_file(f"{server.address}/b/mine.pth", cache_dir=tmp_path)
        with pytest.raises(ValueError, match="not the address of a file"):
            KeepPipeline.from_single_file(f"{server.address}/", cache_dir=tmp_path)
        assert is_small_codeformer(KeepVQModel.from_single_file(address, cache_dir=tmp_path))
        assert len(server.requests) == 2
    assert is_small_codeformer(KeepVQModel.from_single_file(address, cache_dir=tmp_path, local_files_only=True))


def test_processes_that_start_together_download_a_file_once(tmp_path):
    content = bytes(range(256)) * 2**14
    with serve_releases() as server, ThreadPoolExecutor(4) as pool:
        server.files = {"/mine.pth": content}
        options = DownloadOptions(cache_dir=tmp_path)
        paths = list(pool.map(locate_checkpoint, [f"{server.address}/mine.pth"] * 4, [options] * 4))
    assert [path.read_bytes() == content for path in paths] == [True] * 4
    assert len(server.requests) == 1


def test_the_licence_is_shown_before_a_release_is_downloaded_by_its_address(content, tmp_path, monkeypatch):
    with serve_releases() as server:
        monkeypatch.setenv("KEEP_HF_GITHUB_ENDPOINT", server.address)
        path = "/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth"
        server.files[path] = content
        with pytest.warns(UserWarning, match="non-commercial"), pytest.warns(UserWarning, match="The SHA-256"):
            KeepPipeline.from_single_file(f"{server.address}{path}", cache_dir=tmp_path)


def test_a_file_on_the_hub_is_loaded(content, tmp_path, monkeypatch):
    (tmp_path / "repository" / "weights").mkdir(parents=True)
    (tmp_path / "repository" / "weights" / "mine.pth").write_bytes(content)
    options = {"cache_dir": tmp_path / "cache", "token": False}
    with serve(tmp_path / "repository", "someone/keep") as (endpoint, downloaded):
        set_endpoint(monkeypatch, endpoint)
        for name in ("someone/keep/weights/mine.pth", f"{endpoint}/someone/keep/blob/main/weights/mine.pth"):
            assert is_small_codeformer(KeepVQModel.from_single_file(name, **options))
        assert downloaded == ["weights/mine.pth"]
        with pytest.raises(OSError, match=r"other.pth of the Hub repository someone/keep .* cannot be downloaded"):
            KeepPipeline.from_single_file("someone/keep/other.pth", **options)
    again = KeepPipeline.from_single_file("someone/keep/weights/mine.pth", local_files_only=True, **options)
    assert is_small_codeformer(again.vq)


def test_names_of_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"")
    (tmp_path / "folder.pth").mkdir()
    assert all(
        map(is_checkpoint, ("a.pth", "b/c.safetensors", "https://example.org/a", "weights.bin", "me/keep/a.pt"))
    )
    assert not any(map(is_checkpoint, ("keep", "me/keep", "folder.pth", "keep-small")))


def test_intact_files_cause_no_warning(content, tmp_path):
    (tmp_path / "mine.pth").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KeepVQModel.from_single_file(tmp_path / "mine.pth")
