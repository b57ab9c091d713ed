"""State dicts of published checkpoints: their parts, and questions that their keys answer."""

import re
from typing import NamedTuple, TypeVar

from diffusers import ModelMixin

from ..checkpoint_files import StateDict


Model = TypeVar("Model", bound=ModelMixin)


class Parts(NamedTuple):
    """A published state dict by networks, without the prefixes of the flow network and of the gain network."""

    vq: StateDict
    kalman: StateDict
    flow: StateDict


def split(state_dict: StateDict) -> Parts:
    """Divide a published state dict by networks.

    Raises:
        ValueError: If it is not that of KEEP or CodeFormer.
    """
    if "generator.blocks.0.weight" not in state_dict:
        raise ValueError(
            "This is not a checkpoint of KEEP, CodeFormer or GMFlow: it has neither 'generator.blocks.0.weight' nor "
            f"'backbone.conv1.weight'. Its first keys are {list(state_dict)[:5]}."
        )
    parts = Parts({}, {}, {})
    for key, value in state_dict.items():
        if key.startswith("flownet.model."):
            parts.flow[key.removeprefix("flownet.model.")] = value
        elif key.startswith("kalman_filter."):
            parts.kalman[key.removeprefix("kalman_filter.")] = value
        else:
            parts.vq[key] = value
    return parts


def rename(key: str, names: list[tuple[str, str]]) -> str:
    """Apply all rules of a table of names, in its order."""
    for pattern, replacement in names:
        key = re.sub(pattern, replacement, key)
    return key


def count(state_dict: StateDict, pattern: str) -> int:
    """The number of modules whose keys match a pattern; its group is their index, from 0.

    Raises:
        ValueError: If an index is larger than the number of all weights, so that most modules would be missing.
    """
    largest = max(sizes(state_dict, pattern), default=-1)
    if largest >= len(state_dict):
        raise ValueError(f"The checkpoint is incomplete: it has {len(state_dict)} weights, but a layer {largest}.")
    return largest + 1


def sizes(state_dict: StateDict, pattern: str) -> list[int]:
    """The numbers in the keys that match a pattern, sorted."""
    return sorted({int(match[1]) for key in state_dict if (match := re.match(pattern, key))})


def require(state_dict: StateDict, keys: list[str]) -> None:
    """Raise `ValueError` if keys are missing."""
    missing = [key for key in keys if key not in state_dict]
    if missing:
        raise ValueError(f"The checkpoint is incomplete: {missing} are missing.")


def load_exactly(model: Model, state_dict: StateDict) -> Model:
    """Load the weights by our names; raise `ValueError` if they are not exactly those of the model."""
    expected = model.state_dict()
    missing = sorted(expected.keys() - state_dict.keys())
    unexpected = sorted(state_dict.keys() - expected.keys())
    reshaped = [
        f"{key} {tuple(state_dict[key].shape)} for {tuple(expected[key].shape)}"
        for key in expected.keys() & state_dict.keys()
        if expected[key].shape != state_dict[key].shape
    ]
    if missing or unexpected or reshaped:
        problems = [
            f"{len(keys)} {what}: {', '.join(keys[:6])}{', ...' if len(keys) > 6 else ''}"
            for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
            if keys
        ]
        raise ValueError(f"The checkpoint does not fit {type(model).__name__} (by our names): {'; '.join(problems)}.")
    model.load_state_dict({key: value.float() for key, value in state_dict.items()})
    return model.eval()
