"""Training of the flow network: pairs of images that move by a known flow, and a run of two steps."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from keep_hf.models.flow.gmflow import GMFlow
from keep_hf.models.flow.warp import warp
from paths import REPOSITORY
from training import train_flow


@pytest.fixture
def portraits(tmp_path) -> Path:
    folder = tmp_path / "portraits"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(24):
        image = cv2.resize(random.integers(0, 256, (12, 12, 3), np.uint8), (128, 128), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{index:02}.png"), image)
    return folder


def test_training_pairs_move_by_their_flow(monkeypatch, portraits):
    monkeypatch.setattr(train_flow, "degrade", lambda rng, images: images)
    pairs = train_flow.MovingFaces(sorted(portraits.glob("*.png")), size=64, seed=0)
    moved = 0
    for index in range(len(pairs)):
        pair = {name: torch.from_numpy(value)[None] for name, value in pairs[index].items()}
        known = pair["visible"] * train_flow.inside(pair["flow"])
        error = ((warp(pair["image2"], pair["flow"]) - pair["image1"]).abs() * known).sum() / known.sum() / 3
        unmoved = ((pair["image2"] - pair["image1"]).abs() * known).sum() / known.sum() / 3
        assert error < 0.03
        moved += unmoved > 3 * error
    assert moved > len(pairs) / 2
    assert np.array_equal(pairs[3]["image1"], pairs[3]["image1"]), "an item depends only on seed, epoch and index"


def test_training_runs(portraits, tmp_path):
    command = [sys.executable, "-m", "training.train_flow", "--data", portraits, "--output", tmp_path, "--size", 32]
    command += ["--steps", 2, "--batch-size", 2, "--log-every", 1, "--workers", 0]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=REPOSITORY)
    assert run.returncode == 0, run.stderr
    assert "step 2 " in run.stdout
    assert "held out, px: network" in run.stdout
    assert GMFlow.from_pretrained(tmp_path / "flow").config.feature_channels == 64
