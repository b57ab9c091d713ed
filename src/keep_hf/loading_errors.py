"""Errors in the files of a model, as messages that name the model."""

import contextlib
import inspect
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


MAX_LAYERS = 1000


@contextlib.contextmanager
def report_load_errors(name: object) -> Iterator[None]:
    """Re-raise what damaged files cause in diffusers, errors of any kind, as a `ValueError` that names the model.

    Args:
        name: Name or folder of the model.
    """
    try:
        yield
    except (ImportError, MemoryError, OSError, torch.OutOfMemoryError):
        raise  # these say what is missing
    except ValueError as error:
        if str(name) in str(error):
            raise
        raise ValueError(f"{name} cannot be loaded: {error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(
            f"{name} cannot be loaded: its files are damaged, or do not fit together ({reason}). Download or save it "
            "again."
        ) from error


def check_settings(name: object, config: Any, network_class: type) -> None:
    """Reject the configuration of a network that no network can have, before the network is built.

    Args:
        name: Name or folder of the model, for the message.
        config: Content of the configuration file.
        network_class (`type`): The class of the network. Its defaults show which settings are numbers and lists.

    Raises:
        ValueError: If it is no JSON object, or a setting has another type than its default, is negative or NaN, or is
            a number of layers that would take minutes to build.
    """
    if not isinstance(config, dict):
        raise ValueError(
            f"{name} cannot be loaded: its configuration must be a JSON object, got {str(config)[:40]!r}."
        )
    for setting, parameter in inspect.signature(network_class).parameters.items():
        value = config.get(setting, parameter.default)
        expected = _expectation(setting, parameter.default)
        numbers = list(value) if isinstance(value, list | tuple) else [value]
        largest = MAX_LAYERS if setting.endswith("_layers") else math.inf
        is_number = all(isinstance(number, int | float) and 0 <= number <= largest for number in numbers)
        is_whole = isinstance(parameter.default, float) or all(isinstance(number, int) for number in numbers)
        is_list = isinstance(value, list | tuple)
        if expected and not (is_number and is_whole and is_list == isinstance(parameter.default, list | tuple)):
            raise ValueError(f"{name} cannot be loaded: the setting {setting} must be {expected}, got {value!r}.")


def _expectation(setting: str, default: object) -> str:
    """What a setting must be, judging from its default; empty for those that are no numbers."""
    if isinstance(default, bool) or not isinstance(default, int | float | list | tuple):
        return ""
    if isinstance(default, list | tuple):
        return "a list of whole numbers of 0 or more" if all(isinstance(item, int) for item in default) else ""
    if setting.endswith("_layers"):
        return f"a whole number from 0 to {MAX_LAYERS}"
    return "a number of 0 or more" if isinstance(default, float) else "a whole number of 0 or more"


def check_weights(name: object, network: Any) -> None:
    """Reject weights that are not numbers, as after a training that diverged: they could restore no video.

    Args:
        name: Name or folder of the model, for the message.
        network: A network; weights that are offloaded are not checked, and other objects have none.

    Raises:
        ValueError: If a weight is missing, NaN or infinite.
    """
    if not isinstance(network, nn.Module):
        return
    kind = type(network).__name__
    is_offloaded = any(hasattr(module, "_hf_hook") for module in network.modules())
    for weight_name, weight in network.state_dict().items():
        if weight.is_meta and not is_offloaded:
            raise ValueError(f"{name} cannot be used: {kind} has no weight {weight_name} in its file.")
        # Quantized weights are tensors of other classes.
        if weight.is_meta or type(weight) is not torch.Tensor or not weight.is_floating_point():
            continue
        comparable = weight.float() if weight.itemsize == 1 else weight
        if not torch.isfinite(comparable).all():
            raise ValueError(
                f"{name} cannot be used: the weight {weight_name} of {kind} has values that are NaN or infinite. Use "
                "an earlier checkpoint of the training, or download the file again."
            )
