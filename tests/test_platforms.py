"""The package imports on platforms whose builds of torch have fewer operators."""

import subprocess
import sys

import pytest

from paths import REPOSITORY


pytestmark = pytest.mark.slow


# The wheels of torch for macOS are built without oneDNN and have no such operator.
WITHOUT_ONEDNN = """
import importlib
import pkgutil

import torch

class Namespace(type(torch.ops.mkldnn)):
    def __getattr__(self, name):
        raise AttributeError(f"'_OpNamespace' 'mkldnn' object has no attribute {name!r}")

torch.ops.mkldnn = Namespace("mkldnn")
torch.backends.mkldnn.is_available = lambda: False
try:
    torch.ops.mkldnn._linear_pointwise
except AttributeError:
    print("hidden")

import benchmarks
import keep_hf

for package in (keep_hf, benchmarks):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith(".__main__"):  # runs the command line
            print(importlib.import_module(module.name).__name__)

from keep_hf.models.fast_paths import takes_fast_path
from keep_hf.models.layers import Linear

with torch.no_grad():
    x = torch.zeros(1, 2)
    print(takes_fast_path(x, torch.float32), tuple(Linear(2, 3)(x).shape))
"""


def test_every_module_imports_without_onednn():
    command = [sys.executable, "-c", WITHOUT_ONEDNN]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0] == "hidden"
    assert {"keep_hf.cli.parser", "keep_hf.cli.restore", "keep_hf.models.fast_paths", "keep_hf.pipeline"} <= set(lines)
    assert "benchmarks.roofline" in lines
    assert lines[-1] == "False (1, 3)"
