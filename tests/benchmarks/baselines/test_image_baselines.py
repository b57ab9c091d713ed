"""GFPGAN, RestoreFormer and GPEN: published results and files, misfits, frames."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from baseline_cases import BaselineCase, load_case, needs_baselines, print_row
from benchmarks.baselines.gfpgan import GFPGAN
from benchmarks.baselines.gpen import GPEN, fold_factors
from benchmarks.baselines.restoreformer import RestoreFormer
from keep_hf.video.pixels import to_levels, to_tensor


NETWORKS = ("gfpgan", "gpen", "restoreformer")
BLUR = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64
# Our names -> the published ones.
PUBLISHED = {
    "gfpgan": {
        r"^noises\.": "stylegan_decoder.noises.noise",
        r"\.constant$": ".constant_input.weight",
    },
    "gpen": {
        r"^encoder\.0\.0\.weight": "ecd0.0.0.weight",
        r"^encoder\.0\.0\.bias": "ecd0.0.1.bias",
        r"^encoder\.(\d)\.0\.": r"ecd\1.0.0.",
        r"^encoder\.(\d)\.1\.weight": r"ecd\1.0.1.weight",
        r"^encoder\.(\d)\.1\.bias": r"ecd\1.0.2.bias",
        r"^style\.(\d)\.0\.": r"generator.style.\1.",
        r"\.constant$": ".input.input",
        r"(style_conv(?:1|s\.\d))\.weight": r"\1.noise.weight",
        r"(style_conv(?:1|s\.\d))\.bias": r"\1.activate.bias",
        r"\.style_conv": ".conv",
        r"\.modulated_conv\.": ".conv.",
    },
    "restoreformer": {
        r"\.shortcut\.": ".nin_shortcut.",
        r"(down\.\d)\.resize\.": r"\1.downsample.",
        r"(up\.\d)\.resize\.": r"\1.upsample.",
        r"^codebook\.": "quantize.embedding.",
    },
}


def build(name: str) -> torch.nn.Module:
    """A small network with random weights, all of which have an effect."""
    torch.manual_seed(0)
    networks = {
        "gfpgan": lambda: GFPGAN(widths=(32, 16, 8), style_channels=16),
        "gpen": lambda: GPEN(widths=(16, 16, 8), style_channels=16, num_style_layers=3),
        "restoreformer": lambda: RestoreFormer((32, 32, 64), 1, 4, 32, 16, 32, size=32),
    }
    network = networks[name]().eval()
    for key, parameter in network.named_parameters():
        if "weight" not in key or parameter.numel() == 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return network


def publish(name: str, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights as in a published file."""
    weights = {}
    for key, value in network.state_dict().items():
        if name == "gpen":
            value = value / fold_factors(key, torch.ones_like(value)).reshape(value.shape)
        for pattern, replacement in PUBLISHED[name].items():
            key = re.sub(pattern, replacement, key)
        weights[key] = value.flatten() if key.endswith("activate.bias") else value
    return weights


def load(name: str, path, **settings) -> torch.nn.Module:
    return {"gfpgan": GFPGAN, "gpen": GPEN, "restoreformer": RestoreFormer}[name].from_checkpoint(path, **settings)


@pytest.fixture
def write(tmp_path):
    def write(content, name="network.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


# --- The published results ------------------------------------------------------------------------------------------


def inspect_gfpgan(network: GFPGAN, case: BaselineCase, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output, the styles, and the RGB images of the U-Net, which the network leaves out."""
    found = {}
    network.final_linear.register_forward_hook(
        lambda module, inputs, styles: found.update(style_code=styles.unflatten(1, (len(network.noises) + 1, -1)))
    )
    for level, block in enumerate(network.conv_body_up):
        weight, bias = case.weights[f"toRGB.{level}.weight"], case.weights[f"toRGB.{level}.bias"]
        block.register_forward_hook(
            lambda module, inputs, x, weight=weight, bias=bias: found.update(
                {f"rgb{x.shape[-1]}": F.conv2d(x, weight, bias)}
            )
        )
    return found | {"output": network(images)}


def inspect_gpen(network: GPEN, case: BaselineCase, images: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {}
    network.final_linear.register_forward_hook(lambda module, inputs, style: found.update(style_code=style))
    return {"output": network(images)} | found


def inspect_restoreformer(network: RestoreFormer, case: BaselineCase, images: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {}
    network.quant_conv.register_forward_hook(
        lambda module, inputs, latents: found.update(
            z_before_quantisation=latents[:, ::4], codes=network.nearest_codes(latents).flatten()
        )
    )
    return {"output": network(images)} | found


@needs_baselines
@pytest.mark.parametrize("size", ["tiny", pytest.param("full", marks=[pytest.mark.full, pytest.mark.slow])])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_results_are_those_of_the_published_network(name, size, write, capsys):
    case = load_case(f"{name}_{size}")
    for key in case.constants:
        case.weights[key] = 4 * BLUR if key.startswith("generator.") else BLUR
    path = write(case.weights)
    if name == "restoreformer":
        network = load(name, path, num_heads=case.arguments["head_size"], size=case.arguments["resolution"])
    else:
        network = load(name, path)
    factor = network.size // case.stored["input_u8"].shape[-1]
    pixels = case.stored["input_u8"].repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    inspect = {"gfpgan": inspect_gfpgan, "gpen": inspect_gpen, "restoreformer": inspect_restoreformer}[name]
    found = inspect(network, case, (pixels / 255 - 0.5) / 0.5)
    found["output_sub3"] = found["output"][..., 1::3, 1::3]
    found["output_patch"] = found["output"][..., 224:288, 224:288]
    differences = {}
    for key, expected in case.stored.items():
        if key in ("input_u8", "margin"):
            continue
        if key == "codes":
            assert torch.equal(found[key].int(), expected)
        else:
            differences[key] = (found[key] - expected).abs().max().item()
    print_row(capsys, f"{name}_{size}", differences, *(["codes equal"] if "codes" in found else []))
    assert max(differences.values()) < 1e-4


@pytest.fixture
def spandrel():
    return pytest.importorskip("spandrel", reason="spandrel or torchvision is not installed", exc_type=ImportError)


@torch.no_grad()
def test_spandrel_agrees_on_restoreformer(spandrel, write):
    # spandrel expects six levels and eight heads, and its images are clamped to [0, 1].
    torch.manual_seed(0)
    path = write(publish("restoreformer", RestoreFormer([32] * 5 + [64], 1, 8, 32, 16, 32, size=64)))
    ours, theirs = RestoreFormer.from_checkpoint(path), spandrel.ModelLoader().load_from_file(path).eval()
    images = torch.rand(1, 3, 64, 64)
    assert torch.allclose((ours(2 * images - 1).clamp(-1, 1) + 1) / 2, theirs(images), atol=1e-4)


@needs_baselines
@pytest.mark.full
@pytest.mark.slow
@torch.no_grad()
def test_spandrel_agrees_on_gfpgan(spandrel, write):
    # spandrel expects the published sizes, and the network in it draws noise by default.
    path = write({"params_ema": load_case("gfpgan_full").weights})
    ours, theirs = GFPGAN.from_checkpoint(path), spandrel.ModelLoader().load_from_file(path).model.eval()
    images = 2 * torch.rand(1, 3, 512, 512) - 1
    assert torch.allclose(ours(images), theirs(images, randomize_noise=False)[0], atol=1e-4)


# --- Published files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_files_of_all_dialects_give_the_same_results(name, write):
    network = build(name)
    weights = publish(name, network)
    training = {"step": 3, "optimizer": {"lr": 0.1}}
    files = {
        "gfpgan": [{"params_ema": weights, "params": {}}, {"params": weights}, weights],
        "gpen": [weights, {"g_ema": weights, "g": {}, **training}],
        "restoreformer": [
            {"params": weights},
            {"state_dict": {f"vqvae.{k}": v for k, v in weights.items()} | {"loss.w": torch.ones(1)}, **training},
        ],
    }
    if name == "gfpgan":
        # Parts that are not used: an RGB image of the U-Net, and a layer that makes styles of noise.
        weights["toRGB.0.weight"] = torch.ones(3, 8, 1, 1)
        weights["stylegan_decoder.style_mlp.1.bias"] = torch.ones(16)
    settings = {"num_heads": 4, "size": 32} if name == "restoreformer" else {}
    images = torch.randn(2, 3, network.size, network.size)
    outputs = [load(name, write(content), **settings)(images) for content in files[name]]
    assert all(torch.equal(outputs[0], output) for output in outputs[1:])
    if name == "gpen":  # factors of the published layers are moved into the weights, which rounds
        assert torch.allclose(outputs[0], network(images), rtol=1e-4, atol=1e-4)
    else:
        assert torch.equal(outputs[0], network(images))


@pytest.mark.parametrize("name", NETWORKS)
def test_misfits_are_named(name, write):
    weights = publish(name, build(name))
    other = publish("gpen" if name == "gfpgan" else "gfpgan", build("gpen" if name == "gfpgan" else "gfpgan"))
    bias = next(key for key in weights if key.endswith("bias"))
    for content, reason in (
        (other, "it has no weight"),
        ({key: value for key, value in weights.items() if key != bias}, "1 weights are missing"),
        (weights | {"surprise": torch.ones(1)}, r"1 weights are unknown \(surprise\)"),
        (weights | {bias: torch.ones(1, 7, 1, 1)}, "1 weights are of another shape"),
    ):
        with pytest.raises(ValueError, match=rf"network\.pth is not a checkpoint of .*{reason}") as caught:
            load(name, write(content))
        assert "\n" not in str(caught.value)


# --- Frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_frames_are_restored_alone_and_always_in_the_same_way(name):
    network = build(name)
    frames = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8)
    restored = network.restore(frames)
    assert restored.shape == (3, network.size, network.size, 3)
    assert restored.dtype == np.uint8
    assert np.array_equal(restored, network.restore(frames))
    assert np.array_equal(restored[1:2], network.restore(frames[1:2]))


@pytest.mark.parametrize("name", NETWORKS)
def test_levels_are_rounded_as_published(name):
    network = build(name)
    face = np.random.default_rng(0).integers(0, 256, (1, network.size, network.size, 3), np.uint8)
    with torch.no_grad():
        levels = to_levels(network(to_tensor(face)))
    restored = network.restore(face)
    assert 0 < restored.mean() < 255
    assert np.array_equal(restored, np.floor(levels) if name == "gpen" else np.round(levels))
