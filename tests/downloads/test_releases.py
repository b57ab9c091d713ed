"""Published weights by name: downloaded, checked and converted once, with their licence."""

import errno
import io
import json
import threading
import warnings
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, constants
from safetensors import SafetensorError

from golden import needs_golden, tiny_state_dict
from keep_hf import KeepPipeline, KeepVQModel
from keep_hf.downloads import checkpoints, releases
from keep_hf.downloads.checkpoints import locate_checkpoint
from keep_hf.downloads.options import DownloadOptions
from keep_hf.downloads.releases import MIRROR_VARIABLE, RELEASES, install_release
from published import checkpoint_file, published_state_dict, small_codeformer
from release_server import serve_releases


PATH = "/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth"


@pytest.fixture(scope="module")
def content() -> bytes:
    return checkpoint_file(published_state_dict(small_codeformer()))


@pytest.fixture
def server(monkeypatch, content):
    """A mirror of the release files."""
    with serve_releases() as state:
        state.files[PATH] = content
        monkeypatch.setenv(MIRROR_VARIABLE, state.address)
        yield state


@pytest.fixture
def known_hash(monkeypatch, content):
    """The small checkpoint is the published one."""
    release = replace(RELEASES["codeformer"], sha256=sha256(content).hexdigest())
    monkeypatch.setitem(RELEASES, "codeformer", release)
    monkeypatch.setitem(checkpoints.RELEASED_FILES, release.file, release)


def load(cache: Path, **options) -> tuple[KeepPipeline, list[str]]:
    """The pipeline of CodeFormer, and the warnings while it is loaded."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        pipe = KeepPipeline.from_pretrained("codeformer", cache_dir=cache, **options)
    return pipe, [str(warning.message) for warning in shown if warning.category is UserWarning]


def folder(cache: Path) -> Path:
    return cache / "keep_hf" / "releases" / "codeformer"


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in folder(cache).iterdir() if path.name != ".lock")


def test_the_addresses_are_those_of_the_authors(monkeypatch):
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    assert {name: release.url for name, release in RELEASES.items()} == {
        "keep": "https://github.com/jnjaby/KEEP/releases/download/v1.0.0/KEEP-b76feb75.pth",
        "keep-asian": "https://github.com/jnjaby/KEEP/releases/download/v1.0.0/KEEP_Asian-4765ebe0.pth",
        "codeformer": "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth",
    }


def test_weights_are_downloaded_and_converted_once(server, known_hash, content, tmp_path):
    pipe, messages = load(tmp_path)
    (licence,) = messages
    assert "NTU S-Lab License 1.0, which allows non-commercial use only" in licence
    assert "https://github.com/sczhou/CodeFormer/blob/master/LICENSE" in licence
    expected = small_codeformer().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in pipe.vq.state_dict().items())
    assert (pipe.kalman, pipe.flow, pipe.config.fidelity) == (None, None, 0.5)
    assert not pipe.vq.training
    assert files(tmp_path) == ["pipeline-1"]
    assert list((folder(tmp_path) / "pipeline-1" / "vq").glob("*.safetensors"))

    half, messages = load(tmp_path, dtype=torch.bfloat16)
    assert half.vq.dtype == torch.bfloat16
    assert not messages
    assert len(server.requests) == 1
    load(tmp_path, force_download=True)
    assert len(server.requests) == 2


def test_the_licence_is_in_the_card_of_every_copy(server, known_hash, content, tmp_path):
    pipe, _ = load(tmp_path)
    pipe.save_pretrained(tmp_path / "copy")
    KeepPipeline.from_pretrained(tmp_path / "copy").save_pretrained(tmp_path / "second")
    for saved in (folder(tmp_path) / "pipeline-1", tmp_path / "copy", tmp_path / "second"):
        card = ModelCard.load(saved / "README.md")
        assert (card.data.license, card.data.license_name) == ("other", "ntu-s-lab-1.0")
        assert card.data.license_link == RELEASES["codeformer"].licence_url
        assert sha256(content).hexdigest() in card.text
        index = json.loads((saved / "model_index.json").read_text())
        assert index["release"] == "codeformer"
        assert index["checkpoint_sha256"] == sha256(content).hexdigest()


def test_the_card_of_other_weights_is_replaced(server, known_hash, tmp_path):
    pipe, _ = load(tmp_path)
    card = tmp_path / "copy" / "README.md"
    card.parent.mkdir()
    card.write_text("---\nlicense: apache-2.0\n---\n")
    pipe.save_pretrained(card.parent)
    assert ModelCard.load(card).data.license_name == "ntu-s-lab-1.0"
    card.write_text(f"{card.read_text()}\nMy notes")
    pipe.save_pretrained(card.parent)
    assert card.read_text().endswith("My notes")


def test_another_hash_causes_a_warning_and_is_recorded(server, content, tmp_path):
    pipe, messages = load(tmp_path)
    assert any("starts with 1009e537" in message and sha256(content).hexdigest() in message for message in messages)
    assert pipe.config.checkpoint_sha256 == sha256(content).hexdigest()


def test_a_damaged_file_is_refused_and_not_kept(server, content, tmp_path):
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1  # a weight
    server.files[PATH] = bytes(damaged)
    with pytest.raises(ValueError, match=r"codeformer\.pth is damaged"):
        load(tmp_path)
    server.files[PATH] = content[: len(content) // 2]
    with pytest.raises(ValueError, match=r"codeformer\.pth is damaged"):
        load(tmp_path)
    assert files(tmp_path) == []
    server.files[PATH] = content
    load(tmp_path)


def test_weights_of_another_network_are_refused(server, tmp_path):
    state_dict = published_state_dict(small_codeformer())
    state_dict["encoder.blocks.0.bias"] = torch.zeros(5)
    del state_dict["feat_emb.bias"]
    server.files[PATH] = checkpoint_file(state_dict)
    with pytest.raises(
        ValueError, match=r"1 missing: code_transformer.linear_in.bias; 1 of another shape: lq_encoder"
    ):
        load(tmp_path)
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, file)
    server.files[PATH] = file.getvalue()
    with pytest.raises(ValueError, match="not a checkpoint of KEEP"):
        load(tmp_path)
    assert files(tmp_path) == []


def test_without_a_network_the_message_says_where_to_place_which_file(server, monkeypatch, content, tmp_path):
    place = folder(tmp_path) / "codeformer.pth"
    message = f"download codeformer.pth on another machine, and place it at {place}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="HF_HUB_OFFLINE is set") as offline:
        load(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(OSError, match="local_files_only is set") as local:
        load(tmp_path, local_files_only=True)
    server.files.clear()
    with pytest.raises(OSError, match="404") as missing:
        load(tmp_path)
    assert all(message in str(error.value) for error in (offline, local, missing))

    # The file is then used, and it stays: it belongs to the user.
    place.write_bytes(content)
    load(tmp_path, local_files_only=True)
    assert files(tmp_path) == ["codeformer.pth", "codeformer.pth.incomplete", "pipeline-1"]


def test_a_full_disk_leaves_nothing_half_converted(server, tmp_path):
    def convert(checkpoint: Path, target: Path) -> None:
        (target / "vq").mkdir(parents=True)
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    with (
        pytest.warns(UserWarning, match="non-commercial"),
        pytest.raises(OSError, match=r"cannot be converted.*No space left"),
    ):
        install_release(RELEASES["codeformer"], convert, DownloadOptions(cache_dir=tmp_path))
    assert files(tmp_path) == ["codeformer.pth"]
    load(tmp_path)
    assert len(server.requests) == 1


@pytest.mark.filterwarnings("ignore:codeformer.pth is published")
def test_processes_that_start_together_convert_once(server, tmp_path):
    converted = []

    def convert(checkpoint: Path, target: Path) -> None:
        target.mkdir()
        converted.append(checkpoint)

    options = DownloadOptions(cache_dir=tmp_path)
    threads = [
        threading.Thread(target=install_release, args=(RELEASES["codeformer"], convert, options)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(converted) == len(server.requests) == 1


@pytest.mark.filterwarnings("ignore:codeformer.pth is published")
def test_a_cache_that_cannot_be_written_is_used(server, tmp_path, monkeypatch):
    def lock(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    address, options = f"{server.address}/mine.pth", DownloadOptions(cache_dir=tmp_path)
    server.files["/mine.pth"] = b"weights"
    installed = install_release(RELEASES["codeformer"], lambda checkpoint, target: target.mkdir(), options)
    downloaded = locate_checkpoint(address, options)
    for module in (checkpoints, releases):
        monkeypatch.setattr(module, "WeakFileLock", lock)
    assert install_release(RELEASES["codeformer"], lambda checkpoint, target: target.mkdir(), options) == installed
    assert locate_checkpoint(address, options) == downloaded


def test_a_folder_of_the_same_name_goes_first(components, tmp_path, monkeypatch):
    KeepPipeline(components["vq"]).save_pretrained(tmp_path / "codeformer")
    monkeypatch.chdir(tmp_path)
    assert KeepPipeline.from_pretrained("codeformer").vq.config.num_codes == components["vq"].config.num_codes


@needs_golden
@pytest.mark.filterwarnings("ignore:KEEP-b76feb75.pth is published", "ignore:The SHA-256 of")
def test_keep_has_a_gain_and_a_flow_network(server, tmp_path):
    path = "/jnjaby/KEEP/releases/download/v1.0.0/KEEP-b76feb75.pth"
    server.files[path] = checkpoint_file(tiny_state_dict())
    pipe = KeepPipeline.from_pretrained("keep", cache_dir=tmp_path)
    assert isinstance(pipe.vq, KeepVQModel)
    assert pipe.kalman is not None
    assert pipe.flow is not None
    assert pipe.config.release == "keep"
