"""`keep-hf restore FOLDER OUT`: processes share the work, and the manifest has every outcome."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from accelerate import PartialState

from conftest import SIZE, make_clip, make_components
from keep_hf import FaceDetector, KeepPipeline, VideoReader
from keep_hf.cli import main
from keep_hf.models.recursion import KalmanRecursion
from keep_hf.video.part_folder import has_saved_work
from media import write_clip
from processes import launch


pytestmark = pytest.mark.slow

# `keep-hf` with short segments, so that there is work to resume soon.
SHORT_SEGMENTS = """
from keep_hf import KeepPipeline
from keep_hf.cli import main
KeepPipeline.restore_video.__kwdefaults__["segment_frames"] = 20
main()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A folder with a tiny pipeline, whose detector finds no faces."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    detector = FaceDetector(block_out_channels=(4, 4, 8, 8, 8), neck_channels=8, close_up_channels=(4, 4, 8, 8))
    KeepPipeline(**make_components(), detector=detector, gain_window=4).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def fresh_state():
    PartialState._reset_state()
    yield
    PartialState._reset_state()


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def write_videos(folder: Path, **num_frames: int) -> None:
    for seed, (name, count) in enumerate(num_frames.items()):
        write_clip(folder / f"{name}.mp4", images=list(make_clip(count, SIZE, SIZE, seed)))


def run(source: Path, target: Path, model: str, *options: str) -> int:
    PartialState._reset_state()
    return main(["restore", str(source), str(target), "--model", model, "--aligned", "--device", "cpu", *options])


def outcomes(folder: Path) -> list[tuple[str, str]]:
    return [(line["target"], line["outcome"]) for line in manifest(folder)]


def manifest(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "keep-hf.jsonl").read_text().splitlines()]


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.mp4")}


def test_the_manifest_has_every_outcome(model, source, tmp_path, capsys):
    write_videos(source, a=2, b=6)
    (source / "bad.mp4").write_text("no video")
    target = tmp_path / "out"
    assert run(source, target, model) == 1
    assert "1 of 3 videos failed." in capsys.readouterr().err.splitlines()[-1]
    first, second, failed = manifest(target)
    assert (first["target"], first["outcome"], first["frames"]) == ("b.mp4", "restored", 6)  # the longest first
    assert (second["target"], second["outcome"], second["frames"]) == ("a.mp4", "restored", 2)
    assert first["size"] == (target / "b.mp4").stat().st_size
    assert first["seconds"] > 0
    assert (first["reason"], first["pid"], first["source"]) == (None, os.getpid(), str(source / "b.mp4"))
    assert (failed["target"], failed["outcome"], failed["size"]) == ("bad.mp4", "failed", 0)
    assert "is not a video" in failed["reason"]


def test_a_video_without_faces_is_recorded_as_such(model, source, tmp_path):
    write_videos(source, a=2)
    assert main(["restore", str(source), str(tmp_path / "out"), "--model", model]) == 0
    assert outcomes(tmp_path / "out") == [("a.mp4", "no faces")]


def test_resuming_a_folder_skips_finished_videos(model, source, tmp_path):
    write_videos(source, a=2, b=2)
    target = tmp_path / "out"
    assert run(source, target, model, "--resume") == 0
    (target / "a.mp4").write_bytes(b"done")
    (target / "b.mp4").unlink()
    assert run(source, target, model, "--resume") == 0
    assert (target / "a.mp4").read_bytes() == b"done"
    with VideoReader(target / "b.mp4") as reader:
        assert len(list(reader)) == 2
    assert outcomes(target)[2:] == [("a.mp4", "already done"), ("b.mp4", "restored")]
    # Without --resume all are restored again.
    assert run(source, target, model) == 0
    assert [outcome for _, outcome in outcomes(target)[4:]] == ["restored", "restored"]
    assert (target / "a.mp4").read_bytes() != b"done"


def test_an_interrupted_run_reports_what_it_has_done(model, source, tmp_path, monkeypatch):
    write_videos(source, long=4, short=2)
    restore_video = KeepPipeline.restore_video

    def interrupt(self, video, *args, **options):
        if Path(video).name == "short.mp4":
            raise KeyboardInterrupt
        return restore_video(self, video, *args, **options)

    monkeypatch.setattr(KeepPipeline, "restore_video", interrupt)
    assert run(source, tmp_path / "out", model, "--report", str(tmp_path / "report.json")) == 1
    reports = json.loads((tmp_path / "report.json").read_text())
    assert [Path(report["source"]).name for report in reports] == ["long.mp4"]


def test_two_ranks_and_another_run_restore_every_video_once(model, source, tmp_path):
    write_videos(source, a=12, b=8, c=4, d=2, e=2, f=2)
    (source / "bad.mp4").write_text("no video")
    expected, target, report = tmp_path / "expected", tmp_path / "out", tmp_path / "report.json"
    assert run(source, expected, model) == 1
    command = ["-m", "keep_hf.cli", "restore", source, target, "--model", model, "--aligned", "--device", "cpu"]
    ranks = []
    thread = threading.Thread(target=lambda: ranks.append(launch(2, *command, "--resume", "--report", report)))
    thread.start()
    while not (target / ".keep-hf").exists():
        assert thread.is_alive()
        time.sleep(0.01)
    assert run(source, target, model, "--resume") == 1
    thread.join()
    assert ranks[0].returncode == 1
    assert "1 of 7 videos failed." in ranks[0].stderr
    # The run that came second may have found results that were finished, and may have tried the broken file again.
    done = sorted(target for target, outcome in outcomes(target) if outcome == "restored")
    assert done == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "f.mp4"]
    assert results(target) == results(expected)
    assert not (target / ".keep-hf").exists()
    # Every process has a report of its own videos.
    shares = [json.loads((tmp_path / f"report-{i}.json").read_text()) for i in range(2)]
    others = [line for line in manifest(target) if line["outcome"] == "restored" and line["pid"] != os.getpid()]
    assert sum(map(len, shares)) == len(others)


def test_the_work_of_a_killed_process_is_resumed_by_another(model, source, tmp_path, monkeypatch):
    monkeypatch.setitem(KeepPipeline.restore_video.__kwdefaults__, "segment_frames", 20)
    write_videos(source, long=80, short=2)
    target = tmp_path / "out"
    command = [sys.executable, "-c", SHORT_SEGMENTS, "restore", source, target, "--model", model, "--aligned"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([*map(str, command), "--device", "cpu", "--resume"], env=environment) as process:
        while not has_saved_work(target / "long.mp4"):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert list((target / ".keep-hf" / "claims").iterdir())
    steps = []
    step = KalmanRecursion.step

    def count(self, *args, **options):
        steps.append(None)
        return step(self, *args, **options)

    monkeypatch.setattr(KalmanRecursion, "step", count)
    assert run(source, target, model, "--resume") == 0
    assert len(steps) < 80 + 2 - 20 + 1
    assert outcomes(target) == [("long.mp4", "restored"), ("short.mp4", "restored")]
    assert run(source / "long.mp4", tmp_path / "long.mp4", model) == 0
    assert (target / "long.mp4").read_bytes() == (tmp_path / "long.mp4").read_bytes()
    assert not (target / ".keep-hf").exists()
