"""Whole videos, restored and measured: a model that changes nothing passes, one that blurs faces does not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import no_harm
from benchmarks.no_harm import Bench
from benchmarks.no_harm_report import LIMITS, Limits, Outcome, clips_table, summary_table
from benchmarks.result_files import write_text
from blurring import BlurringPipeline
from conftest import make_components
from keep_hf import KeepPipeline, KeepVQModel
from keep_hf.evaluation.metrics import psnr
from keep_hf.options import DEFAULT_MODEL
from keep_hf.video.reader import VideoReader
from portraits import write_people


FRAMES = 3
MODELS = ("harmless", "second")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A video of the portrait and two small models: the correction of the first one is zero before training."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "clips").mkdir()
    write_people(folder / "clips/portrait.mp4", 5, num_people=1)
    components = make_components() | {"detector": KeepPipeline.from_pretrained(DEFAULT_MODEL).detector}
    KeepPipeline(**components).save_pretrained(folder / "second")
    torch.manual_seed(0)
    vq = KeepVQModel.from_config(components["vq"].config, direct_channels=(16, 32), direct_units=(1, 1))
    KeepPipeline(**components | {"vq": vq}).save_pretrained(folder / "harmless")
    return folder


def run(data: Path, work: Path, *more: object, models: tuple[str, ...] = MODELS) -> None:
    options = ("--videos", data / "clips", "--frames", FRAMES, "--work", work, "--models", *(data / m for m in models))
    no_harm.main([str(argument) for argument in (*options, *more)])


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """The output of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    run(data, folder)
    return folder


def rows(work: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The rows of the summary by level and model; the cells by label."""
    lines = [line.strip("|\n ").split(" | ") for line in (work / "table.md").read_text().splitlines()]
    summary = [dict(zip(lines[0], line, strict=True)) for line in lines[2 : 2 + 3 * len(MODELS)]]
    return {(row["level"], row["model"]): row for row in summary}


def test_what_changes_nothing_harms_nothing_and_gains_nothing(whole):
    assert {name: rows(whole)[name, "harmless"]["passed"] for name in ("none", "medium")} == {
        "none": "yes",
        "medium": "**no**",
    }


def test_harm_is_found(data, tmp_path):
    detector = KeepPipeline.from_pretrained(DEFAULT_MODEL).face_detector()
    bench = Bench(tmp_path, {"blurring": BlurringPipeline()}, detector, None, FRAMES, seed=0)
    (outcome,) = bench.measure(data / "clips/portrait.mp4", ["none"])
    assert outcome.kept_psnr < 34
    assert outcome.output_sharpness < 0.2
    assert not LIMITS["none"].accepts(outcome)


def test_values_are_those_of_the_videos(whole):
    sharp, degraded = rows(whole)["none", "harmless"], rows(whole)["medium", "harmless"]
    assert sharp["input sharpness"] == "1.000"
    assert 0.9 < float(sharp["output sharpness"]) < 1.1
    assert float(degraded["output sharpness"]) < 0.5
    assert abs(float(degraded["gain"])) < 0.2
    folder = whole / f"videos/{FRAMES}_frames_seed_0/portrait"
    images = []
    for name in ("truth.mp4", "medium/input.mp4"):
        with VideoReader(folder / name) as reader:
            images.append([frame.image for frame in reader.read()])
    assert [len(video) for video in images] == [FRAMES, FRAMES]
    assert images[0][0].shape == images[1][0].shape
    # The face is a part of the frame, with more detail than the rest.
    assert psnr(images[1][0], images[0][0]) == pytest.approx(float(degraded["input dB"]), abs=3)


def test_only_missing_results_are_computed(data, tmp_path):
    run(data, tmp_path, "--levels", "none", models=("harmless",))
    (file,) = (tmp_path / "results").rglob("*.json")
    written = file.stat().st_mtime_ns
    run(data, tmp_path, "--levels", "none")
    assert file.stat().st_mtime_ns == written
    assert len(list((tmp_path / "results").rglob("*.json"))) == 2
    write_text(file, file.read_text().replace("keep_hf ", "another "))
    with pytest.raises(ValueError, match=r"harmless\.json was made by .*another"):
        run(data, tmp_path, "--levels", "none")


GOOD = Outcome("a", "medium", "m", "", 3, 27.0, 29.0, 33.0, 0.1, 0.3, None, None, 0.5)


def test_limits_of_mean_and_worst_clip():
    limits = Limits(mean_gain=1.5, worst_gain=0.3)
    small, smaller = replace(GOOD, output_psnr=27.4), replace(GOOD, output_psnr=27.2)
    better = replace(GOOD, output_psnr=31.0)
    assert limits.accept([GOOD])
    assert not limits.accept([GOOD, small])  # the mean gain is 1.2 dB
    assert limits.accept([better, small])
    assert not limits.accept([better, smaller])
    assert limits.accepts(small)
    assert not limits.accepts(smaller)


def test_limits_without_degradation():
    sharp = replace(
        GOOD, level="none", input_psnr=float("inf"), output_psnr=40.0, kept_psnr=40.0, output_sharpness=1.0
    )
    assert sharp.gain is None
    limits = LIMITS["none"]
    assert limits.accept([sharp])
    assert not limits.accepts(replace(sharp, kept_psnr=37.9))
    assert not limits.accepts(replace(sharp, output_sharpness=0.89))
    assert not limits.accept([sharp, replace(sharp, kept_psnr=37.9)])


def test_tables_have_a_row_per_model_and_per_clip():
    outcomes = [replace(GOOD, clip=clip, model=model) for clip in "ab" for model in "mn"]
    assert len(summary_table(outcomes).splitlines()) == 2 + 2
    assert len(clips_table(outcomes).splitlines()) == 2 + 4
    for table in (summary_table(outcomes), clips_table(outcomes)):
        assert len({line.count("|") for line in table.splitlines()}) == 1
        assert "| +2.00 |" in table
