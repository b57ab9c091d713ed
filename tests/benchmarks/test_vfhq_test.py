"""The benchmark of the paper run as a person runs it, on made clips and a tiny model: methods, tables, resuming."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import analyses, methods
from conftest import make_clip, make_components
from keep_hf import KeepPipeline
from keep_hf.evaluation.metrics import psnr
from keep_hf.models.kalman import KalmanGainNetwork
from keep_hf.video.image_folder import ImageFolderReader, ImageFolderWriter
from paths import REPOSITORY
from processes import launch, run_module


SIZE, FRAMES, CLIPS = 128, 4, ("a", "b", "c")
VARIANTS = ("keep", "official", "no-kfn", "no-update", "no-cfa", "per-frame", "dis")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with a tiny model and three clips of aligned "faces"."""
    folder = tmp_path_factory.mktemp("data")
    # Windows of two frames: `official` starts anew within the clips.
    KeepPipeline(**make_components(), gain_window=2).save_pretrained(folder / "model")
    (folder / "clips").mkdir()
    for seed, name in enumerate(CLIPS):
        with ImageFolderWriter(folder / "clips" / name, width=SIZE, height=SIZE) as writer:
            for image in make_clip(FRAMES, SIZE, SIZE, seed):
                writer.write(image)
    return folder


def arguments(data: Path, work: Path, *more) -> list[str]:
    options = ("--videos", data / "clips", "--model", data / "model", "--aligned", "--device", "cpu", "--work", work)
    names = () if "--methods" in more else ("--methods", "bicubic", *VARIANTS)
    levels = () if "--levels" in more else ("--levels", "mild", "heavy")
    return [str(argument) for argument in ("benchmarks.vfhq_test", *options, *names, *levels, *more)]


def run(data: Path, work: Path, *more) -> subprocess.CompletedProcess:
    return run_module(*arguments(data, work, *more))


def tables(work: Path) -> dict[str, str]:
    return {name: (work / name).read_text() for name in ("table.md", "clips.md", "report.json")}


def results(work: Path) -> dict[Path, int]:
    """When each result was written, by its place."""
    files = (work / "results").glob("*/*/*.json")
    return {file.relative_to(work): file.stat().st_mtime_ns for file in files}


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """What one run in peace gives."""
    folder = tmp_path_factory.mktemp("whole")
    done = run(data, folder / "work", "--export", folder / "export", "--strips", folder / "strips")
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


# The tables


def test_table_has_a_row_for_each_method_and_a_group_for_each_level(whole):
    lines = (whole / "work/table.md").read_text().splitlines()
    assert lines[0] == "| | mild | | | heavy | | |"
    assert lines[2] == "| | PSNR ↑ | SSIM ↑ | Flicker ↓ | PSNR ↑ | SSIM ↑ | Flicker ↓ |"
    rows = ("bicubic", *VARIANTS)
    assert [line.split(" | ")[0] for line in lines[3 : 3 + len(rows)]] == [f"| {name}" for name in rows]
    assert len({line.count("|") for line in lines[:10]}) == 1
    for label in ("LPIPS", "IDS", "AKD"):
        assert any(line.startswith(f"Not measured: {label}, which needs") for line in lines)


def test_figures_are_those_of_the_exported_pictures(whole):
    report = json.loads((whole / "work/report.json").read_text())
    means = []
    for clip in CLIPS:
        truth, degraded = (
            [frame.image for frame in ImageFolderReader(whole / "export" / part / clip)] for part in ("truth", "heavy")
        )
        # 128 to 64 by area: the mean of squares of 2 x 2 pixels.
        small = [
            [np.rint(frame.reshape(64, 2, 64, 2, 3).mean((1, 3)) - 1e-9).astype(np.uint8) for frame in frames]
            for frames in (truth, degraded)
        ]
        means.append(np.mean([psnr(frame, sharp) for sharp, frame in zip(*small, strict=True)]))
    assert report["levels"]["heavy"]["bicubic"]["mean"]["psnr"] == pytest.approx(np.mean(means), abs=0.02)
    rows = (whole / "work/clips.md").read_text().split("## heavy")[1].splitlines()
    assert [float(row.split(" | ")[2]) for row in rows[4:7]] == pytest.approx(means, abs=0.03)


def test_heavier_degradation_measures_worse(whole):
    report = json.loads((whole / "work/report.json").read_text())["levels"]
    assert report["heavy"]["bicubic"]["mean"]["psnr"] < report["mild"]["bicubic"]["mean"]["psnr"] - 1


def test_strips_show_all_methods_and_the_truth(whole):
    strips = sorted((whole / "strips").iterdir())
    assert [strip.name for strip in strips] == [f"{level}_{clip}.jpg" for level in ("heavy", "mild") for clip in CLIPS]
    from PIL import Image

    assert Image.open(strips[0]).size == (FRAMES * 64, (len(VARIANTS) + 2) * 64)


def test_groups_are_means_of_their_clips(data, whole, tmp_path):
    (tmp_path / "groups.json").write_text(json.dumps({"one": ["a"], "two": ["a", "b"]}))
    done = run(data, whole / "work", "--groups", tmp_path / "groups.json")
    assert done.returncode == 0, done.stderr[-2000:]
    heading, _, one, two = (whole / "work/groups.md").read_text().split("## heavy")[1].split("\n")[2:6]
    column = heading.split("|").index(" PSNR keep ")
    clips = [psnr_of(whole / "work", name) for name in ("a", "b")]
    assert float(one.split("|")[column]) == pytest.approx(clips[0], abs=0.006)
    assert float(two.split("|")[column]) == pytest.approx(np.mean(clips), abs=0.006)
    (tmp_path / "groups.json").write_text(json.dumps({"one": ["nobody"]}))
    assert "nobody" in run(data, whole / "work", "--groups", tmp_path / "groups.json").stderr


def psnr_of(work: Path, clip: str) -> float:
    lines = (work / "clips.md").read_text().split("## heavy")[1].split("\n")
    row = next(line for line in lines if f"| {clip} " in line)
    return float(row.split("|")[lines[2].split("|").index(" PSNR keep ")])


def test_frames_of_other_programs_get_a_row(data, whole, tmp_path):
    copied = f"folder:copied={whole / 'export'}"
    done = run(data, tmp_path, "--methods", "bicubic", copied)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / "report.json").read_text())["levels"]
    assert report["mild"]["copied"] == report["mild"]["bicubic"]


# Stopped, gone on with, shared out


def test_two_processes_give_the_same_tables(data, whole, tmp_path):
    done = launch(2, "-m", *arguments(data, tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    assert tables(tmp_path) == tables(whole / "work")
    # Each result was made once, and the table printed by one process only.
    # (A line of one process may end after that of the other has begun.)
    assert done.stdout.count(" restored in ") == 3 * 2 * (len(VARIANTS) + 1)
    assert done.stdout.count("| | PSNR ↑") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_and_resumed_gives_the_same_tables(data, whole, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", *arguments(data, tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while len(results(tmp_path)) < 5 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = results(tmp_path)
    assert 5 <= len(kept) < len(results(whole / "work"))
    assert not (tmp_path / "table.md").exists()
    done = run(data, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert tables(tmp_path) == tables(whole / "work")
    assert results(tmp_path).items() >= kept.items()  # what was done is not done again


def test_only_what_is_missing_is_made(data, tmp_path):
    assert run(data, tmp_path, "--methods", "bicubic", "--levels", "mild").returncode == 0
    done = run(data, tmp_path, "--methods", "bicubic", "per-frame", "--levels", "mild")
    made = [line.split(":")[0] for line in done.stdout.splitlines() if " restored in " in line]
    assert made == [f"mild {clip} per-frame" for clip in CLIPS]


def test_results_of_other_settings_or_models_are_refused(data, whole, tmp_path):
    assert run(data, tmp_path, "--methods", "keep", "--levels", "mild").returncode == 0
    done = run(data, tmp_path, "--methods", "keep", "--levels", "mild", "--seed", "1")
    assert done.returncode != 0 and "other settings (seed)" in done.stderr
    done = run(data, tmp_path, "--methods", "keep", "--levels", "mild", "--fidelity", "0.5")
    assert done.returncode != 0 and "keep.json was made by" in done.stderr


# The methods


def clip_of():
    return methods.DegradedClip("a", "mild", make_clip(FRAMES, 32, 32), 25.0)


def load(data: Path, *names: str) -> dict[str, np.ndarray]:
    pipe = KeepPipeline.from_pretrained(data / "model")
    clip = clip_of()
    return {method.name: method.restore(clip) for method in methods.load_methods(list(names), pipe)}


def test_variants_differ_where_they_should(data):
    made = load(data, *VARIANTS)
    for name, faces in made.items():
        assert faces.shape == (FRAMES, 64, 64, 3) and faces.dtype == np.uint8
        # Nothing is known before the first frame, and the gain network has no say in it.
        assert np.abs(faces[0].astype(int) - made["keep"][0]).max() <= 1, name
    for name in VARIANTS[1:]:
        assert not np.array_equal(made[name], made["keep"]), name


def test_without_kfn_is_a_gain_of_zero_and_no_update_of_features(data):
    class NoGain(KalmanGainNetwork):
        def forward(self, observed):
            return observed.new_zeros(*observed.shape[:2], 1, *observed.shape[3:])

    pipe = KeepPipeline.from_pretrained(data / "model")
    kalman = NoGain.from_config(pipe.kalman.config)
    vq = methods._without(pipe.vq, "feature_update")
    zero = KeepPipeline(vq=vq, flow=pipe.flow, kalman=kalman)
    zero.set_progress_bar_config(disable=True)
    expected = zero(clip_of().frames, aligned=True, output_type="np").frames[0] * 255
    assert np.abs(load(data, "no-kfn")["no-kfn"] - expected).max() < 1.5


def test_per_frame_is_each_frame_as_a_clip_of_its_own(data):
    pipe = KeepPipeline.from_pretrained(data / "model")
    pipe.set_progress_bar_config(disable=True)
    frames = clip_of().frames
    alone = [pipe(frame[None], aligned=True, output_type="np").frames[0, 0] * 255 for frame in frames]
    assert np.abs(load(data, "per-frame")["per-frame"] - np.stack(alone)).max() < 1.5


def test_dis_in_clips_is_dis_on_pairs():
    frames = torch.rand(2, 3, 3, 32, 48) * 2 - 1
    flow = methods.ClipDISFlow()
    flows = flow.flow_between_frames(frames)
    assert flows.shape == (2, 2, 2, 32, 48)
    assert torch.equal(flows[1, 1], flow(frames[1:, 2], frames[1:, 1])[0])
    assert flow.flow_between_frames(frames[:, :1]).shape == (2, 0, 2, 32, 48)


def test_codeformer_is_used_with_its_own_fidelity(data, tmp_path):
    pipe = KeepPipeline.from_pretrained(data / "model")
    KeepPipeline(vq=methods._without(pipe.vq, "cross_frame")).save_pretrained(tmp_path)
    (method,) = methods.load_methods(["codeformer"], pipe, fidelity=1.0, codeformer=tmp_path)
    clip = clip_of()
    (half,) = methods.load_methods(["per-frame"], pipe, fidelity=0.5)
    assert np.array_equal(method.restore(clip), half.restore(clip))
    with pytest.raises(ValueError, match="is a KEEP model"):
        methods.load_methods(["codeformer"], pipe, codeformer=data / "model")


def test_single_frame_networks_get_512_pixels_from_0_to_1():
    class Inverse:
        device = torch.device("cpu")

        def __call__(self, image):
            assert image.shape == (1, 3, 512, 512) and image.min() >= 0 and image.max() <= 1
            return 1 - image

    face = np.full((32, 32, 3), (10, 100, 200), np.uint8)
    restored = methods.FaceRestorerNetwork(Inverse())(face)
    assert restored.shape == (512, 512, 3)
    assert np.array_equal(restored[100, 100], (245, 155, 55))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["keeep"], "no method 'keeep'"),
        (["keep", "keep"], "names of their own"),
        (["codeformer"], "keep-hf convert"),
        (["folder:x=/nowhere/at/all"], "no folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(data, names, told):
    with pytest.raises(ValueError, match=told):
        load(data, *names)


def test_without_spandrel_it_says_so(data, monkeypatch):
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install spandrel"):
        load(data, "spandrel:GFPGAN.pth")


# The analyses


@pytest.mark.parametrize("degrees", [-40, 0, 25])
def test_yaw_of_a_turned_head(degrees):
    head = np.zeros((68, 3))  # x to the right, y down, z to the viewer
    head[analyses.EYE_LEFT], head[analyses.EYE_RIGHT] = (-1, 0, 0), (1, 0, 0)
    head[analyses.NOSE] = (0, 0.8, 2 * analyses.NOSE_HEIGHT)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = head @ np.array([(cos, 0, -sin), (0, 1, 0), (sin, 0, cos)])
    rolled = turned[:, :2] @ np.array([(0.8, 0.6), (-0.6, 0.8)]) * 90 + 250
    assert analyses.estimate_yaw(rolled[None]) == pytest.approx([degrees])


def test_latents_of_a_frame(data):
    pipe = KeepPipeline.from_pretrained(data / "model")
    study = analyses.study_latents(pipe, clip_of(), 1.0)
    assert list(study.pictures) == ["input", "predicted", "observed", "fused", "output"]
    assert study.gains.shape == (1, 16, 16)  # a window of two frames, of which the first has none
    (official,) = methods.load_methods(["official"], pipe)
    assert np.array_equal(study.pictures["output"], official.restore(clip_of())[1])


def test_plots_are_drawn_for_what_was_measured(data, whole):
    pytest.importorskip("matplotlib")
    done = run(data, whole / "work", "--plots", whole / "plots")
    assert done.returncode == 0, done.stderr[-2000:]
    drawn = {path.name for path in (whole / "plots").iterdir()}
    assert drawn == {"profiles.png", "levels.png", "latents.png", "gains.png", "gains.json"}
    gains = json.loads((whole / "plots/gains.json").read_text())["levels"]
    assert set(gains) == {"mild", "heavy"} and 0 < gains["mild"]["p5"] <= gains["mild"]["median"] < 1
