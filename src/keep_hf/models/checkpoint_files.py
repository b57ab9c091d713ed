"""Reading of published checkpoint files, without running code from them."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file


StateDict = dict[str, torch.Tensor]


def load_checkpoint(path: str | os.PathLike, wrappers: Sequence[str] = ("params_ema", "params", "model")) -> StateDict:
    """Read a published checkpoint file safely.

    Args:
        path (`str` or `os.PathLike`): A `.safetensors` file, or a `.pth`, `.pt` or `.ckpt` file, which is read with
            `weights_only=True`, so that no code from it runs.
        wrappers (`Sequence[str]`, *optional*): Keys under which releases put the state dict. Where a file has several,
            the first counts.

    Returns:
        `dict[str, torch.Tensor]`: The state dict, without the dictionaries in which releases wrap it.

    Raises:
        ValueError: If there is no such file, it cannot be read, or it does not contain a state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no checkpoint file {path}.")
    try:
        if path.suffix == ".safetensors":
            checkpoint: object = load_file(path)
        else:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on content that is no checkpoint, the unpickler raises errors of any kind
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged, or not a checkpoint of plain tensors: {reason}") from error
    for wrapper in wrappers:
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(wrapper), dict):
            checkpoint = checkpoint[wrapper]
    if not isinstance(checkpoint, dict) or not all(isinstance(value, torch.Tensor) for value in checkpoint.values()):
        found = list(checkpoint)[:8] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise ValueError(
            f"{path} does not contain a state dict (tensors by name, at the top or under one of "
            f"{', '.join(wrappers)}); it contains {found}."
        )
    return checkpoint
