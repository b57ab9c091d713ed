"""Training of the flow network: pairs of images that move by a known flow, and a run of two steps."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from keep_hf.models.flow.gmflow import GMFlow
from keep_hf.models.flow.warp import warp
from training.data import flow_pairs
from training.data.flow_pairs import FlowPairs
from training.train_flow import ends_inside, main


@pytest.fixture
def portraits(tmp_path) -> Path:
    folder = tmp_path / "portraits"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(16):
        image = cv2.resize(random.integers(0, 256, (12, 12, 3), np.uint8), (128, 128), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{index:02}.png"), image)
    return folder


def test_training_pairs_move_by_their_flow(monkeypatch, portraits):
    monkeypatch.setattr(flow_pairs, "degrade", lambda rng, images: images)
    pairs = FlowPairs([str(portraits)], size=64, seed=0)
    moved = 0
    for index in range(len(pairs)):
        pair = {name: value[None] for name, value in pairs[index].items()}
        known = pair["visible"] * ends_inside(pair["flow"])
        error = ((warp(pair["image2"], pair["flow"]) - pair["image1"]).abs() * known).sum() / known.sum() / 3
        unmoved = ((pair["image2"] - pair["image1"]).abs() * known).sum() / known.sum() / 3
        assert error < 0.03
        moved += unmoved > 3 * error
    assert moved > len(pairs) / 2


def test_pairs_depend_on_seed_epoch_and_index_only(portraits):
    pairs, again = (FlowPairs([str(portraits)], size=64, seed=0) for _ in range(2))
    first = pairs[3]
    pairs[4]
    assert all(torch.equal(first[name], again[3][name]) for name in first)
    again.epoch = 1
    assert not torch.equal(first["flow"], again[3]["flow"])


def test_the_flow_network_is_trained_and_compared_with_dis(portraits, tmp_path):
    output = tmp_path / "flow"
    arguments = ["--data", portraits, "--validation", portraits, "--output", output, "--size", 64, "--steps", 2]
    arguments += ["--batch-size", 2, "--log-every", 1, "--workers", 0]
    main([str(word) for word in arguments])
    *trained, validated = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in trained] == [1, 2]
    network, no_motion, dis = (
        validated[f"validation end-point error{name}"] for name in ("", " of no motion", " of DIS")
    )
    assert 0 < dis < no_motion
    assert network > 0
    assert GMFlow.from_pretrained(output / "flow").config.feature_channels == 64
    with pytest.raises(ValueError, match="There are no images"):
        FlowPairs([str(output)], size=64, seed=0)
