"""The optimizer of the direct path."""

import pytest
import torch
from torch import nn

from keep_hf.models.direct import DirectPath
from training.loop.muon import make_muon


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3, stride=2), nn.Conv2d(32, 8, 1))
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    return network


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The change of every parameter in one step with a learning rate of 1."""
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    optimizer.step()
    return {name: parameter.detach() - before[name] for name, parameter in network.named_parameters()}


def test_steps_of_convolutions_are_orthogonal_over_the_whole_kernel(network):
    for name in ("0.weight", "1.weight", "2.weight"):
        network.get_parameter(name).grad[0] *= 10  # one direction of the gradient is much larger than the others
    change = step(network, make_muon(network, weight_decay=0.0))
    for name in ("0.weight", "1.weight", "2.weight"):
        matrix = change[name].flatten(1)
        singular_values = torch.linalg.svdvals(matrix) / (0.2 * max(matrix.shape) ** 0.5)
        assert singular_values.min() > 0.5, name
        assert singular_values.max() < 1.5, name


def test_biases_get_steps_of_adam(network):
    gradients = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    change = step(network, make_muon(network, weight_decay=0.0))
    for name in ("0.bias", "1.bias", "2.bias"):
        torch.testing.assert_close(change[name], -gradients[name].sign(), atol=1e-3, rtol=0)


def test_parameters_decay_in_both_groups(network):
    for parameter in network.parameters():
        parameter.grad.zero_()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    change = step(network, make_muon(network, weight_decay=0.1))
    for name in ("0.weight", "0.bias"):
        torch.testing.assert_close(change[name], -0.1 * before[name])


def test_parameters_that_are_not_trained_are_left_out(network):
    network[1].requires_grad_(False)
    optimizer = make_muon(network, weight_decay=0.0)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]


def test_embeddings_by_position_are_not_matrices():
    direct = DirectPath(64, channels=(16, 32), units_per_level=(1, 2))
    matrices, others = (group["params"] for group in make_muon(direct, 0.0).param_groups)
    assert any(parameter is direct.position for parameter in others)
    assert any(parameter is direct.conv_out.weight for parameter in matrices)
