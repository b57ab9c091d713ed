"""`import keep_hf`: public names, imported on first use and registered with diffusers in time."""

import ast
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from diffusers import DiffusionPipeline

import keep_hf


pytestmark = pytest.mark.slow


CLASSES = set(keep_hf.__all__) - {"__version__"}


def run_python(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_import_is_light():
    script = """
import sys
import keep_hf
heavy = {"av", "cv2", "diffusers", "numpy", "torch", "transformers"} & set(sys.modules)
assert not heavy, heavy
from keep_hf import VideoReader, VideoWriter
assert "diffusers" not in sys.modules
"""
    run_python(script)


def test_every_public_name_is_there():
    assert set(keep_hf.__all__) <= set(dir(keep_hf))
    for name in CLASSES:
        assert getattr(keep_hf, name).__name__ == name
    with pytest.raises(AttributeError, match="'keep_hf' has no attribute 'KeepPipe'"):
        keep_hf.KeepPipe  # noqa: B018


def test_type_checkers_see_the_same_names():
    (block,) = (node for node in ast.parse(Path(keep_hf.__file__).read_text()).body if isinstance(node, ast.If))
    seen = {name.name: statement.module for statement in block.body for name in statement.names}
    assert seen == keep_hf._MODULES
    assert set(seen) == CLASSES


def test_classes_are_pickled_by_their_modules():
    for name in CLASSES:
        value = getattr(keep_hf, name)
        assert pickle.loads(pickle.dumps(value)) is value


class FlowPipeline(DiffusionPipeline):
    """A pipeline of another library, with one component of this package."""

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.register_modules(flow=flow)


def test_diffusers_loads_components_after_a_bare_import(components, tmp_path):
    FlowPipeline(components["flow"]).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["flow"] == ["keep_hf", "GMFlow"]
    run_python(f"""
import sys
import keep_hf
from diffusers import DiffusionPipeline

class FlowPipeline(DiffusionPipeline):
    def __init__(self, flow):
        super().__init__()
        self.register_modules(flow=flow)

pipe = FlowPipeline.from_pretrained({str(tmp_path)!r})
assert isinstance(pipe.flow, keep_hf.GMFlow)
assert "keep_hf.pipeline" not in sys.modules
""")
