"""The direct path: crop plus correction, and the Kalman filter of its features."""

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from conftest import make_clip
from keep_hf import KalmanRecursion, KeepPipeline, KeepVQModel
from keep_hf.degrade import LEVELS, degrade_frames
from keep_hf.faces.alignment import crop_face, estimate_alignment
from keep_hf.models.direct import DirectObservation, DirectPath
from keep_hf.models.kalman import KalmanState
from keep_hf.models.recursion import Observation
from keep_hf.video.pixels import to_tensor
from paths import REPOSITORY
from portraits import HEAD, HEAD_LANDMARKS


def make_path(seed: int = 0) -> DirectPath:
    """A small direct path of which every layer has an effect."""
    torch.manual_seed(seed)
    path = DirectPath(64, channels=(16, 32), units_per_level=(1, 2)).eval()
    with torch.no_grad():
        for layer in (path.conv_out, path.evidence_out, path.to_log_variance):
            layer.weight.normal_(std=0.1)
    return path


@pytest.mark.parametrize(
    ("size", "channels", "units", "message"),
    [
        (64, (16, 32), (1, 2, 2, 3), r"for each level, got \(16, 32\) and \(1, 2, 2, 3\)"),
        (64, (12, 32), (1, 1), r"multiples of 8, the last one of 16, got \(12, 32\)"),
        (64, (16, 24), (1, 1), r"multiples of 8, the last one of 16, got \(16, 24\)"),
        (72, (16, 16, 16), (1, 1, 1), "halves the size 2 times, which 18 x 18 positions do not allow"),
    ],
)
def test_levels_that_do_not_fit_are_named(components, size, channels, units, message):
    config = components["vq"].config | {"sample_size": size, "fusion_sizes": (), "feature_update_sizes": ()}
    with pytest.raises(ValueError, match=message):
        KeepVQModel.from_config(config, cross_frame_sizes=(), direct_channels=channels, direct_units=units)


@pytest.fixture
def direct_model(components) -> KeepVQModel:
    """The small face model of the tests with a direct path."""
    vq = KeepVQModel.from_config(components["vq"].config, direct_channels=(16, 32), direct_units=(1, 2))
    vq.load_state_dict(components["vq"].state_dict() | {f"direct.{k}": v for k, v in make_path().state_dict().items()})
    return vq.eval()


@pytest.fixture
def recursion(direct_model, components) -> KalmanRecursion:
    return KalmanRecursion(direct_model, components["kalman"], components["flow"])


@pytest.fixture
def crops() -> torch.Tensor:
    return to_tensor(make_clip(5, 64, 64))[None]


# The filter


@torch.no_grad()
def test_an_untrained_path_returns_the_crop():
    crops = torch.rand(2, 3, 64, 64) * 2 - 1
    path = DirectPath(64, channels=(16, 32), units_per_level=(1, 1))
    assert torch.equal(path(crops), crops)


@torch.no_grad()
def test_gain_and_variance_follow_the_equations():
    """With R = 1 and Q = 1 for a still image: K = 1 / (P + 2) for the P before, and the new P is 1 - K."""
    path = DirectPath(64, channels=(16, 32), units_per_level=(1, 1))
    crops, still = torch.zeros(1, 3, 64, 64), torch.zeros(1, 2, 64, 64)
    first, second = torch.randn(2, 1, 16, 16, 16)
    state = path.update(DirectObservation(first, torch.zeros_like(first)), None, None, crops, None)
    assert torch.equal(state.features, first)
    assert torch.equal(state.variance, torch.ones_like(first))
    state = path.update(DirectObservation(second, torch.zeros_like(second)), state, still, crops, crops)
    torch.testing.assert_close(state.features, (2 * second + first) / 3)
    torch.testing.assert_close(state.variance, torch.full_like(first, 2 / 3))


@torch.no_grad()
def test_features_move_with_the_flow_and_nothing_comes_from_outside():
    path = DirectPath(64, channels=(16, 32), units_per_level=(1, 1))
    crops, flow = torch.zeros(1, 3, 64, 64), torch.zeros(1, 2, 64, 64)
    flow[:, 0] = 8  # what is at x now was at x + 8, two positions of the state
    before, now = torch.randn(2, 1, 16, 16, 16)
    still = torch.zeros_like(before)
    state = path.update(DirectObservation(before, still), None, None, crops, None)
    state = path.update(DirectObservation(now, still), state, flow, crops, crops)
    torch.testing.assert_close(state.features[..., :14], (2 * now[..., :14] + before[..., 2:]) / 3)
    assert (state.features[..., 14:] - now[..., 14:]).abs().max() < 0.05


def test_gradients_flow_through_the_state():
    path = make_path()
    first, second = (torch.randn(1, 16, 16, 16, requires_grad=True) for _ in range(2))
    crops, still = torch.zeros(1, 3, 64, 64), torch.zeros(1, 2, 64, 64)
    state = path.update(DirectObservation(first, torch.zeros_like(first)), None, None, crops, None)
    state = path.update(DirectObservation(second, torch.zeros_like(second)), state, still, crops, crops)
    path.generate(crops, state).square().sum().backward()
    assert first.grad is not None
    assert first.grad.abs().max() > 0
    assert path.evidence_out.weight.grad is not None


# In the face model


@torch.no_grad()
def test_at_fidelity_1_codes_are_not_computed(recursion, crops):
    assert recursion.uses_codes(0.99)
    assert not recursion.uses_codes(1.0)
    expected = recursion(crops, fidelity=1.0).frames
    observation = recursion.observe(crops, codes=False)
    assert observation.latents is None
    assert not observation.features
    flows = recursion.flows(crops, None)
    state = None
    for i in range(crops.shape[1]):
        flow = None if state is None else flows[:, i - 1]
        step = recursion.step(crops[:, i], observation[:, i], state, flow=flow)
        assert step.logits is None
        state = step.state
        torch.testing.assert_close(state.output, expected[:, i])


@torch.no_grad()
def test_fidelity_blends_the_codes_and_the_direct_path(recursion, crops):
    observation = recursion.observe(crops)[:, 0]

    def restore(fidelity: float) -> torch.Tensor:
        return recursion.step(crops[:, 0], observation, None, fidelity=fidelity).state.output

    codes = recursion.vq.predict_codes(observation.latents).argmax(-1)
    codes_alone = recursion.vq.decode(recursion.vq.lookup(codes, observation.latents))[0]
    torch.testing.assert_close(restore(0.0), codes_alone)
    torch.testing.assert_close(restore(1.0), recursion.vq.direct(crops[:, 0]))
    torch.testing.assert_close(restore(0.25), 0.75 * restore(0.0) + 0.25 * restore(1.0))


@torch.no_grad()
def test_two_faces_in_a_batch_equal_the_faces_alone(recursion, crops):
    mirrored = crops.flip(-1).contiguous()
    together = recursion(torch.cat([crops, mirrored])).frames
    for i, alone in enumerate((crops, mirrored)):
        torch.testing.assert_close(together[i], recursion(alone).frames[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_state_can_be_saved_and_joined(recursion, crops):
    state = recursion(crops).state
    loaded = KalmanState.from_state_dict(state.state_dict())
    both = KalmanState.join([state, loaded])
    assert both.direct is not None
    torch.testing.assert_close(both.direct.features[1:], state.direct.features)
    torch.testing.assert_close(both[1].direct.variance, state.direct.variance)


def test_a_model_without_the_path_says_so(components):
    with pytest.raises(ValueError, match="no direct path"):
        components["vq"].observe_direct(torch.zeros(1, 3, 64, 64))


def test_the_published_configuration_has_no_direct_path(components):
    observation = Observation(torch.zeros(1, 2), {})
    assert observation[0].direct is None
    assert components["vq"].direct is None


# The built-in model


@pytest.fixture(scope="module")
def keep_small() -> KeepPipeline:
    pipe = KeepPipeline.from_pretrained("keep-small")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def sharp_face() -> np.ndarray:
    """Two frames of a sharp face of 512 pixels."""
    image = cv2.resize(skimage.data.astronaut()[HEAD], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    return np.stack([crop_face(image, estimate_alignment(HEAD_LANDMARKS * 3 + 1, 512), 512)] * 2)


def restore(pipe: KeepPipeline, frames: np.ndarray) -> np.ndarray:
    return np.rint(pipe(frames, aligned=True, strength=1.0, output_type="np").frames[0] * 255).astype(np.uint8)


def test_keep_small_leaves_a_sharp_face_unchanged(keep_small, sharp_face):
    assert cv2.PSNR(restore(keep_small, sharp_face), sharp_face) > 38


def test_keep_small_improves_a_degraded_face(keep_small, sharp_face):
    small = degrade_frames(sharp_face, LEVELS["medium"], seed=0)
    degraded = np.stack([cv2.resize(frame, (512, 512), interpolation=cv2.INTER_LINEAR) for frame in small])
    gain = cv2.PSNR(restore(keep_small, degraded), sharp_face) - cv2.PSNR(degraded, sharp_face)
    assert gain > 1


def test_the_built_in_models_contain_no_paths_of_a_machine():
    configs = list((REPOSITORY / "src" / "keep_hf" / "checkpoints").rglob("*.json"))
    assert configs
    assert not [path for path in configs if "_name_or_path" in path.read_text()]
