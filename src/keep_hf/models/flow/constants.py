"""Tensors that depend on sizes only, computed once."""

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode


Arguments = ParamSpec("Arguments")


def constant(function: Callable[Arguments, torch.Tensor]) -> Callable[Arguments, torch.Tensor]:
    """Keep the last 8 results of a function of sizes and a device.

    While a graph is compiled or exported, and in modes that replace tensors, the function is computed and nothing is
    kept: its result may be a tensor without values, of which later calls could make no use.
    """
    # Inference tensors could not be used where gradients are recorded.
    compute = torch.inference_mode(False)(function)
    kept = functools.lru_cache(maxsize=8)(compute)

    @functools.wraps(function)
    def compute_once(*args: Arguments.args, **kwargs: Arguments.kwargs) -> torch.Tensor:
        if torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None:
            return function(*args, **kwargs)
        return kept(*args, **kwargs)  # type: ignore[arg-type]

    return compute_once
