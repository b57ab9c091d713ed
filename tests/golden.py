"""Results of the published network for given weights (../shared/reference), for tests of parity."""

import importlib.util
import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from paths import SHARED


REFERENCE = SHARED / "reference"
needs_golden = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the golden data of the published network (../shared/reference) are missing"
)


def load_golden(name: str) -> dict[str, torch.Tensor]:
    return load_file(REFERENCE / "golden" / f"{name}.safetensors")


def load_description(name: str) -> dict[str, Any]:
    return json.loads((REFERENCE / "golden" / f"{name}.json").read_text())


def fill_weights(manifest: list[dict[str, Any]], salt: str) -> dict[str, torch.Tensor]:
    """Weights for the names (`key`) and shapes of a manifest, by the rule of the reference; the salt is part of it."""
    spec = importlib.util.spec_from_file_location("fill_weights", REFERENCE / "fill_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {e["key"]: torch.from_numpy(module.fill_array(e["key"], e["shape"], salt)) for e in manifest}


def full_state_dict(salt: str, prefix: str = "") -> dict[str, torch.Tensor]:
    """A state dict of full size, or the part of it whose names begin with a prefix."""
    manifest = json.loads((REFERENCE / "manifest_full.json").read_text())["tensors"]
    return fill_weights([entry for entry in manifest if entry["key"].startswith(prefix)], salt)


def tiny_state_dict() -> dict[str, torch.Tensor]:
    """A state dict of reduced size."""
    return {key: value.float() for key, value in load_golden("tiny_state_dict_fp16exact").items()}


def take_part(state_dict: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The weights whose names begin with a prefix, under their names without it."""
    return {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}


def to_clip(frames: torch.Tensor) -> torch.Tensor:
    """Stored uint8 frames `(t, h, w, 3)` -> float `(1, t, 3, h, w)` in [-1, 1]."""
    return ((frames.float() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)[None]
