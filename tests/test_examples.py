"""The other examples: frames from a camera, frames from a generator, the notebook."""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from PIL import Image

from keep_hf import KeepPipeline, VideoReader
from keep_hf.degrade import degrade_video
from paths import REPOSITORY


pytestmark = pytest.mark.slow


EXAMPLES = REPOSITORY / "examples"


@pytest.fixture(scope="module")
def portrait(tmp_path_factory) -> Path:
    """Some frames of a face, degraded: sharp ones would be left as they are."""
    path = tmp_path_factory.mktemp("portrait") / "in.mp4"
    runpy.run_path(str(EXAMPLES / "demo.py"))["write_moving_portrait"](path, 6)
    degraded = path.with_name("degraded.mp4")
    degrade_video(path, degraded, "medium", seed=0)
    return degraded


def test_webcam(portrait, tmp_path, monkeypatch, capsys):
    """A file stands in for the camera; OpenCV reads both in the same way."""
    target = tmp_path / "out.mp4"
    monkeypatch.setattr(sys, "argv", ["webcam.py", str(target), "--source", str(portrait)])
    runpy.run_path(str(EXAMPLES / "webcam.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "6 frames" in out
    assert "returned 3 frames later" in out
    before, after = ([frame.image for frame in VideoReader(path).read()] for path in (portrait, target))
    assert len(after) == 6
    assert after[0].shape == before[0].shape
    assert np.abs(after[3].astype(int) - before[3]).max() > 20, "the face is unchanged"

    monkeypatch.setattr(sys, "argv", ["webcam.py", str(target), "--source", "no camera"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(EXAMPLES / "webcam.py"), run_name="__main__")
    # Python prints the message as the only line and exits with 1.
    assert stopped.value.code == "There is no camera or file no camera: pass its number or name with --source."


def test_after_diffusers(portrait):
    generate = runpy.run_path(str(EXAMPLES / "after_diffusers.py"))["generate"]
    images = [Image.fromarray(frame.image) for frame in VideoReader(portrait).read()]

    def generator(prompt: str, output_type: str, num_frames: int) -> SimpleNamespace:
        assert (prompt, output_type, num_frames) == ("a face", "pil", 6)
        return SimpleNamespace(frames=[images])

    keep = KeepPipeline.from_pretrained("keep-tiny")
    restored = generate(generator, keep, 25.0, prompt="a face", num_frames=6)
    assert len(restored) == 6
    assert restored[0].size == images[0].size
    assert np.abs(np.array(restored[3]).astype(int) - np.array(images[3])).max() > 20


def test_after_a_pipeline_of_diffusers():
    """Wan with random weights generates noise, in which there are no faces to restore."""
    torch.manual_seed(0)
    generator = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        transformer=WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=16,
            out_channels=16,
            text_dim=8,
            freq_dim=8,
            ffn_dim=8,
            num_layers=1,
            rope_max_seq_len=32,
        ),
    )
    generate = runpy.run_path(str(EXAMPLES / "after_diffusers.py"))["generate"]
    words = torch.randn(1, 3, 8)
    options = {"prompt_embeds": words, "guidance_scale": 1.0, "num_frames": 9, "height": 64, "width": 96}
    options |= {"num_inference_steps": 1, "latents": torch.randn(1, 16, 3, 8, 12)}
    restored = generate(generator, KeepPipeline.from_pretrained("keep-tiny"), 16.0, **options)
    generated = generator(output_type="pil", **options).frames[0]
    assert len(restored) == 9
    assert all(isinstance(frame, Image.Image) and frame.size == (96, 64) for frame in restored)
    np.testing.assert_array_equal(np.stack(restored), np.stack(generated))


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    notebook = json.loads((EXAMPLES / "quick_start.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells), "clear the outputs before a commit"
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert "person 0: frames 0 to 5" in capsys.readouterr().out
    assert names["comparison"].size == (1280, 360)  # two frames of 640 x 360
    before, after = np.split(np.array(names["comparison"]), 2, axis=1)
    assert (before != after).any()
