"""Sheets of unlabelled pairs: their content, the key that tells the sides apart, and the count of choices."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import unlabelled_pairs
from benchmarks.sharpness import measure_sharpness
from benchmarks.unlabelled_pairs import (
    BORDER,
    LABEL_HEIGHT,
    Pair,
    count_choices,
    draw_sheets,
    record_choices,
    restore_pair,
)
from blurring import BlurringPipeline
from conftest import make_components
from keep_hf import KeepPipeline
from keep_hf.options import DEFAULT_MODEL
from keep_hf.video.reader import VideoReader
from portraits import write_people


SIZE = 40
NAMES = [f"clip {number:02}" for number in range(12)]


@pytest.fixture(scope="module")
def pairs():
    """Pairs whose inputs are dark and whose outputs are bright."""
    dark, bright = (np.full((2, SIZE, SIZE, 3), level, np.uint8) for level in (20, 220))
    return [Pair(name, dark, bright) for name in NAMES]


def left_side(work, name) -> float:
    with Image.open(work / "sheets" / f"{name}.png") as sheet:
        return np.asarray(sheet)[LABEL_HEIGHT + BORDER, SIZE // 2].mean()


def test_the_key_states_the_side_of_the_output(pairs, tmp_path):
    draw_sheets(pairs, tmp_path, seed=3)
    key = json.loads((tmp_path / "key.json").read_text())
    assert key["seed"] == 3
    assert {"A": 0, "B": 0}.keys() == set(key["output"].values())  # both orders occur
    for name, side in key["output"].items():
        assert left_side(tmp_path, name) == (220 if side == "A" else 20)


def test_the_seed_determines_the_order(pairs, tmp_path):
    keys = []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        draw_sheets(pairs, tmp_path / folder, seed)
        keys.append(json.loads((tmp_path / folder / "key.json").read_text())["output"])
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]


def test_strips_show_the_input_above_the_output(pairs, tmp_path):
    draw_sheets(pairs[:1], tmp_path, seed=0)
    with Image.open(tmp_path / "strips" / f"{NAMES[0]}.jpg") as image:
        strip = np.asarray(image)
    height = len(strip) // 2
    assert strip[height // 2 : height].mean() == pytest.approx(20, abs=2)
    assert strip[height + height // 2 :].mean() == pytest.approx(220, abs=2)


def test_choices_are_counted_against_the_key(pairs, tmp_path, capsys):
    draw_sheets(pairs, tmp_path, seed=1)
    key = json.loads((tmp_path / "key.json").read_text())["output"]
    choices = [key[name] for name in NAMES]
    choices[0] = "tie"
    choices[1] = "A" if choices[1] == "B" else "B"
    record_choices(tmp_path, choices)
    count = count_choices(tmp_path)
    assert (count.output, count.input, count.tie) == (10, 1, 1)
    table = capsys.readouterr().out
    assert f"| {NAMES[0]} | tie | {key[NAMES[0]]} | tie |" in table
    assert f"| {NAMES[1]} | {choices[1]} | {key[NAMES[1]]} | input |" in table
    unlabelled_pairs.main(["count", "--work", str(tmp_path)])
    assert "output preferred: 10, input preferred: 1, ties: 1" in capsys.readouterr().out


def test_choices_cannot_be_changed_or_incomplete(pairs, tmp_path):
    draw_sheets(pairs[:2], tmp_path, seed=1)
    for choices in (["A"], ["A", "C"], ["A"] * 3):
        with pytest.raises(ValueError, match="2 sheets; pass A, B, tie"):
            record_choices(tmp_path, choices)
    record_choices(tmp_path, ["A", "B"])
    record_choices(tmp_path, ["A", "B"])
    with pytest.raises(ValueError, match="another seed"):
        record_choices(tmp_path, ["A", "A"])


@pytest.fixture(scope="module")
def portrait(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    return write_people(folder / "portrait.mp4", 5, num_people=1)


def test_pairs_show_the_same_frames_before_and_after(portrait, tmp_path):
    detector = KeepPipeline.from_pretrained(DEFAULT_MODEL).face_detector()
    pipe = BlurringPipeline()
    pair, again = (restore_pair(portrait, tmp_path, pipe, detector, num_frames=4, num_shown=2) for _ in range(2))
    assert pipe.num_calls == 1
    assert np.array_equal(pair.output, again.output)
    # The face crop has nearly the size of the frame, 144 pixels, which is enlarged four times.
    assert len(pair.input) == 2
    assert all(512 <= side <= 4 * 144 for side in pair.input.shape[1:3])
    with VideoReader(tmp_path / "input.mp4") as reader:
        frames = [frame.image for frame in reader.read()]
    assert len(frames) == 4
    last = frames[-1].mean((0, 1))
    assert pair.input[-1].mean((0, 1)) == pytest.approx(last, abs=8)
    assert pair.output[-1].mean((0, 1)) == pytest.approx(pair.input[-1].mean((0, 1)), abs=2)
    small = [
        cv2.resize(frame, (144, 144), interpolation=cv2.INTER_AREA) for frame in (pair.input[-1], pair.output[-1])
    ]
    before, after = map(measure_sharpness, small)
    assert after < 0.3 * before


def test_another_model_restores_again(portrait, tmp_path):
    detector = KeepPipeline.from_pretrained(DEFAULT_MODEL).face_detector()
    pipe = BlurringPipeline()
    restore_pair(portrait, tmp_path, pipe, detector, num_frames=2, num_shown=1)
    pipe.fingerprint = lambda: "other weights"
    restore_pair(portrait, tmp_path, pipe, detector, num_frames=2, num_shown=1)
    assert pipe.num_calls == 2


def test_sheets_of_a_folder(portrait, tmp_path):
    detector = KeepPipeline.from_pretrained(DEFAULT_MODEL).detector
    KeepPipeline(**make_components(), detector=detector).save_pretrained(tmp_path / "model")
    options = ("--model", tmp_path / "model", "--frames", 3, "--shown", 2, "--seed", 0, "--work", tmp_path / "work")
    arguments = [str(argument) for argument in ("draw", "--videos", portrait.parent, *options)]
    unlabelled_pairs.main(arguments)
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"key.json", "sheets", "strips", "videos"}
    assert left_side(tmp_path / "work", "portrait") > 0
    with pytest.raises(ValueError, match="has sheets already"):
        unlabelled_pairs.main(arguments)
