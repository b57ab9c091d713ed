"""`--model NAME` for published weights: one command from an empty cache to a video."""

import pytest
from accelerate import PartialState

from conftest import make_clip
from hub_server import serve, set_endpoint
from keep_hf import VideoReader
from keep_hf.cli import main
from keep_hf.cli.restore import advise_larger_model
from keep_hf.options import RestorationOptions
from media import write_clip
from onnx_files import write_embedding_network
from published import checkpoint_file, published_state_dict, small_codeformer
from release_server import serve_releases


pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def fresh_state():
    PartialState._reset_state()
    yield
    PartialState._reset_state()


@pytest.fixture
def server(monkeypatch):
    with serve_releases() as state:
        content = checkpoint_file(published_state_dict(small_codeformer()))
        state.files["/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth"] = content
        monkeypatch.setenv("KEEP_HF_GITHUB_ENDPOINT", state.address)
        yield state


def test_one_command_leads_from_an_empty_cache_to_a_video(server, tmp_path, capsys):
    source = write_clip(tmp_path / "in.mp4", images=list(make_clip(3, 64, 64)))
    options = ["--model", "codeformer", "--cache-dir", str(tmp_path / "cache"), "--aligned", "--device", "cpu"]
    for name in ("first", "second"):
        assert main(["restore", str(source), str(tmp_path / f"{name}.mp4"), *options]) == 0
    with VideoReader(tmp_path / "first.mp4") as video:
        assert len(list(video)) == 3
    assert (tmp_path / "first.mp4").read_bytes() == (tmp_path / "second.mp4").read_bytes()
    assert len(server.requests) == 1
    messages = capsys.readouterr().err.splitlines()
    (licence,) = (line for line in messages if "S-Lab License" in line)
    assert licence.startswith("keep-hf: warning: codeformer.pth is published under the NTU S-Lab License 1.0")
    # Everything is in the folder of --cache-dir.
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["keep_hf"]


def test_networks_beside_the_model_are_in_the_same_cache(tmp_path, monkeypatch):
    write_clip(tmp_path / "in.mp4", images=list(make_clip(3, 64, 64)))
    (tmp_path / "repository").mkdir()
    write_embedding_network(tmp_path / "repository" / "network.onnx")
    with serve(tmp_path / "repository", "me/network") as (endpoint, downloaded):
        set_endpoint(monkeypatch, endpoint)
        for command in (["faces", "in.mp4"], ["evaluate", "in.mp4", "--aligned"], ["restore", "in.mp4", "out.mp4"]):
            cache = tmp_path / command[0]
            paths = [str(tmp_path / word) if word.endswith(".mp4") else word for word in command]
            assert main([*paths, "--model", "keep-tiny", "--identity", "me/network", "--cache-dir", str(cache)]) == 0
            assert (cache / "models--me--network").is_dir()
        assert downloaded == ["network.onnx"] * 3


def test_a_failed_download_is_one_line(server, tmp_path, capsys):
    server.files.clear()
    source = write_clip(tmp_path / "in.mp4", images=list(make_clip(3, 64, 64)))
    options = ["--model", "codeformer", "--cache-dir", str(tmp_path / "cache"), "--aligned", "--device", "cpu"]
    assert main(["restore", str(source), str(tmp_path / "out.mp4"), *options]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    place = tmp_path / "cache" / "keep_hf" / "releases" / "codeformer" / "codeformer.pth"
    assert line.startswith("keep-hf: ")
    assert line.endswith(f"Or download codeformer.pth on another machine, and place it at {place}")


def test_convert_takes_an_address_and_records_the_licence(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "cache"))
    url = f"{server.address}/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth"
    assert main(["convert", url, str(tmp_path / "ours")]) == 0
    assert "S-Lab License" in (tmp_path / "ours" / "README.md").read_text()


def test_larger_faces_lead_to_advice():
    def advise(model: str, size: int, side: float, weight: float = 1.0, upscale: int = 1) -> str | None:
        track = {"largest_crop": side, "strength": {"weight": weight}}
        return advise_larger_model(model, size, [track], RestorationOptions(upscale=upscale))

    advice = advise("keep-tiny", 256, 400.4, weight=0.5)
    assert advice is not None
    assert advice.startswith("the largest face covers 400 x 400 pixels, and keep-tiny restores 256 x 256.")
    assert "--model keep-small" in advice
    assert "--model keep," in advice
    assert "400 x 400" in (advise("keep-tiny", 256, 200, upscale=2) or "")
    assert advise("keep-tiny", 256, 200) is None  # it fits
    assert advise("keep-small", 512, 900) is None  # no model restores more
    assert advise("keep-tiny", 256, 400, weight=0.0) is None  # the face was left as it is
    assert advise("keep", 512, 900) is None
    assert advise_larger_model("keep-tiny", 256, [], RestorationOptions()) is None
