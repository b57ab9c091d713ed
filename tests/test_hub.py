"""Saving and loading of pipelines: folders, the Hub, and published checkpoint files."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from conftest import SIZE, make_clip
from hub_server import COMMIT, serve
from keep_hf import FaceDetector, FaceIdentity, KeepPipeline, YuNet
from keep_hf.built_in import BUILT_IN
from onnx_files import write_embedding_network, write_yunet
from paths import SHARED


pytestmark = pytest.mark.slow


TINY_STATE_DICT = SHARED / "reference" / "golden" / "tiny_state_dict_fp16exact.safetensors"


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_clip(4, SIZE, SIZE)


@pytest.fixture
def detector() -> FaceDetector:
    torch.manual_seed(0)
    return FaceDetector(block_out_channels=(4, 4, 8, 8, 8), neck_channels=8, close_up_channels=(4, 4, 8, 8)).eval()


def restore(pipe, video) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    return pipe(video, aligned=True, output_type="np").frames


def index_of(folder: Path) -> dict:
    return json.loads((folder / "model_index.json").read_text())


# Folders


def test_a_saved_pipeline_is_loaded_bit_for_bit(components, detector, crops, tmp_path):
    pipe = KeepPipeline(**components, detector=detector, gain_window=7, fidelity=0.25)
    pipe.save_pretrained(tmp_path)
    index = index_of(tmp_path)
    assert {key: value for key, value in index.items() if key != "_diffusers_version"} == {
        "_class_name": ["pipeline", "KeepPipeline"],
        "checkpoint_sha256": None,
        "detector": ["keep_hf", "FaceDetector"],
        "fidelity": 0.25,
        "flow": ["keep_hf", "GMFlow"],
        "gain_window": 7,
        "identity": [None, None],
        "kalman": ["keep_hf", "KalmanGainNetwork"],
        "licence": None,
        "parser": [None, None],
        "release": None,
        "vq": ["keep_hf", "KeepVQModel"],
    }
    loaded = KeepPipeline.from_pretrained(tmp_path)
    for name in ("detector", "flow", "kalman", "vq"):
        before, after = getattr(pipe, name), getattr(loaded, name)
        assert type(before) is type(after)
        assert not after.training
        expected = before.state_dict()
        assert after.state_dict().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in after.state_dict().items())
    assert (loaded.config.gain_window, loaded.config.fidelity) == (7, 0.25)
    np.testing.assert_array_equal(restore(loaded, crops), restore(pipe, crops))
    assert KeepPipeline.from_pretrained(tmp_path, gain_window=3).config.gain_window == 3


def test_the_detector_is_optional(components, detector, tmp_path):
    KeepPipeline(**components).save_pretrained(tmp_path)
    assert index_of(tmp_path)["detector"] == [None, None]
    assert KeepPipeline.from_pretrained(tmp_path).detector is None
    assert KeepPipeline.from_pretrained(tmp_path, detector=detector).detector is detector


def test_a_single_frame_model_is_saved_without_gain_and_flow_network(components, crops, tmp_path):
    pipe = KeepPipeline(components["vq"])
    pipe.save_pretrained(tmp_path)
    assert index_of(tmp_path)["kalman"] == index_of(tmp_path)["flow"] == [None, None]
    np.testing.assert_array_equal(restore(KeepPipeline.from_pretrained(tmp_path), crops), restore(pipe, crops))


def test_half_precision_runs(components, crops, tmp_path):
    pipe = KeepPipeline(**components)
    pipe.save_pretrained(tmp_path)
    half = KeepPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {half.vq.dtype, half.kalman.dtype, half.flow.dtype} == {torch.bfloat16}
    faces = torch.from_numpy(crops).permute(0, 3, 1, 2) / 127.5 - 1
    latents, half_latents = pipe.vq.encode_lq(faces)[0], half.vq.encode_lq(faces.bfloat16())[0]
    assert half_latents.dtype == torch.bfloat16
    torch.testing.assert_close(half_latents.float(), latents, atol=0.05, rtol=0.05)
    restored = restore(half, crops)
    assert restored.shape == (1, len(crops), SIZE, SIZE, 3)
    assert np.isfinite(restored).all()
    assert restored.std() > 0.1


def add_face_networks(pipe: KeepPipeline, folder: Path) -> None:
    """Add YuNet and an identity network, converted from ONNX files that are not trained."""
    pipe.register_modules(
        detector=YuNet.from_pretrained(write_yunet(folder / "yunet.onnx"), threshold=0.5),
        identity=FaceIdentity.from_pretrained(write_embedding_network(folder / "identity.onnx"), scale=0.01),
    )


def test_networks_from_onnx_files_are_saved_as_safetensors(components, tmp_path):
    pipe = KeepPipeline(**components)
    add_face_networks(pipe, tmp_path)
    pipe.save_pretrained(tmp_path / "pipeline")
    assert not list((tmp_path / "pipeline").rglob("*.onnx"))
    assert index_of(tmp_path / "pipeline")["detector"] == ["keep_hf", "YuNet"]
    loaded = KeepPipeline.from_pretrained(tmp_path / "pipeline")
    assert (loaded.detector.config["threshold"], loaded.identity.config["scale"]) == (0.5, 0.01)
    assert loaded.fingerprint() == pipe.fingerprint()
    image = make_clip(1, 96, 96)[0]
    np.testing.assert_array_equal(loaded.detector.detect([image])[0].boxes, pipe.detector.detect([image])[0].boxes)
    np.testing.assert_array_equal(loaded.identity.embed([image]), pipe.identity.embed([image]))


# The checkpoint in the package


def test_the_built_in_checkpoint_restores_a_clip():
    pipe = KeepPipeline.from_pretrained("keep-tiny")
    pipe.set_progress_bar_config(disable=True)
    size = pipe.vq.config.sample_size
    output = pipe(make_clip(2, size, size), aligned=True, output_type="np")
    assert output.frames.shape == (1, 2, size, size, 3)
    assert np.isfinite(output.frames).all()


def test_the_built_in_checkpoint_contains_no_absolute_path():
    folder = BUILT_IN["keep-tiny"]
    for path in folder.rglob("*.json"):
        name = json.loads(path.read_text()).get("_name_or_path", "")
        assert not Path(name).is_absolute(), f"{path.relative_to(folder)} holds {name}"


def test_a_folder_takes_precedence_over_a_built_in_name(components, tmp_path, monkeypatch):
    KeepPipeline(**components).save_pretrained(tmp_path / "keep-tiny")
    monkeypatch.chdir(tmp_path)
    assert KeepPipeline.from_pretrained("keep-tiny").vq.config.sample_size == SIZE


# The Hub

CLIENT = """
import json, sys
import numpy as np, torch
torch.set_num_threads(1)
from keep_hf import KeepPipeline
from pathlib import Path
crops, result, options = np.load(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
pipe = KeepPipeline.from_pretrained("someone/keep", **options)
np.save(result, pipe(crops, aligned=True, output_type="np").frames)
result.with_suffix(".txt").write_text(type(pipe.detector).__name__)
"""


def run_client(folder: Path, crops: np.ndarray, options: dict, **environment: str) -> tuple[np.ndarray, str]:
    """Output and type of detector of the pipeline on the Hub, in another process, because huggingface_hub reads its
    settings when it is imported."""
    np.save(folder / "crops.npy", crops)
    result = folder / "result.npy"
    result.unlink(missing_ok=True)
    subprocess.run(
        [sys.executable, "-c", CLIENT, str(folder / "crops.npy"), str(result), json.dumps(options)],
        check=True,
        env={**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1", **environment},
    )
    return np.load(result), result.with_suffix(".txt").read_text()


def test_one_variant_is_downloaded_and_then_loaded_from_the_cache(components, detector, crops, tmp_path):
    repository = tmp_path / "repository"
    pipe = KeepPipeline(**components, detector=detector)
    pipe.save_pretrained(repository)
    pipe.save_pretrained(repository, variant="fp16")
    (repository / "README.md").write_text("a model card")
    with serve(repository, "someone/keep") as (endpoint, downloaded):
        online, found = run_client(tmp_path, crops, {"variant": "fp16"}, HF_ENDPOINT=endpoint)
    names = ("detector", "flow", "kalman", "vq")
    weights = sorted(name for name in downloaded if name.endswith(".safetensors"))
    assert weights == [f"{name}/diffusion_pytorch_model.fp16.safetensors" for name in names]
    assert {f"{name}/config.json" for name in names} | {"model_index.json"} <= set(downloaded)
    assert "README.md" not in downloaded
    # In another process a pixel may be rounded to the neighbouring level.
    np.testing.assert_allclose(online, restore(pipe, crops), atol=1.5 / 255)
    assert found == "FaceDetector"

    # The server has stopped.
    offline, found = run_client(tmp_path, crops, {"variant": "fp16"}, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1")
    np.testing.assert_allclose(offline, online, atol=1.5 / 255)
    assert found == "FaceDetector"


FACE_NETWORKS_CLIENT = """
import os, sys
import pytest
from keep_hf import FaceIdentity, KeepPipeline, YuNet

folder, commit = sys.argv[1:]
access = {"cache_dir": f"{folder}/cache", "token": "hf_secret", "revision": commit}
pipe = KeepPipeline.from_pretrained("someone/keep", **access)
assert (type(pipe.detector), type(pipe.identity)) == (YuNet, FaceIdentity)
assert pipe.detector.config["threshold"] == 0.5
print(pipe.fingerprint())

offline = access | {"local_files_only": True}
for network, name in ((YuNet, "detector"), (FaceIdentity, "identity")):
    # The pipeline downloaded it to this cache already, but not to another one.
    network.from_pretrained("someone/keep", subfolder=name, **offline)
    for other in ({"cache_dir": f"{folder}/empty"}, {"revision": "0" * 40}):
        with pytest.raises(OSError):
            network.from_pretrained("someone/keep", subfolder=name, **(offline | other))
    empty = access | {"cache_dir": f"{folder}/empty"}
    for other in ({"token": False}, {"token": "hf_wrong"}, {"revision": "missing"}):
        with pytest.raises(OSError):
            network.from_pretrained("someone/keep", subfolder=name, **(empty | other))
    network.from_pretrained("someone/keep", subfolder=name, **empty)

# A repository with ONNX files, as that of OpenCV
os.link(f"{folder}/yunet.onnx", f"{folder}/repository/face_detection_yunet_2023mar.onnx")
access["cache_dir"] = f"{folder}/third"
assert YuNet.from_pretrained("someone/keep", **access).config["threshold"] == 0.6
"""


def test_networks_from_onnx_files_are_loaded_from_the_hub(components, tmp_path):
    pipe = KeepPipeline(**components)
    add_face_networks(pipe, tmp_path)
    (tmp_path / "repository").mkdir()
    with serve(tmp_path / "repository", "someone/keep", token="hf_secret") as (endpoint, downloaded):
        environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        pipe.save_pretrained(tmp_path / "repository")
        run = subprocess.run(
            [sys.executable, "-c", FACE_NETWORKS_CLIENT, str(tmp_path), COMMIT],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | environment,
        )
    assert run.stdout.split()[-1] == pipe.fingerprint()
    weights = [f"{name}/diffusion_pytorch_model.safetensors" for name in ("detector", "identity")]
    # A snapshot is downloaded by several threads: the order differs.
    assert sorted(name for name in downloaded if name in weights) == sorted(weights * 2)
    assert downloaded[-1] == "face_detection_yunet_2023mar.onnx"


# Published checkpoint files


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_no_code_of_a_checkpoint_is_executed(tmp_path):
    proof = tmp_path / "proof"
    checkpoint = tmp_path / "hostile.pth"
    torch.save({"params_ema": Hostile(proof)}, checkpoint)
    with pytest.raises(ValueError, match=r"hostile\.pth is damaged, or not a checkpoint"):
        KeepPipeline.from_single_file(checkpoint)
    assert not proof.exists()
    # The file does contain code.
    torch.load(checkpoint, weights_only=False)
    assert proof.exists()


def damaged_zip(path: Path) -> None:
    torch.save({"weight": torch.zeros(4000)}, path)
    path.write_bytes(path.read_bytes()[:9000])


def flipped_zip(path: Path) -> None:
    torch.save({"weight": torch.zeros(4000)}, path)
    content = bytearray(path.read_bytes())
    content[60:100] = b"?" * 40
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("cut.pth", damaged_zip, "damaged"),
        ("flipped.pth", flipped_zip, "damaged"),
        ("text.pth", lambda path: path.write_text("not a checkpoint"), "damaged"),
        ("empty.pth", lambda path: path.write_bytes(b""), "damaged"),
        ("old.pth", lambda path: path.write_bytes(pickle.dumps({"a": 1})), "damaged|no state dict|is no"),
        ("list.pth", lambda path: torch.save([torch.zeros(2)], path), "list.pth"),
        ("cut.safetensors", lambda path: path.write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00{"), "damaged"),
        ("other.pth", lambda path: torch.save({"weight": torch.zeros(2)}, path), "not a checkpoint of KEEP"),
        ("other.safetensors", lambda path: save_file({"weight": torch.zeros(2)}, path), "not a checkpoint of KEEP"),
    ],
)
def test_a_file_that_is_no_checkpoint_of_a_known_network_is_refused(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        KeepPipeline.from_single_file(tmp_path / name)


def test_a_missing_checkpoint_is_reported(tmp_path):
    with pytest.raises(ValueError, match=r"no checkpoint file .*missing\.pth"):
        KeepPipeline.from_single_file(tmp_path / "missing.pth")


@pytest.mark.skipif(not TINY_STATE_DICT.is_file(), reason="needs the small state dict in ../shared")
def test_a_published_state_dict_is_loaded_as_a_pipeline(tmp_path):
    pipe = KeepPipeline.from_single_file(TINY_STATE_DICT, transformer_num_heads=4)
    size = pipe.vq.config.sample_size
    crops = make_clip(2, size, size)
    expected = restore(pipe, crops)
    assert expected.shape == (1, 2, size, size, 3)
    pipe.save_pretrained(tmp_path)
    np.testing.assert_array_equal(restore(KeepPipeline.from_pretrained(tmp_path), crops), expected)
    half = KeepPipeline.from_single_file(TINY_STATE_DICT, transformer_num_heads=4, dtype=torch.bfloat16)
    assert {half.vq.dtype, half.kalman.dtype, half.flow.dtype} == {torch.bfloat16}
