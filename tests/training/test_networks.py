"""Direct paths from files: their sizes, their mean, and more residual units."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from keep_hf.models.direct import DirectPath
from training.networks import DirectSizes, add_units, average_directs, direct_sizes, load_direct


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


def save(direct: DirectPath, path: Path) -> Path:
    save_file(direct.state_dict(), path)
    return path


def test_the_weights_of_several_files_are_averaged(tmp_path):
    sizes = {"channels": (8, 16), "units_per_level": (1, 2)}
    directs = [DirectPath(64, **sizes) for _ in range(2)]
    files = [save(direct, tmp_path / f"{number}.safetensors") for number, direct in enumerate(directs)]
    mean = average_directs(files, 64).state_dict()
    for name, weight in directs[0].state_dict().items():
        torch.testing.assert_close(mean[name], (weight + directs[1].state_dict()[name]) / 2)
    files.append(save(DirectPath(64, channels=(8, 16), units_per_level=(1, 3)), tmp_path / "deeper.safetensors"))
    with pytest.raises(ValueError, match=r"deeper\.safetensors has .*\(1, 3\).* only direct paths of the same sizes"):
        average_directs(files, 64)


def test_new_units_change_nothing_and_can_learn():
    direct = DirectPath(64, channels=(8, 16), units_per_level=(1, 2)).eval()
    torch.nn.init.normal_(direct.conv_out.weight)
    deeper = add_units(direct, 2, 64)
    assert direct_sizes(deeper.state_dict()) == DirectSizes((8, 16), (1, 4))
    crops = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(deeper(crops), direct(crops))
    deeper(crops).square().sum().backward()
    assert all(deeper.get_parameter(f"middle.0.{unit}.conv2.weight").grad.any() for unit in (1, 2))
