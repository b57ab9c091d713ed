"""Read published checkpoint files without running code from them."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file


StateDict = dict[str, torch.Tensor]


def load_checkpoint(path: str | os.PathLike) -> StateDict:
    """Read a published checkpoint file safely.

    Args:
        path (`str` or `os.PathLike`): A `.pth`, `.pt`, `.ckpt` (read with `weights_only=True`: no code of the file
            runs) or `.safetensors` file.

    Returns:
        `dict[str, torch.Tensor]`: The bare state dict, out of the wrapping that the releases put around it.

    Raises:
        ValueError: If there is no such file, it cannot be read, or it holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no checkpoint file {path}.")
    try:
        if path.suffix == ".safetensors":
            checkpoint: Any = load_file(path)
        else:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged, or not a checkpoint of plain tensors: {reason}") from error
    for wrapping in ("params_ema", "params", "model"):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(wrapping), dict):
            checkpoint = checkpoint[wrapping]
    if not isinstance(checkpoint, dict) or not all(isinstance(value, torch.Tensor) for value in checkpoint.values()):
        found = list(checkpoint)[:8] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise ValueError(f"{path} holds no state dict (tensors by name, or those under 'params_ema'), but {found}.")
    return checkpoint
