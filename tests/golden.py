"""What the published network computes with given weights (../shared/reference), for tests of parity."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file

from paths import SHARED


REFERENCE = SHARED / "reference"
needs_golden = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the golden data of the published network (../shared/reference) is not here"
)


def load(name: str) -> dict[str, torch.Tensor]:
    return load_file(REFERENCE / "golden" / f"{name}.safetensors")


def describe(name: str) -> dict:
    return json.loads((REFERENCE / "golden" / f"{name}.json").read_text())


def filled(manifest: list[dict], salt: str) -> dict[str, torch.Tensor]:
    """Weights by the fill rule of the reference."""
    spec = importlib.util.spec_from_file_location("fill_weights", REFERENCE / "fill_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {e["key"]: torch.from_numpy(module.fill_array(e["key"], e["shape"], salt)) for e in manifest}


def full_state_dict() -> dict[str, torch.Tensor]:
    manifest = json.loads((REFERENCE / "manifest_full.json").read_text())
    entries = next(value for value in manifest.values() if isinstance(value, list) and len(value) == 896)
    return filled([e if isinstance(e, dict) else {"key": e[0], "shape": e[1]} for e in entries], "g")


def tiny_state_dict() -> dict[str, torch.Tensor]:
    return {key: value.float() for key, value in load("tiny_state_dict_fp16exact").items()}


def clip(frames: torch.Tensor) -> torch.Tensor:
    """Stored uint8 frames (t, h, w, 3) -> (1, t, 3, h, w) in [-1, 1]."""
    return ((frames.float() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)[None]
