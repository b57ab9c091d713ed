"""Runs of training scripts of a few steps."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file


def train_and_resume(main: Callable[[list[str]], None], folder: Path, *arguments: object) -> Path:
    """Train for three steps, and again from the checkpoint after the second: both have the same bits.

    Returns:
        `Path`: the output of the uninterrupted run.
    """
    common = [*arguments, "--steps", 3, "--save-every", 2, "--log-every", 1, "--workers", 0]

    def train(name: str, *more: object) -> dict[str, torch.Tensor]:
        main([str(word) for word in (*common, "--output", folder / name, *more)])
        return load_file(folder / name / "checkpoints/step_3/model.safetensors")

    whole = train("whole")
    shutil.copytree(folder / "whole/checkpoints/step_2", folder / "resumed/checkpoints/step_2")
    resumed = train("resumed", "--resume")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    return folder / "whole"
