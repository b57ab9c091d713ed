"""Sizes of a direct path, read from its weights."""

import pytest
import torch
from safetensors.torch import save_file

from keep_hf.models.direct import DirectPath
from training.networks import DirectSizes, direct_sizes, load_direct


def test_a_direct_path_is_loaded_with_the_sizes_of_its_weights(tmp_path):
    direct = DirectPath(64, channels=(8, 24, 32), units_per_level=(1, 3, 2))
    assert direct_sizes(direct.state_dict()) == DirectSizes((8, 24, 32), (1, 3, 2))
    save_file({name: weight.half() for name, weight in direct.state_dict().items()}, tmp_path / "direct.safetensors")
    loaded = load_direct(tmp_path / "direct.safetensors", 64)
    assert all(torch.equal(loaded.state_dict()[k], v.half().float()) for k, v in direct.state_dict().items())
    with pytest.raises(ValueError, match="no direct path for crops of 128 pixels"):
        load_direct(tmp_path / "direct.safetensors", 128)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no direct path"):
        load_direct(tmp_path / "other.safetensors", 64)
