"""The evaluation of the paper, on synthetic clips and a tiny model: tables, plots, resuming, several processes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import vfhq_test
from benchmarks.methods import VARIANTS
from conftest import make_clip, make_components
from keep_hf import KeepPipeline
from keep_hf.evaluation.metrics import psnr
from keep_hf.video.image_folder import ImageFolderReader, ImageFolderWriter
from paths import REPOSITORY
from processes import launch


pytestmark = pytest.mark.slow


SIZE, FRAMES, CLIPS = 128, 4, ("a", "b", "c")
METHODS = ("bicubic", *VARIANTS)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with a tiny model and three clips of aligned "faces"."""
    folder = tmp_path_factory.mktemp("data")
    # Windows of two frames, so that `official` drops its state within the clips
    KeepPipeline(**make_components(), gain_window=2).save_pretrained(folder / "model")
    (folder / "clips").mkdir()
    for seed, name in enumerate(CLIPS):
        with ImageFolderWriter(folder / "clips" / name, width=SIZE, height=SIZE) as writer:
            for image in make_clip(FRAMES, SIZE, SIZE, seed):
                writer.write(image)
    return folder


def make_arguments(data: Path, work: Path, *more: object) -> list[str]:
    options = ("--videos", data / "clips", "--model", data / "model", "--aligned", "--device", "cpu", "--work", work)
    methods = () if "--methods" in more else ("--methods", *METHODS)
    levels = () if "--levels" in more else ("--levels", "mild", "heavy")
    return [str(argument) for argument in (*options, *methods, *levels, *more)]


def run(data: Path, work: Path, *more: object) -> None:
    vfhq_test.main(make_arguments(data, work, *more))


def tables(work: Path) -> dict[str, str]:
    return {name: (work / name).read_text() for name in ("table.md", "clips.md", "report.json")}


def results(work: Path) -> dict[Path, int]:
    """The time when each result was written, by its path."""
    files = (work / "results").glob("*/*/*.json")
    return {file.relative_to(work): file.stat().st_mtime_ns for file in files}


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """The output of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    run(data, folder / "work", "--export", folder / "export", "--strips", folder / "strips")
    return folder


# Output


def test_table_has_a_row_per_method_and_a_group_per_level(whole):
    lines = (whole / "work/table.md").read_text().splitlines()
    assert lines[0] == "| | mild | | | | heavy | | | |"
    assert lines[2] == "| |" + " PSNR ↑ | SSIM ↑ | Flicker ↓ | Sharpness → 1 |" * 2
    assert [line.split(" | ")[0] for line in lines[3 : 3 + len(METHODS)]] == [f"| {name}" for name in METHODS]
    assert len({line.count("|") for line in lines[:10]}) == 1
    for label in ("LPIPS", "IDS", "AKD"):
        assert any(line.startswith(f"Not measured: {label}, which needs") for line in lines)


def test_values_are_those_of_the_exported_images(whole):
    report = json.loads((whole / "work/report.json").read_text())
    means = []
    for clip in CLIPS:
        truth, degraded = (
            [frame.image for frame in ImageFolderReader(whole / "export" / part / clip)] for part in ("truth", "heavy")
        )
        # 128 to 64 by area: the mean of blocks of 2 x 2 pixels
        small = [
            [np.rint(frame.reshape(64, 2, 64, 2, 3).mean((1, 3)) - 1e-9).astype(np.uint8) for frame in frames]
            for frames in (truth, degraded)
        ]
        means.append(np.mean([psnr(frame, sharp) for sharp, frame in zip(*small, strict=True)]))
    assert report["levels"]["heavy"]["bicubic"]["mean"]["psnr"] == pytest.approx(np.mean(means), abs=0.02)
    rows = (whole / "work/clips.md").read_text().split("## heavy")[1].splitlines()
    assert [float(row.split(" | ")[2]) for row in rows[4:7]] == pytest.approx(means, abs=0.03)


def test_heavier_degradation_has_worse_values(whole):
    report = json.loads((whole / "work/report.json").read_text())["levels"]
    assert report["heavy"]["bicubic"]["mean"]["psnr"] < report["mild"]["bicubic"]["mean"]["psnr"] - 1


def test_at_level_none_the_truth_is_the_input(data, tmp_path):
    run(data, tmp_path, "--methods", "bicubic", "keep", "--levels", "none", "--clips", "a")
    rows = json.loads((tmp_path / "report.json").read_text())["levels"]["none"]
    bicubic, keep = (rows[name]["mean"] for name in ("bicubic", "keep"))
    assert (bicubic["psnr"], bicubic["ssim"], bicubic["sharpness"]) == ("inf", 1, 1)
    assert keep["psnr"] < 40


def test_degraded_faces_are_less_sharp(whole):
    report = json.loads((whole / "work/report.json").read_text())["levels"]
    heavy, mild = (report[level]["bicubic"]["mean"]["sharpness"] for level in ("heavy", "mild"))
    assert 0 < heavy < 0.5
    assert 0 < mild < 0.5


def test_strips_show_all_methods_and_the_truth(whole):
    strips = sorted((whole / "strips").iterdir())
    assert [strip.name for strip in strips] == [f"{level}_{clip}.jpg" for level in ("heavy", "mild") for clip in CLIPS]
    assert Image.open(strips[0]).size == (FRAMES * 64, (len(METHODS) + 1) * 64)


def test_groups_are_means_of_their_clips(data, whole, tmp_path):
    (tmp_path / "groups.json").write_text(json.dumps({"one": ["a"], "two": ["a", "b"]}))
    run(data, whole / "work", "--groups", tmp_path / "groups.json")
    heading, _, one, two = (whole / "work/groups.md").read_text().split("## heavy")[1].split("\n")[2:6]
    column = heading.split("|").index(" PSNR keep ")
    clips = [psnr_of(whole / "work", name) for name in ("a", "b")]
    assert float(one.split("|")[column]) == pytest.approx(clips[0], abs=0.006)
    assert float(two.split("|")[column]) == pytest.approx(np.mean(clips), abs=0.006)
    (tmp_path / "groups.json").write_text(json.dumps({"one": ["missing"]}))
    with pytest.raises(ValueError, match="not measured \\(missing\\)"):
        run(data, whole / "work", "--groups", tmp_path / "groups.json")


def psnr_of(work: Path, clip: str) -> float:
    lines = (work / "clips.md").read_text().split("## heavy")[1].split("\n")
    row = next(line for line in lines if f"| {clip} " in line)
    return float(row.split("|")[lines[2].split("|").index(" PSNR keep ")])


def test_frames_of_other_programs_get_a_row(data, whole, tmp_path):
    run(data, tmp_path, "--methods", "bicubic", f"folder:copied={whole / 'export'}")
    report = json.loads((tmp_path / "report.json").read_text())["levels"]
    assert report["mild"]["copied"] == report["mild"]["bicubic"]


def test_plots_are_drawn_for_the_measured_metrics(data, whole):
    pytest.importorskip("matplotlib")
    run(data, whole / "work", "--plots", whole / "plots")
    drawn = {path.name for path in (whole / "plots").iterdir()}
    assert drawn == {"profiles.png", "levels.png", "latents.png", "gains.png", "gains.json"}
    gains = json.loads((whole / "plots/gains.json").read_text())["levels"]
    assert set(gains) == {"mild", "heavy"}
    assert 0 < gains["mild"]["p5"] <= gains["mild"]["median"] < 1


# Aborted, resumed, shared between processes


def test_two_processes_write_the_same_tables(data, whole, tmp_path):
    completed = launch(2, "-m", "benchmarks.vfhq_test", *make_arguments(data, tmp_path))
    assert completed.returncode == 0, completed.stderr[-2000:]
    assert tables(tmp_path) == tables(whole / "work")
    # Each result is computed once, and only one process prints the table.
    # (A line of one process may end after a line of the other has begun.)
    assert completed.stdout.count(" restored in ") == 3 * 2 * len(METHODS)
    assert completed.stdout.count("| | PSNR ↑") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_run_is_resumed_with_the_same_tables(data, whole, tmp_path):
    command = [sys.executable, "-m", "benchmarks.vfhq_test", *make_arguments(data, tmp_path)]
    output = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=output) as process:
        while len(results(tmp_path)) < 5 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = results(tmp_path)
    assert 5 <= len(kept) < len(results(whole / "work"))
    assert not (tmp_path / "table.md").exists()
    run(data, tmp_path)
    assert tables(tmp_path) == tables(whole / "work")
    assert results(tmp_path).items() >= kept.items()  # finished results are not computed again


def test_only_missing_results_are_computed(data, tmp_path, capsys):
    run(data, tmp_path, "--methods", "bicubic", "--levels", "mild")
    capsys.readouterr()
    run(data, tmp_path, "--methods", "bicubic", "per-frame", "--levels", "mild")
    computed = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if " restored in " in line]
    assert computed == [f"mild {clip} per-frame" for clip in CLIPS]


def test_results_of_other_settings_or_models_are_refused(data, tmp_path):
    run(data, tmp_path, "--methods", "keep", "--levels", "mild", "--clips", "a")
    with pytest.raises(ValueError, match=r"other settings \(seed\)"):
        run(data, tmp_path, "--methods", "keep", "--levels", "mild", "--seed", "1")
    with pytest.raises(ValueError, match=r"keep\.json was made by"):
        run(data, tmp_path, "--methods", "keep", "--levels", "mild", "--fidelity", "0.5")
