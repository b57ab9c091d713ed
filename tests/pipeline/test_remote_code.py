"""`DiffusionPipeline.from_pretrained`: with keep_hf imported, and without it through the code in the repository."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from diffusers import DiffusionPipeline

from conftest import SIZE, make_clip
from hub_server import serve
from keep_hf import KeepPipeline


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_clip(2, SIZE, SIZE)


@pytest.fixture
def saved(components, tmp_path) -> Path:
    KeepPipeline(**components).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def run(folder: Path, script: str, endpoint: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program of its own: huggingface_hub reads its settings, and diffusers registers us, at the import."""
    environment = {"HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1", "HF_ENDPOINT": endpoint}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | environment)


LOAD = """
import sys
{first}
from diffusers import DiffusionPipeline
import numpy as np
import torch
torch.set_num_threads(1)
pipe = DiffusionPipeline.from_pretrained("someone/keep"{arguments})
import keep_hf
assert type(pipe) is keep_hf.KeepPipeline
assert type(pipe.vq) is keep_hf.KeepVQModel
np.save({result!r}, pipe(np.load({crops!r}), aligned=True, output_type="np").frames)
"""


@pytest.mark.parametrize(
    ("first", "arguments"),
    [("import keep_hf", ""), ("assert 'keep_hf' not in sys.modules", ", trust_remote_code=True")],
)
def test_diffusers_loads_the_pipeline_from_the_hub(components, saved, crops, tmp_path, first, arguments):
    np.save(tmp_path / "crops.npy", crops)
    script = LOAD.format(
        first=first, arguments=arguments, crops=str(tmp_path / "crops.npy"), result=str(tmp_path / "result.npy")
    )
    with serve(saved, "someone/keep") as (endpoint, downloaded):
        done = run(tmp_path, script, endpoint)
    assert done.returncode == 0, done.stderr[-2000:]
    assert ("vq/keep_hf.py" in downloaded) == bool(arguments)
    pipe = KeepPipeline(**components)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(crops, aligned=True, output_type="np").frames
    # In another process a pixel may be rounded to the neighbouring level.
    np.testing.assert_allclose(np.load(tmp_path / "result.npy"), expected, atol=1.5 / 255)


def test_diffusers_loads_the_pipeline_from_a_folder(saved):
    """In this process keep_hf is imported, so no code of the folder runs."""
    (saved / "pipeline.py").write_text("raise SystemExit('code of the folder')")
    for file in saved.rglob("keep_hf.py"):
        file.write_text("raise SystemExit('code of the folder')")
    for loader in (DiffusionPipeline, KeepPipeline):
        assert type(loader.from_pretrained(saved)) is KeepPipeline


def test_the_folder_is_a_custom_pipeline(saved):
    pipe = DiffusionPipeline.from_pretrained(saved, custom_pipeline=str(saved), trust_remote_code=True)
    assert type(pipe) is KeepPipeline


def test_without_keep_hf_the_error_says_how_to_install_it(saved, tmp_path):
    script = f"""
import sys
sys.modules["keep_hf"] = None  # as if it were not installed
from diffusers import DiffusionPipeline
DiffusionPipeline.from_pretrained({str(saved)!r}, trust_remote_code=True)
"""
    done = run(tmp_path, script)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: This pipeline needs the package keep_hf: pip install 'keep_hf @ git+https://")
    # diffusers does not advise to install whatever has this name on the package index.
    assert "pip install keep_hf" not in done.stderr


def test_code_of_a_repository_is_not_run_without_permission(saved, tmp_path):
    script = f"""
from diffusers import DiffusionPipeline
DiffusionPipeline.from_pretrained({str(saved)!r})
"""
    done = run(tmp_path, script)
    assert done.returncode == 1
    assert "Pass `trust_remote_code=True`" in done.stderr
