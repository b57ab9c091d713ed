"""Optical flow: parity with the published network, clips, and the built-in small network."""

import pytest
import torch

from golden import full_state_dict, load_golden, needs_golden, take_part, tiny_state_dict, to_clip
from keep_hf.models.conversion import convert_flow
from keep_hf.models.flow.gmflow import GMFlow, match
from keep_hf.models.flow.warp import warp
from paths import REPOSITORY


BUILT_IN = REPOSITORY / "src" / "keep_hf" / "checkpoints" / "keep-tiny" / "flow"


def tiny_flow() -> GMFlow:
    torch.manual_seed(0)
    return GMFlow(
        (8, 12, 16), feature_channels=16, num_layers=2, feedforward_expansion=1, upsampler_channels=16
    ).eval()


def random_frames(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


# --- the published network -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published_flow() -> GMFlow:
    """GMFlow at full size with the weights of the golden results."""
    return convert_flow(take_part(full_state_dict("", "flownet."), "flownet.model."))


@needs_golden
@pytest.mark.parametrize("case", ["a_128x128", "b_128x128", "c_96x160"])
@torch.no_grad()
def test_published_network_step_by_step(published_flow, case):
    golden = load_golden("gmflow")
    frames = to_clip(golden[f"{case}.frames_u8"])[0]
    before, now = frames[:1], frames[1:]

    features = published_flow.encode(torch.cat((now, before)))
    features1, features2 = published_flow.transformer(*features.chunk(2))
    matched = match(features1, features2)
    propagated = published_flow.propagation(matched, features1)
    steps = {
        "features_backbone": features,
        "features_transformer": torch.cat((features1, features2)),
        "flow_matching": matched,
        "flow_propagated": propagated,
        "flow": published_flow(now, before).flow,
    }
    for name, value in steps.items():
        torch.testing.assert_close(
            value, golden[f"{case}.{name}"], atol=2e-4, rtol=0, msg=lambda text, n=name: f"{n}: {text}"
        )


@needs_golden
@torch.no_grad()
def test_reduced_published_network_on_a_clip():
    golden = load_golden("tiny_fp32")
    flow = convert_flow(take_part(tiny_state_dict(), "flownet.model."))
    flows = flow.flow_between_frames(to_clip(golden["frames_u8"]))
    torch.testing.assert_close(flows, golden["flows"], atol=2e-4, rtol=0)


# --- behaviour of the class ------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_batch_equals_its_pairs():
    flow = tiny_flow()
    images1, images2 = random_frames(2, 3, 3, 32, 64)
    singles = torch.cat([flow(images1[index, None], images2[index, None]).flow for index in range(3)])
    torch.testing.assert_close(flow(images1, images2).flow, singles, atol=1e-4, rtol=0)


@torch.no_grad()
def test_flow_between_frames_equals_pairs_and_encodes_each_frame_once():
    flow = tiny_flow()
    frames = random_frames(2, 4, 3, 32, 48)
    encoded = []
    flow.backbone.register_forward_hook(lambda module, inputs, output: encoded.append(len(output)))
    flows = flow.flow_between_frames(frames, batch_size=3)
    assert sum(encoded) == 8
    assert max(encoded) == 3
    assert flows.shape == (2, 3, 2, 32, 48)
    for index in range(3):
        pair = flow(frames[:, index + 1], frames[:, index]).flow
        torch.testing.assert_close(flows[:, index], pair, atol=1e-4, rtol=0)


@torch.no_grad()
def test_single_frame_has_no_flow():
    assert tiny_flow().flow_between_frames(random_frames(2, 1, 3, 32, 32)).shape == (2, 0, 2, 32, 32)


@pytest.mark.parametrize("size", [(120, 128), (128, 136), (122, 122)])
def test_sides_not_divisible_by_16_are_rejected(size):
    frames = random_frames(1, 2, 3, *size)
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]}"):
        tiny_flow()(frames[:, 0], frames[:, 1])
    with pytest.raises(ValueError, match="divisible by 16"):
        tiny_flow().flow_between_frames(frames)


def test_wrong_shapes_are_rejected():
    with pytest.raises(ValueError, match="differ in shape"):
        tiny_flow()(random_frames(1, 3, 32, 32), random_frames(1, 3, 32, 48))
    with pytest.raises(ValueError, match="b, t, 3, h, w"):
        tiny_flow().flow_between_frames(random_frames(4, 3, 32, 32))
    with pytest.raises(ValueError, match="three numbers"):
        GMFlow(backbone_channels=(8, 8))
    with pytest.raises(ValueError, match="divisible by 4"):
        GMFlow(feature_channels=18)


@torch.no_grad()
def test_save_and_load_is_exact(tmp_path):
    flow = tiny_flow()
    flow.save_pretrained(tmp_path)
    loaded = GMFlow.from_pretrained(tmp_path).eval()
    image1, image2 = random_frames(2, 1, 3, 32, 32)
    assert torch.equal(loaded(image1, image2).flow, flow(image1, image2).flow)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_weights_give_a_float32_flow(tmp_path, dtype):
    flow = tiny_flow()
    flow.save_pretrained(tmp_path)
    half = GMFlow.from_pretrained(tmp_path, dtype=dtype).eval()
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}
    image1, image2 = random_frames(2, 1, 3, 64, 64)
    estimate = half(image1, image2).flow
    assert estimate.dtype == torch.float32
    assert (estimate - flow(image1, image2).flow).abs().mean() < 0.5


def test_gradient_checkpointing_changes_no_gradient():
    flow = tiny_flow().train()
    image1, image2 = random_frames(2, 1, 3, 32, 32)
    calls = 0

    def count(module, inputs):
        nonlocal calls
        calls += 1

    flow.transformer.layers[0].register_forward_pre_hook(count)
    gradients = []
    for checkpointing in (False, True):
        flow.zero_grad()
        if checkpointing:
            flow.enable_gradient_checkpointing()
        flow(image1, image2).flow.square().mean().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in flow.named_parameters()})
    assert calls == 3, "the checkpointed layer is computed again in the backward pass"
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=lambda text, n=name: f"{n}: {text}")


# --- the built-in network --------------------------------------------------------------------------------------------


def known_motion(size: int, strength: float) -> torch.Tensor:
    """A rotation about the centre and a shift, of up to a few pixels."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    return strength * torch.stack((-y + 0.8, x + 0.5 * torch.sin(3 * y)))[None]


@torch.no_grad()
def test_built_in_network_finds_a_known_motion():
    data = pytest.importorskip("skimage.data", reason="scikit-image, whose portrait this is, is not installed")
    flow = GMFlow.from_pretrained(BUILT_IN).eval()
    face = torch.from_numpy(data.astronaut()[:256, 96:352].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    for strength, remainder in ((2.0, 0.75), (4.0, 0.5), (8.0, 0.4)):
        truth = known_motion(256, strength)
        error = (flow(warp(face, truth), face).flow - truth).norm(dim=1)[:, 16:-16, 16:-16].mean()
        assert error < remainder * truth.norm(dim=1)[:, 16:-16, 16:-16].mean()
