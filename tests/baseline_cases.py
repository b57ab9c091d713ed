"""Results of the published baseline networks for given weights (../shared/reference/baselines)."""

import importlib.util
import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from paths import SHARED


REFERENCE = SHARED / "reference" / "baselines"
needs_baselines = pytest.mark.skipif(
    not REFERENCE.is_dir(),
    reason="the golden data of the baseline networks (../shared/reference/baselines) are missing",
)


@dataclass(frozen=True)
class BaselineCase:
    """A network with weights and an input, and what it must return.

    Args:
        weights (`dict[str, torch.Tensor]`): By the published names, without the weights that are constants.
        constants (`dict[str, tuple[int, ...]]`): Names and shapes of these.
        stored (`dict[str, torch.Tensor]`): The input `input_u8`, and outputs.
        arguments (`dict[str, Any]`): Of the constructor of the published class.
    """

    weights: dict[str, torch.Tensor]
    constants: dict[str, tuple[int, ...]]
    stored: dict[str, torch.Tensor]
    arguments: dict[str, Any]


def load_case(name: str) -> BaselineCase:
    spec = importlib.util.spec_from_file_location("fill_baseline_weights", REFERENCE / "fill_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = REFERENCE / "golden" / f"{name}.json"
    description = json.loads(path.read_text())
    return BaselineCase(
        weights={key: torch.from_numpy(value) for key, value in module.fill(path).items()},
        constants={key: tuple(shape) for key, shape in description["kept_keys"]},
        stored=load_file(path.with_suffix(".safetensors")),
        arguments=description["arguments"],
    )


def print_row(capsys: pytest.CaptureFixture, name: str, differences: dict[str, float], *remarks: str) -> None:
    """Print a row of the table of all golden cases: the largest difference, each one, remarks."""
    cells = ", ".join([*(f"{key} {value:.1e}" for key, value in differences.items()), *remarks])
    with capsys.disabled():
        print(f"\n| {name:22} | {max(differences.values()):.1e} | {cells} |", end="")
