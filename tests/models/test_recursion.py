"""The recursion: parity with the published network, a state that carries over, independent clips of a batch."""

import pytest
import torch

from conftest import make_clip
from golden import fill_weights, full_state_dict, load_description, load_golden, needs_golden, tiny_state_dict, to_clip
from keep_hf import KalmanRecursion, KeepPipeline, KeepVQModel
from keep_hf.models.conversion import convert_checkpoint
from keep_hf.models.kalman import KalmanGainOutput, KalmanState
from keep_hf.video.pixels import to_tensor


def build(state_dict, **config) -> KalmanRecursion:
    components = convert_checkpoint(state_dict, **config)
    return KalmanRecursion(components["vq"], components.get("kalman"), components.get("flow")).eval()


@pytest.fixture(scope="module")
def tiny() -> KalmanRecursion:
    return build(tiny_state_dict(), transformer_num_heads=4)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@needs_golden
@torch.no_grad()
def test_tiny_golden(tiny):
    golden = load_golden("tiny_fp32")
    output = tiny(to_clip(golden["frames_u8"]))
    assert torch.equal(output.logits.argmax(-1), golden["codes"].long())
    assert distance(output.frames, golden["out"]) <= 1e-4
    assert distance(output.gains, golden["gains"]) <= 5e-5
    assert distance(output.flows, golden["flows"]) <= 1e-3
    assert distance(output.observed, golden["z_codes"]) <= 1e-4
    assert distance(torch.stack(output.predicted[1:], 1), golden["z_prime"]) <= 1e-3
    assert distance(output.latents.flatten(3), golden["z_hat"]) <= 1e-3
    assert distance(output.logits, golden["logits"]) <= 2e-3


@needs_golden
@pytest.mark.full
@torch.no_grad()
def test_full_golden():
    golden = load_golden("full_fp32")
    recursion = build(full_state_dict("g"))
    output = recursion(to_clip(golden["frames_u8"]))
    print("different codes:", (output.logits.argmax(-1) != golden["codes"]).sum().item())
    assert distance(output.flows[..., ::4, ::4], golden["flows_sub4"]) <= 1e-3
    assert distance(output.observed, golden["z_codes"]) <= 3e-4
    assert distance(output.gains, golden["gains"]) <= 5e-5
    if not torch.equal(output.logits.argmax(-1), golden["codes"].long()):
        # The smallest margin is twice the rounding error: another kernel may change a code. Use the stored codes then.
        output = recursion(to_clip(golden["frames_u8"]), codes=golden["codes"].long())
    assert distance(output.frames[..., ::4, ::4], golden["out_sub4"]) <= 1e-3
    assert distance(output.frames[:, -1], golden["out_last_fp16"].float()) <= 4e-3  # the resolution of fp16 near 4


@needs_golden
@pytest.mark.full
@torch.no_grad()
def test_codeformer_golden():
    golden, manifest = load_golden("codeformer_fp32"), load_description("codeformer_fp32")["manifest"]
    recursion = build(fill_weights(manifest, "cf3"))
    frame = to_clip(golden["frame_u8"])
    assert recursion.vq.config.adain
    observation = recursion.observe(frame)[:, 0]
    assert distance(observation.latents, golden["lq_feat"]) <= 3e-4
    for name, fidelity, adain, step in (
        ("out_w05_adain_sub2", 0.5, True, 2),
        ("out_w0_adain_sub4", 0.0, True, 4),
        ("out_w1_noadain_sub4", 1.0, False, 4),
    ):
        recursion.vq.register_to_config(adain=adain)
        output = recursion.step(frame[:, 0], observation, None, fidelity=fidelity)
        assert torch.equal(output.logits.argmax(-1), golden["codes"].long()), name
        assert distance(output.state.output[..., ::step, ::step], golden[name]) <= 1e-3, name


@needs_golden
@pytest.mark.parametrize(
    # In float32 the convolutions of a batch of two round differently from those of one, which gives about 1e-5.
    ("dtype", "tolerance"),
    [(torch.float64, 1e-9), (torch.float32, 5e-5)],
)
@torch.no_grad()
def test_two_clips_in_a_batch_equal_the_clips_alone(dtype, tolerance):
    recursion = build(tiny_state_dict(), transformer_num_heads=4)
    for model in (recursion.vq, recursion.kalman):
        torch.nn.Module.to(model, dtype)
    first = to_clip(load_golden("tiny_fp32")["frames_u8"][:2]).to(dtype)
    second = first.flip(1, 4).contiguous()
    together = recursion(torch.cat([first, second]))
    for i, alone in enumerate((recursion(first), recursion(second))):
        assert torch.equal(together.logits[i].argmax(-1), alone.logits[0].argmax(-1))
        assert distance(together.frames[i], alone.frames[0]) <= tolerance


@torch.no_grad()
def test_two_clips_through_keep_tiny_equal_the_clips_alone():
    pipe = KeepPipeline.from_pretrained("keep-tiny")
    recursion = KalmanRecursion(pipe.vq, pipe.kalman, pipe.flow)
    first = to_tensor(make_clip(2, 256, 256))[None]
    second = first.flip(1, 4).contiguous()
    together = recursion(torch.cat([first, second]))
    for i, alone in enumerate((recursion(first), recursion(second))):
        assert distance(together.frames[i], alone.frames[0]) <= 1e-5


@needs_golden
@torch.no_grad()
def test_clip_in_two_parts_equals_the_whole_clip(tiny):
    """The state carries over; the gains are those of the whole window."""
    frames = to_clip(load_golden("tiny_fp32")["frames_u8"][:4])
    whole = tiny(frames)
    gains = whole.gains.split(2, dim=1)
    parts, state = [], None
    for part, gain in zip(frames.split(2, dim=1), gains, strict=True):
        tiny.kalman.forward, forward = (lambda observed, gain=gain: KalmanGainOutput(gain)), tiny.kalman.forward
        output = tiny(part, state)
        tiny.kalman.forward = forward
        state = output.state
        parts.append(output.frames)
    assert distance(torch.cat(parts, 1), whole.frames) <= 1e-5
    assert distance(state.output, whole.state.output) <= 1e-5


@needs_golden
@torch.no_grad()
def test_batch_size_does_not_change_the_result(tiny):
    frames = to_clip(load_golden("tiny_fp32")["frames_u8"][:3])
    small = KalmanRecursion(tiny.vq, tiny.kalman, tiny.flow, max_batch=2)
    assert distance(small(frames).frames, tiny(frames).frames) <= 1e-5


@torch.no_grad()
def test_large_frames_are_processed_one_at_a_time_on_a_cpu(components, monkeypatch):
    """The limit is 64 x 64 positions; the encoder starts with a quarter of them, and the flow network has all."""
    recursion = KalmanRecursion(components["vq"], components["kalman"], components["flow"])
    batch_sizes = {}

    def record(module, inputs) -> None:
        batch_sizes.setdefault(module, len(inputs[0]))

    networks = recursion.vq.lq_encoder, recursion.flow.backbone
    hooks = [module.register_forward_pre_hook(record) for module in networks]
    monkeypatch.setattr("keep_hf.models.recursion.CPU_POSITIONS", 64 * 64)
    recursion(torch.zeros(1, 6, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    assert [batch_sizes[module] for module in networks] == [4, 1]


@needs_golden
def test_gradients_reach_the_weights_that_the_stages_train(tiny):
    frames = to_clip(load_golden("tiny_fp32")["frames_u8"])[:, :3]
    output = tiny(frames)
    (output.logits.square().mean() + output.frames.square().mean()).backward()
    touched = {name.split(".")[1] for name, p in tiny.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"lq_encoder", "code_transformer", "decoder", "feature_fusion", "cross_frame"} <= touched
    assert any(p.grad is not None and p.grad.any() for p in tiny.kalman.parameters())
    # The prediction starts from the detached output, and the choice of a code has no gradient.
    assert all(p.grad is None for p in tiny.flow.parameters())
    assert tiny.vq.codebook.weight.grad is None
    tiny.zero_grad(set_to_none=True)


@torch.no_grad()
def test_previous_output_affects_the_face_through_the_feature_update(components):
    """Only through it: the gain is zero, and there is no cross-frame attention."""
    vq = KeepVQModel.from_config(components["vq"].config, cross_frame_sizes=()).eval()
    vq.load_state_dict({k: v for k, v in components["vq"].state_dict().items() if not k.startswith("cross_frame.")})
    recursion = KalmanRecursion(vq, components["kalman"], components["flow"])
    frame, previous = torch.rand(2, 1, 3, 64, 64) * 2 - 1
    observation = recursion.observe(frame[:, None])[:, 0]
    still = {"gain": torch.zeros(1, 1, 16, 16), "flow": torch.zeros(1, 2, 64, 64)}
    states = [KalmanState(frame, output, {}) for output in (previous, previous.flip(3))]

    def outputs(fidelity: float) -> list[torch.Tensor]:
        return [recursion.step(frame, observation, state, fidelity=fidelity, **still).state.output for state in states]

    assert distance(*outputs(fidelity=1.0)) > 1e-2
    assert distance(*outputs(fidelity=0.0)) == 0


def test_flow_and_gain_network_are_required_together(components):
    with pytest.raises(ValueError, match="go together"):
        KalmanRecursion(components["vq"], components["kalman"], None)
