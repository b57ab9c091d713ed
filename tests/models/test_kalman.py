"""The gain network and the update."""

import pytest
import torch

from keep_hf import KalmanGainNetwork
from keep_hf.models.kalman import update


def make(**changes) -> KalmanGainNetwork:
    torch.manual_seed(0)
    config = {"latent_channels": 16, "num_heads": 2, "head_dim": 8, "norm_num_groups": 8}
    return KalmanGainNetwork(**(config | changes)).eval()


def test_update_interpolates_by_the_gain():
    observed, predicted = torch.full((1, 2, 2, 2), 4.0), torch.full((1, 2, 2, 2), 8.0)
    gain = torch.tensor([[0.0, 0.25], [0.5, 1.0]])[None, None]
    updated = update(observed, predicted, gain)
    assert torch.equal(updated[0, 1], torch.tensor([[4.0, 5.0], [6.0, 8.0]]))


def test_one_gain_per_token_between_zero_and_one():
    gains = make()(torch.randn(2, 5, 16, 4, 4)).gains
    assert gains.shape == (2, 5, 1, 4, 4)
    assert 0 < gains.min() < gains.max() < 1


def test_clips_of_a_batch_are_independent():
    clips = torch.randn(2, 5, 16, 4, 4)
    model = make()
    with torch.no_grad():
        together = model(clips).gains
        alone = torch.cat([model(clip[None]).gains for clip in clips])
    assert torch.allclose(together, alone, atol=1e-6)


def test_gains_depend_on_the_whole_window():
    """As published: the temporal attention has no mask, so future frames count, too."""
    clip = torch.randn(1, 6, 16, 4, 4)
    model = make()
    changed = clip.clone()
    changed[:, 5] += 1
    with torch.no_grad():
        difference = (model(clip).gains - model(changed).gains).abs().amax((0, 2, 3, 4))
    assert (difference > 0).all()


def test_wrong_shapes_are_rejected():
    with pytest.raises(ValueError, match=r"must be \(b, t, 16, h, w\)"):
        make()(torch.randn(1, 5, 8, 4, 4))


def test_gradient_checkpointing_changes_no_gradient():
    clip = torch.randn(1, 3, 16, 4, 4)
    gradients = []
    for checkpointing in (False, True):
        model = make()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(clip).gains.square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_save_and_load_is_bitwise(tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    loaded = KalmanGainNetwork.from_pretrained(tmp_path)
    clip = torch.randn(1, 3, 16, 4, 4)
    with torch.no_grad():
        assert torch.equal(model(clip).gains, loaded(clip).gains)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_update_rounds_once(dtype):
    torch.manual_seed(0)
    observed, predicted = torch.randn(2, 2, 16, 8, 8).to(dtype)
    gain = torch.rand(2, 1, 8, 8).to(dtype)
    exact = (1 - gain.double()) * observed.double() + gain.double() * predicted.double()
    error = (update(observed, predicted, gain).double() - exact).abs()
    assert (error <= 0.501 * torch.finfo(dtype).eps * exact.abs() + torch.finfo(dtype).tiny).all()
