"""Weights that are not where they are used, at the sizes of real models: no way of keeping them changes the result.

The tiny models of the other tests have too few positions for the faster paths of the layers, which read weights.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from torch import nn

from conftest import make_clip
from keep_hf import FaceDetector, GMFlow, KalmanGainNetwork, KeepPipeline, KeepVQModel
from keep_hf.faces.detection import Faces
from keep_hf.offloading import execution_device, read_weights
from keep_hf.restoration.fingerprint import fingerprint


CPU = torch.device("cpu")
# Both have maps that are large enough for folding (32 and more). keep-tiny has all parts of the published network;
# keep-small has a direct path, and at a fidelity below 1 it uses its codes, too.
FIDELITIES = {"keep-tiny": 1.0, "keep-small": 0.5}
PLACES = ("cpu", "disk", "leaves on disk", "blocks on disk", "pairs of blocks on disk")


def offload(network: nn.Module, place: str, folder: Path) -> nn.Module:
    """Put the weights of a network elsewhere; returns the network, or a new one with the same weights."""
    if place == "cpu":
        cpu_offload(network, execution_device=CPU)
    elif place == "disk":
        network.save_pretrained(folder / "weights")
        names = [name for name, _ in network.named_children()]
        device_map = dict.fromkeys(names, "disk")
        network = type(network).from_pretrained(
            folder / "weights", device_map=device_map, offload_folder=folder / "offloaded"
        )
    else:
        network.enable_group_offload(
            onload_device=CPU,
            offload_type="leaf_level" if place.startswith("leaves") else "block_level",
            num_blocks_per_group=2 if place.startswith("pairs") else 1,
            # Tensors on the disk have no values until the hook of their group runs.
            offload_to_disk_path=str(folder) if place.endswith("disk") else None,
        )
    return network


def load(name: str) -> KeepPipeline:
    pipe = KeepPipeline.from_pretrained(name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def restore(pipe: KeepPipeline, name: str) -> np.ndarray:
    size = pipe.vq.config.sample_size
    clip = make_clip(2, size, size)
    return pipe(clip, aligned=True, fidelity=FIDELITIES[name], strength=1.0, output_type="np").frames


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return {name: restore(load(name), name) for name in FIDELITIES}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", FIDELITIES)
def test_a_pipeline_with_offloaded_weights_restores_the_same_faces(name, place, expected, tmp_path):
    pipe = load(name)
    for part in ("vq", "kalman", "flow"):
        network = getattr(pipe, part)
        if isinstance(network, nn.Module):
            setattr(pipe, part, offload(network, place, tmp_path / part))
    restored = restore(pipe, name)
    # The faster paths of the layers are not taken, which changes the rounding.
    assert np.abs(restored - expected[name]).max() <= 1.5 / 255
    assert restored.std() > 0.1


@pytest.mark.parametrize("place", PLACES)
def test_a_detector_with_offloaded_weights_finds_the_same_faces(place, tmp_path):
    """An untrained detector finds everything: its scores and landmarks show the weights."""
    torch.manual_seed(0)
    detector = FaceDetector(search_threshold=0.0, threshold=0.0, refinement=True).eval()
    frames = list(make_clip(2, 96, 64))

    def describe(faces: list[Faces]) -> np.ndarray:
        return np.concatenate([np.concatenate([f.landmarks.ravel(), f.scores]) for f in faces])

    found = describe(detector.detect(frames))
    assert found.size > 10
    detector = offload(detector, place, tmp_path)
    assert execution_device(detector) == CPU
    np.testing.assert_allclose(describe(detector.detect(frames)), found, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("storage", [torch.float8_e4m3fn, torch.float16])
@pytest.mark.parametrize("name", FIDELITIES)
def test_weights_stored_in_fewer_bits_restore_nearly_the_same_faces(name, storage, expected):
    pipe = load(name)
    for network in (pipe.vq, pipe.kalman, pipe.flow):
        if isinstance(network, nn.Module):
            network.enable_layerwise_casting(storage_dtype=storage, compute_dtype=torch.float32)
    assert pipe.vq.lq_encoder.conv_in.weight.dtype == storage
    error = np.abs(restore(pipe, name) - expected[name]).mean()
    assert error < (0.03 if storage == torch.float8_e4m3fn else 0.002)


def make_models() -> list[nn.Module]:
    torch.manual_seed(0)
    vq = KeepVQModel(
        sample_size=64,
        block_out_channels=(32, 32),
        transformer_num_layers=1,
        fusion_sizes=(32,),
        cross_frame_sizes=(32,),
    )
    return [vq, KalmanGainNetwork(num_uncertainty_layers=1), GMFlow(num_layers=2), FaceDetector()]


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("place", PLACES)
def test_weights_and_fingerprint_are_those_of_the_network(index, place, tmp_path):
    network = make_models()[index]
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    mark = fingerprint(network)
    network = offload(network, place, tmp_path)
    assert all(map(torch.equal, read_weights(network), weights.values()))
    assert fingerprint(network) == mark


def test_a_network_without_weights_has_no_fingerprint():
    with torch.device("meta"):
        network = nn.Linear(2, 3)
    with pytest.raises(ValueError, match="The weight weight of Linear has no values"):
        fingerprint(network)


def test_an_offloaded_entry_point_leaves_the_weights_offloaded(tmp_path):
    pipe = load("keep-small")
    vq = offload(pipe.vq, "cpu", tmp_path)
    with torch.no_grad():
        vq.observe_direct(torch.zeros(1, 3, 512, 512))
    assert vq.direct.position.is_meta
    assert all(weight.is_meta for weight in vq.parameters())


def count_calls(network: nn.Module, call: Callable[[], object]) -> int:
    calls = []
    handle = network.register_forward_pre_hook(lambda module, inputs: calls.append(module))
    call()
    handle.remove()
    return len(calls)


@torch.no_grad()
def test_nearest_codes_call_the_codebook():
    vq = make_models()[0]
    latents = torch.randn(1, 256, 32, 32)
    assert count_calls(vq.codebook, lambda: vq.nearest_codes(latents)) == 1
