"""Files of releases: wrappers, prefixes, dialects of keys, and weights that do not fit."""

import pytest
import torch
from torch import nn

from benchmarks.baselines.loading import Checkpoint


def save(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrapper", ["params_ema", "params", "state_dict", "g_ema", None])
def test_releases_are_unwrapped(tmp_path, wrapper):
    weights = nn.Linear(3, 2).state_dict()
    content = {wrapper: weights, "meta": {"iteration": 3}} if wrapper else weights
    loaded = Checkpoint.read(save(tmp_path / "file.pth", content), "Linear").load_into(nn.Linear(3, 2))
    assert torch.equal(loaded.weight, weights["weight"])
    assert not loaded.training


def test_the_average_counts_where_a_file_has_both(tmp_path):
    path = save(tmp_path / "file.pth", {"params": {"a": torch.zeros(1)}, "params_ema": {"a": torch.ones(1)}})
    assert Checkpoint.read(path, "Linear").weights["a"] == 1


def test_a_prefix_selects_the_network(tmp_path):
    weights = {"generator.a": torch.ones(1), "step_counter": torch.ones(1), "discriminator.a": torch.zeros(1)}
    path = save(tmp_path / "file.pth", {"state_dict": weights})
    assert Checkpoint.read(path, "Linear", "generator.").weights == {"a": torch.ones(1)}
    assert len(Checkpoint.read(path, "Linear", "vqvae.").weights) == 3


def test_names_are_translated_rule_by_rule(tmp_path):
    names = {"upsample1.upsample_conv.bias": torch.ones(1), "trunk.4.conv.bias": torch.zeros(1)}
    checkpoint = Checkpoint.read(save(tmp_path / "file.pth", names), "Linear")
    renamed = checkpoint.rename({r"^upsample(\d)\.upsample_conv": r"upconv\1", r"\.conv\.": "."})
    assert list(renamed.weights) == ["upconv1.bias", "trunk.4.bias"]


def test_sizes_are_read_from_the_weights(tmp_path):
    weights = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 4)).state_dict()
    checkpoint = Checkpoint.read(save(tmp_path / "file.pth", {f"main.{k}": v for k, v in weights.items()}), "MLP")
    assert checkpoint.count("main") == 2
    assert checkpoint.shape("main.2.weight") == (4, 2)
    with pytest.raises(ValueError, match=r"file.pth is not a checkpoint of MLP: it has no weight 'main.1.weight'\.$"):
        checkpoint.shape("main.1.weight")


def test_misfits_are_named(tmp_path):
    weights = {"weight": torch.ones(2, 4), "scale": torch.ones(1)}
    checkpoint = Checkpoint.read(save(tmp_path / "file.pth", weights), "Linear")
    with pytest.raises(ValueError, match="is not a checkpoint of Linear") as caught:
        checkpoint.load_into(nn.Linear(3, 2))
    assert str(caught.value).endswith(
        "1 weights are missing (bias), 1 weights are unknown (scale), 1 weights are of another shape (weight)."
    )
