"""BasicVSR, BasicVSR++ and EDVR: published results and files, misfits, windows."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from baseline_cases import REFERENCE, load_case, needs_baselines, print_row
from benchmarks.baselines import video_layers
from benchmarks.baselines.basicvsr import BasicVSR
from benchmarks.baselines.basicvsr_plusplus import BasicVSRPlusPlus
from benchmarks.baselines.deformable import deformable_convolution
from benchmarks.baselines.edvr import EDVR, window_indices
from benchmarks.baselines.recurrent import RecurrentNetwork
from benchmarks.baselines.video_layers import UpsamplingNetwork
from keep_hf.video.pixels import to_images


NETWORKS = {"basicvsr": BasicVSR, "basicvsrpp": BasicVSRPlusPlus, "edvr": EDVR}
CASES = (
    "basicvsr_tiny",
    "basicvsrpp_tiny",
    "basicvsrpp_hr_tiny",
    "basicvsrpp_mirror_tiny",
    "edvr_tiny",
    "edvr_hr_tiny",
)
FULL_CASES = ("basicvsr_full", "basicvsrpp_full", "edvr_full")
SPYNET = {
    "spynet.mean": torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
    "spynet.std": torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
}
# The published names in BasicSR, which are ours -> those in mmediting
TAIL = {r"^upconv(\d)\.": r"upsample\1.upsample_conv."}
SPYNET_CONVOLUTIONS = {
    rf"(basic_module\.\d\.basic_module)\.{place}\.": rf"\1.{number}.conv."
    for number, place in enumerate((0, 2, 4, 6, 8))
}
MMEDITING = {
    "basicvsr": {r"^(backward|forward)_trunk\.": r"\1_resblocks.", **SPYNET_CONVOLUTIONS, **TAIL},
    "basicvsrpp": {**SPYNET_CONVOLUTIONS, **TAIL},
    "edvr": {
        r"((?:offset_conv|feat_conv)\d?\.l\d|cas_offset_conv\d|feat_fusion)\.": r"\1.conv.",
        r"(spatial_attn(?:[1-4]|_l[1-3]|_add1))\.": r"\1.conv.",
        r"^conv_l(\d)_(\d)\.": r"feat_l\1_conv\2.conv.",
        r"^pcd_align\.": "pcd_alignment.",
        **TAIL,
    },
}


def build(name: str, **sizes: object) -> UpsamplingNetwork:
    """A small network with random weights, all of which have an effect."""
    torch.manual_seed(0)
    smallest = {
        "basicvsr": {"channels": 4, "blocks": 2},
        "basicvsrpp": {"channels": 8, "blocks": 1},
        "edvr": {"channels": 8, "groups": 2, "extraction_blocks": 1, "reconstruction_blocks": 2},
    }
    network = NETWORKS[name](**smallest[name] | sizes).eval()
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 400
        nn.init.normal_(parameter, std=fan_in**-0.5)
    return network


def to_mmediting(name: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, value in weights.items():
        for pattern, replacement in MMEDITING[name].items():
            key = re.sub(pattern, replacement, key)
        renamed[f"generator.{key}"] = value
    return renamed


def run(network: UpsamplingNetwork, clip: torch.Tensor) -> torch.Tensor:
    """The restored frames, not clamped."""
    with torch.no_grad():
        return network(clip)[0] if isinstance(network, RecurrentNetwork) else network(clip)


@pytest.fixture
def write(tmp_path):
    def write(content, name="network.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


# --- Deformable convolution ------------------------------------------------------------------------------------------


def convolve_by_loop(x, offsets, mask, weight, bias, stride, padding, dilation):
    """One sample, straight from the equation."""
    channels, height, width = x.shape
    groups = len(mask) // 9
    out = bias[:, None, None].repeat(1, *mask.shape[1:])
    for row in range(mask.shape[1]):
        for column in range(mask.shape[2]):
            for c in range(channels):
                for tap in range(9):
                    place = c // (channels // groups) * 9 + tap
                    y = row * stride - padding + tap // 3 * dilation + offsets[2 * place, row, column]
                    x_ = column * stride - padding + tap % 3 * dilation + offsets[2 * place + 1, row, column]
                    value = 0.0
                    for corner_y in (int(np.floor(y)), int(np.floor(y)) + 1):
                        for corner_x in (int(np.floor(x_)), int(np.floor(x_)) + 1):
                            if 0 <= corner_y < height and 0 <= corner_x < width:
                                near = (1 - abs(y - corner_y)) * (1 - abs(x_ - corner_x))
                                value += near * x[c, corner_y, corner_x]
                    out[:, row, column] += weight[:, c, tap // 3, tap % 3] * mask[place, row, column] * value
    return out


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "size"), [(1, 1, 1, (3, 4)), (2, 1, 1, (2, 2)), (1, 2, 2, (3, 4))]
)
def test_deformable_convolution_is_that_of_its_equation(stride, padding, dilation, size):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 4, 3, 4).double(), torch.randn(2, 4, 3, 3).double(), torch.randn(2).double()
    offsets, mask = 2 * torch.randn(1, 36, *size).double(), torch.rand(1, 18, *size).double()
    settings = (stride, padding, dilation)
    out = deformable_convolution(x, offsets, mask, weight, bias, *settings)
    expected = convolve_by_loop(x[0], offsets[0], mask[0], weight, bias, *settings)
    assert (out[0] - expected).abs().max() < 1e-12


@needs_baselines
def test_deformable_convolution_is_that_of_the_golden_data(capsys):
    stored = load_file(REFERENCE / "golden" / "deform_conv.safetensors")
    differences = {}
    for case, (stride, dilation) in enumerate(((1, 1), (1, 1), (1, 1), (2, 1), (1, 2))):
        names = ("inp", "off", "mask", "w", "b")
        out = deformable_convolution(*(stored[f"{case}.{name}"] for name in names), stride, 1, dilation)
        differences[str(case)] = (out - stored[f"{case}.out"]).abs().max().item()
    print_row(capsys, "deform_conv", differences)
    assert max(differences.values()) < 1e-12


# --- The published results -------------------------------------------------------------------------------------------


def inspect(network: UpsamplingNetwork, clip: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output, and flows or merged features."""
    found = {}
    if isinstance(network, RecurrentNetwork):
        to_next, to_previous = network.flows(network.shrink(clip) if network.same_size else clip)
        found = {"flows_backward": torch.cat(to_next[:-1]), "flows_forward": torch.cat(to_previous[1:])}
    else:
        network.fusion.register_forward_hook(lambda module, inputs, features: found.update(fusion=features))
    if isinstance(network, BasicVSR):
        states = network.propagate(network.backward_trunk, list(clip.unbind(1))[::-1], to_next[::-1])[::-1]
        found["feat_backward_sub"] = torch.cat(states)[:, ::4, 1::3, 1::3]
    return found | {"output": run(network, clip)}


@needs_baselines
@pytest.mark.parametrize(
    "name", [*CASES, *(pytest.param(name, marks=[pytest.mark.full, pytest.mark.slow]) for name in FULL_CASES)]
)
@torch.no_grad()
def test_results_are_those_of_the_published_network(name, write, capsys):
    case, kind = load_case(name), name.split("_")[0]
    weights = case.weights | (SPYNET if case.constants else {})
    network = NETWORKS[kind].from_checkpoint(write({"params": weights}))
    found = inspect(network, case.stored["input_u8"][None] / 255)
    output = found["output"]
    middle = output.shape[-1] // 2
    patch = slice(middle - 20, middle + 20) if kind != "edvr" else slice(100, 140)
    frames = output[0, :2] if kind != "edvr" else output
    found |= {"output_sub3": output[..., 1::3, 1::3], "output_sub5": output[..., 1::5, 1::5]}
    found["output_patch"] = frames[..., patch, patch]
    if name == "edvr_full":
        found |= {"output": output[..., 1::2, 1::2], "fusion": found["fusion"][:, ::4]}
    expected = {key: value for key, value in case.stored.items() if key != "input_u8"}
    differences = {key: (found[key] - value).abs().max().item() for key, value in expected.items()}
    print_row(capsys, name, differences)
    assert max(differences.values()) < 1e-4


# --- Published files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_both_dialects_give_the_same_results(name, write):
    network = build(name)
    weights = network.state_dict()
    renamed = to_mmediting(name, weights)
    assert not renamed.keys() & weights.keys()
    assert any("upsample1.upsample_conv." in key for key in renamed)
    files = [
        {"params": weights},
        {"meta": {"iter": 3}, "state_dict": renamed},
        {"state_dict": renamed | {"step_counter": torch.zeros(1), "discriminator.conv.weight": torch.ones(1)}},
    ]
    clip = torch.rand(1, 5 if name == "edvr" else 2, 3, 64, 64)
    expected = run(network, clip)
    for content in files:
        loaded = NETWORKS[name].from_checkpoint(write(content))
        assert not loaded.training
        assert torch.equal(run(loaded, clip), expected)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("basicvsr", {"channels": 8, "blocks": 3}),
        ("basicvsrpp", {"channels": 16, "blocks": 2}),
        ("basicvsrpp", {"same_size": True}),
        ("edvr", {"channels": 12, "window": 7, "groups": 4, "extraction_blocks": 2, "reconstruction_blocks": 3}),
        ("edvr", {"attention": False}),
        ("edvr", {"attention": False, "deblurring": True}),
        ("edvr", {"deblurring": True, "same_size": True}),
    ],
)
def test_sizes_are_read_from_the_weights(name, sizes, write):
    network = build(name, **sizes)
    loaded = NETWORKS[name].from_checkpoint(write(network.state_dict()))
    clip = torch.rand(1, 2, 3, 64, 64) if name != "edvr" else torch.rand(1, network.window, 3, 32, 32)
    if name == "basicvsrpp" and network.same_size:
        clip = torch.rand(1, 2, 3, 256, 256)
    output = run(loaded, clip)
    assert torch.equal(output, run(network, clip))
    assert output.shape[-1] == clip.shape[-1] * (1 if network.same_size else 4)


@pytest.mark.parametrize("name", NETWORKS)
def test_misfits_are_named(name, write):
    weights = build(name).state_dict()
    other = build("edvr" if name == "basicvsr" else "basicvsr").state_dict()
    for content, reason in (
        (other, "it has no weight '.*'"),
        (
            {key: value for key, value in weights.items() if key != "conv_hr.bias"},
            r"1 weights are missing \(conv_hr.bias\)",
        ),
        (weights | {"surprise": torch.ones(1)}, r"1 weights are unknown \(surprise\)"),
        (weights | {"conv_hr.bias": torch.ones(7)}, r"1 weights are of another shape \(conv_hr.bias\)"),
    ):
        with pytest.raises(ValueError, match=rf"network\.pth is not a checkpoint of .*{reason}\.$") as caught:
            NETWORKS[name].from_checkpoint(write(content))
        assert "\n" not in str(caught.value)


# --- Frames and windows ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_faces(monkeypatch):
    """Faces of 256 pixels instead of 512."""
    monkeypatch.setattr(video_layers, "TEMPLATE_SIZE", 256)


def make_frames(length: int, size: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (length, size, size, 3), np.uint8)


@pytest.mark.parametrize("name", NETWORKS)
def test_faces_are_restored_at_512_pixels(name):
    network = build(name)
    frames = make_frames(1)
    restored = network.restore(frames)
    assert restored.shape == (1, 512, 512, 3)
    assert restored.dtype == np.uint8
    clip = network.to_clip(frames)
    assert clip.shape == (1, 1, 3, 128, 128)
    expected = run(network, clip if name != "edvr" else clip[:, [0] * 5]).reshape(3, 512, 512)
    assert np.array_equal(restored[0], to_images(expected * 2 - 1))


@pytest.mark.parametrize("name", ["basicvsr", "basicvsrpp"])
def test_without_overlap_each_window_is_a_clip_of_its_own(name, small_faces):
    network = build(name)
    frames = make_frames(3)
    restored = network.restore(frames, window=2)
    assert np.array_equal(restored, np.concatenate([network.restore(frames[:2]), network.restore(frames[2:])]))
    assert not np.array_equal(restored, network.restore(frames))


@pytest.mark.parametrize("name", ["basicvsr", "basicvsrpp"])
@torch.no_grad()
def test_a_carried_state_makes_the_forward_direction_that_of_the_uncut_clip(name):
    network = build(name)
    clip = torch.rand(1, 4, 3, 64, 64)

    def restore_in_windows() -> torch.Tensor:
        first, carried = network(clip[:, :2])
        second, carried = network(clip[:, 2:3], carried)
        third, _ = network(clip[:, 3:], carried)
        return torch.cat((first, second, third), dim=1)

    assert not torch.equal(restore_in_windows(), run(network, clip))
    # Without its backward direction, the network cannot see the seams.
    for key, parameter in network.named_parameters():
        if "backward" in key:
            parameter.zero_()
    uncut = run(network, clip)
    assert torch.allclose(restore_in_windows(), uncut, atol=1e-5)
    assert not torch.allclose(run(network, clip[:, 2:]), uncut[:, 2:], atol=1e-3)


def test_edvr_reflects_around_the_window_or_repeats_the_border():
    assert window_indices(0, 10, 2, repeat=False) == [4, 3, 0, 1, 2]
    assert window_indices(1, 10, 2, repeat=False) == [4, 0, 1, 2, 3]
    assert window_indices(4, 10, 2, repeat=False) == [2, 3, 4, 5, 6]
    assert window_indices(8, 10, 2, repeat=False) == [6, 7, 8, 9, 5]
    assert window_indices(9, 10, 2, repeat=False) == [7, 8, 9, 6, 5]
    assert window_indices(0, 3, 2, repeat=True) == [0, 0, 0, 1, 2]
    assert window_indices(2, 3, 2, repeat=True) == [0, 1, 2, 2, 2]


def test_edvr_restores_the_centre_of_each_window(small_faces):
    network = build("edvr", window=3)
    frames = make_frames(4)
    clip = network.to_clip(frames)
    expected = [run(network, clip[:, indices]) for indices in ([2, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 1])]
    assert np.array_equal(network.restore(frames), np.concatenate([to_images(image * 2 - 1) for image in expected]))
