"""Identify networks by their weights, so that a run is resumed with the same ones only."""

import zlib
from typing import Any

import torch
from torch import nn

from ..offloading import read_weights


def fingerprint(*components: Any) -> str | None:
    """Identify networks by their weights.

    Args:
        components: Modules. Other objects, which have no weights, are identified by the name of their class. `None`
            is skipped.

    Returns:
        `str`, *optional*: 8 hexadecimal digits, a CRC-32; `None` if all components are `None`. Offloaded weights are
        read from where they are.

    Raises:
        ValueError: If a network has no weights yet, because it was created on the device "meta".
    """
    checksum = 0
    for component in components:
        if isinstance(component, nn.Module):
            for weight in read_weights(component):
                content = weight.contiguous().flatten().view(torch.uint8).numpy()
                checksum = zlib.crc32(content.data, checksum)
        elif component is not None:
            checksum = zlib.crc32(qualified_name(component).encode(), checksum)
    return None if all(component is None for component in components) else f"{checksum:08x}"


def qualified_name(thing: Any) -> str:
    """Module and name of a function or of the class of an object."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"
