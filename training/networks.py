"""Configurations of new networks: `paper` is the published size, `tiny` that of the packaged model.

The sizes of a trained direct path are read from its weights.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from keep_hf.models.direct import DirectPath


VQ_NETWORKS: dict[str, dict[str, Any]] = {
    "paper": {},
    "tiny": {
        "sample_size": 256,
        "patch_size": 4,
        "layers_per_block": 1,
        "block_out_channels": (48, 96, 128),
        "norm_num_groups": 16,
        "latent_channels": 64,
        "num_codes": 1024,
        "transformer_channels": 192,
        "transformer_num_heads": 6,
        "transformer_num_layers": 4,
        "fusion_sizes": (16, 32, 64),
        "cross_frame_sizes": (16, 32),
        "cross_frame_num_heads": 4,
        "cross_frame_head_dim": 32,
    },
}

KALMAN_NETWORKS: dict[str, dict[str, Any]] = {
    "paper": {},
    "tiny": {
        "latent_channels": 64,
        "num_heads": 4,
        "head_dim": 16,
        "num_uncertainty_layers": 2,
        "num_gain_layers": 2,
        "norm_num_groups": 16,
    },
}


@dataclass(frozen=True)
class DirectSizes:
    """The sizes of a direct path, as arguments of [`DirectPath`].

    Args:
        channels, units_per_level (`tuple[int]`): Widths and residual units of the levels.
    """

    channels: tuple[int, ...]
    units_per_level: tuple[int, ...]


def direct_sizes(weights: dict[str, torch.Tensor]) -> DirectSizes:
    """Read the sizes of a direct path from its weights."""
    widths = [weights["conv_in.weight"].shape[0]]
    widths += [weights[f"shrinks.{i}.conv.weight"].shape[0] for i in range(sum("shrinks" in k for k in weights) // 2)]
    units = [len({k.split(".")[2] for k in weights if k.startswith(f"encoder.{i}.")}) for i in range(len(widths) - 1)]
    middle = {tuple(k.split(".")[1:3]) for k in weights if k.startswith(("middle.0.", "middle.2."))}
    return DirectSizes(tuple(widths), (*units, len(middle)))


def load_direct(file: str | Path, size: int) -> DirectPath:
    """Load the direct path of a file from training/train_direct.py, for crops of `size` pixels.

    Raises:
        ValueError: If the file has no direct path of this size.
    """
    weights = load_file(file)
    try:
        direct = DirectPath(size, **asdict(direct_sizes(weights)))
        direct.load_state_dict({name: weight.float() for name, weight in weights.items()})
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{file} has no direct path for crops of {size} pixels: {error}") from error
    return direct.eval()


def average_directs(files: Sequence[str | Path], size: int) -> DirectPath:
    """Load the direct paths of several files and average their weights.

    The mean of trainings that had the same start, with other samples, is often more accurate than each of them.

    Raises:
        ValueError: If a file has no direct path of this size, or they have other sizes than the first.
    """
    directs = [load_direct(file, size) for file in files]
    all_weights = [direct.state_dict() for direct in directs]
    for file, weights in zip(files, all_weights, strict=True):
        if direct_sizes(weights) != direct_sizes(all_weights[0]):
            raise ValueError(
                f"{file} has {direct_sizes(weights)}, but {files[0]} has {direct_sizes(all_weights[0])}: only direct "
                "paths of the same sizes can be averaged."
            )
    mean = {name: sum(weights[name] for weights in all_weights) / len(files) for name in all_weights[0]}
    directs[0].load_state_dict(mean)
    return directs[0]


def add_units(direct: DirectPath, number: int, size: int) -> DirectPath:
    """A direct path with more residual units at the coarsest level, which change nothing until they are trained.

    Args:
        direct ([`DirectPath`]): Keeps its weights.
        number (`int`): Of units to add.
        size (`int`): Side of the crops in pixels.
    """
    weights = direct.state_dict()
    sizes = direct_sizes(weights)
    units = (*sizes.units_per_level[:-1], sizes.units_per_level[-1] + number)
    deeper = DirectPath(size, **asdict(replace(sizes, units_per_level=units)))
    for name, weight in deeper.state_dict().items():
        if name not in weights:
            # The last convolution of a unit is what it adds to its input.
            weights[name] = torch.zeros_like(weight) if ".conv2." in name else weight
    deeper.load_state_dict(weights)
    return deeper.eval()
