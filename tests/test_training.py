"""The training scripts, run as a person runs them: three stages, resuming, wrong arguments."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from safetensors.torch import load_file

from keep_hf import GMFlow, KeepPipeline


ROOT = Path(__file__).resolve().parents[1]
ASTRONAUT_LANDMARKS = np.array([[204.6, 101.8], [248.5, 104.4], [224.3, 125.9], [203.7, 142.4], [242.5, 144.4]])


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """A folder of four portraits, the astronaut's at several sizes, and their landmarks."""
    folder = tmp_path_factory.mktemp("faces")
    image = cv2.cvtColor(skimage.data.astronaut()[:300, 80:380], cv2.COLOR_RGB2BGR)
    with open(folder / "metadata.jsonl", "w") as lines:
        for i, scale in enumerate((1.5, 1.7, 1.9, 2.1)):
            cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(image, None, fx=scale, fy=scale))
            landmarks = (ASTRONAUT_LANDMARKS - [80, 0]) * scale
            lines.write(json.dumps({"file_name": f"{i}.png", "landmarks": landmarks.tolist()}) + "\n")
    return folder


def run(script: str, *arguments, check: bool = True) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "training" / f"{script}.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if check:
        assert done.returncode == 0, done.stderr[-2000:]
    return done


# Four portraits are an epoch: the checkpoint lies in the middle of the second one.
VQ_STEPS = ("--steps", 7, "--save-every", 6)
COMMON = ("--batch-size", 1, "--workers", 0, "--log-every", 1, "--warmup", 1)


@pytest.fixture(scope="module")
def stages(faces, tmp_path_factory) -> Path:
    """All three stages, a few steps each."""
    runs = tmp_path_factory.mktemp("runs")
    GMFlow(backbone_channels=(8, 8, 16), feature_channels=16, num_layers=1).save_pretrained(runs / "flow")
    run("train_vq", "--data", faces, "--output", runs / "vq", *VQ_STEPS, *COMMON)
    run(
        "train_codes",
        *("--vq", runs / "vq/vq", "--flow", runs / "flow", "--data", faces, "--output", runs / "codes"),
        *("--steps", 2, "--clip-length", 2, *COMMON),
    )
    run(
        "train_keep",
        *("--vq", runs / "codes/vq", "--kalman", runs / "codes/kalman", "--flow", runs / "flow"),
        *("--data", faces, "--output", runs / "keep", "--steps", 2, "--clip-length", 2, *COMMON),
    )
    return runs


def changed(before: Path, after: Path) -> set[str]:
    """The parts of a model whose weights differ between two files."""
    before, after = (load_file(path / "diffusion_pytorch_model.safetensors") for path in (before, after))
    return {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}


def test_every_stage_trains_its_own_part_and_a_pipeline_comes_out(stages):
    assert changed(stages / "vq/vq", stages / "codes/vq") == {"lq_encoder", "code_transformer"}
    assert changed(stages / "codes/vq", stages / "keep/pipeline/vq") == {"feature_fusion", "cross_frame"}
    assert changed(stages / "codes/kalman", stages / "keep/pipeline/kalman") == set()
    pipe = KeepPipeline.from_pretrained(stages / "keep/pipeline")
    frames = skimage.data.astronaut()[None, 30:200, 130:300].repeat(2, axis=0)
    restored = pipe(frames, aligned=True, output_type="np").frames
    assert restored.shape == (1, 2, 256, 256, 3)


def test_the_log_holds_finite_figures(stages):
    for stage in ("vq", "codes", "keep"):
        lines = [json.loads(line) for line in (stages / stage / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
        assert all(np.isfinite(list(line.values())).all() for line in lines)


def test_a_resumed_run_is_bitwise_the_uninterrupted_one(stages, faces, tmp_path):
    checkpoints = stages / "vq/checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"checkpoint_0", "checkpoint_1"}
    shutil.copytree(checkpoints / "checkpoint_0", tmp_path / "checkpoints/checkpoint_0")
    run("train_vq", "--data", faces, "--output", tmp_path, *VQ_STEPS, *COMMON, "--resume")
    whole = load_file(stages / "vq/vq/diffusion_pytorch_model.safetensors")
    resumed = load_file(tmp_path / "vq/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_wrong_arguments_are_told(stages, faces, tmp_path):
    def last_line(*arguments) -> str:
        done = run("train_vq", "--steps", 2, *COMMON, *arguments, check=False)
        assert done.returncode != 0
        return done.stderr.strip().splitlines()[-1]

    assert "no folder" in last_line("--data", tmp_path / "missing", "--output", tmp_path / "a")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "Nothing to train on" in last_line("--data", empty, "--output", tmp_path / "a")
    assert "holds an earlier run" in last_line("--data", faces, "--output", stages / "vq")
    assert "no checkpoint" in last_line("--data", faces, "--output", tmp_path / "a", "--resume")
    assert "one step needs 9" in last_line("--data", faces, "--output", tmp_path / "a", "--batch-size", 9)
