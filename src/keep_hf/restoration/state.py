"""Saved states hold arrays as tensors, so that `torch.load(weights_only=True)` reads them and executes nothing."""

from typing import Any

import numpy as np
import torch


def pack(value: Any) -> Any:
    """Prepare a state for `torch.save`.

    Args:
        value: Numbers, strings, `None`, arrays, tensors, and lists, tuples and dictionaries of them, at any depth.

    Returns:
        The same, with arrays as `{"array": tensor}`, tensors as copies on the CPU, and tuples as lists.
    """
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(value.copy())}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor):
        return value.cpu().clone()  # a view would be saved with the whole storage behind it
    if isinstance(value, dict):
        return {key: pack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [pack(item) for item in value]
    assert value is None or isinstance(value, int | float | str), type(value)
    return value


def unpack(value: Any, device: torch.device) -> Any:
    """The reverse of `pack`; tensors, but not arrays, go to the device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [unpack(item, device) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array"}:
        return value["array"].numpy()
    return {key: unpack(item, device) for key, item in value.items()}
