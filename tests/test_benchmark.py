"""`keep-hf benchmark`: a synthetic video is restored, and every stage is in the result."""

import json

import pytest
import torch

import golden
from keep_hf import benchmark
from keep_hf.benchmark import Setup, Speed, load_pipeline, measure_in_process, measure_video
from keep_hf.cli import main
from keep_hf.models import fast_paths


pytestmark = pytest.mark.slow


def test_a_video_is_restored_with_all_stages():
    speed = measure_in_process(measure_video, Setup("keep-tiny", "cpu", "fp32", 2, False, 6))
    assert speed.people_found == 2
    assert speed.setup.num_frames == 6
    stages = {"decode", "encode", "cuts", "detect", "track", "align", "observe", "flow", "gains", "recursion", "paste"}
    assert speed.milliseconds.keys() == stages | {"total"}
    assert speed.frames_per_second == pytest.approx(1000 / speed.milliseconds["total"])
    inner = sum(speed.milliseconds[stage] for stage in stages - {"decode", "encode"})
    assert 0 < inner < speed.milliseconds["total"]
    assert speed.peak_memory_bytes["host"] > 2**28


@golden.needs_golden
def test_a_published_checkpoint_is_loaded_in_the_requested_type(tmp_path):
    torch.save(golden.tiny_state_dict(), tmp_path / "official.pth")
    pipe = load_pipeline(Setup(str(tmp_path / "official.pth"), "cpu", "bf16", 1, False, 2))
    assert {pipe.vq.dtype, pipe.kalman.dtype, pipe.flow.dtype, pipe.detector.dtype} == {torch.bfloat16}


def test_the_command_prints_a_table_and_writes_a_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "measure_in_process", lambda measure, *arguments: measure(*arguments))
    report = tmp_path / "speed.json"
    assert main(["benchmark", "--device", "cpu", "--frames", "2", "--people", "1", "--report", str(report)]) == 0
    results = json.loads(report.read_text())
    assert [video["aligned"] for video in results["videos"]] == [True, False]
    for video in results["videos"]:
        assert video["people_found"] == 1
        assert video["frames_per_second"] > 0
        assert video["milliseconds"]["recursion"] > 0
    assert results["machine"]["torch"] == torch.__version__
    assert "1 person" in capsys.readouterr().out


def test_slow_bf16_is_reported(capsys, monkeypatch):
    monkeypatch.setattr(fast_paths, "FAST_DTYPES", {torch.float32})
    monkeypatch.setattr(
        benchmark, "measure_in_process", lambda measure, setup: Speed(setup, 1, 1.0, {"total": 1000.0}, {"host": 0})
    )
    for dtype, is_slow in (("bf16", True), ("fp32", False)):
        assert main(["benchmark", "--device", "cpu", "--frames", "1", "--dtype", dtype]) == 0
        assert ("fp32 is faster" in capsys.readouterr().err) == is_slow


def test_a_video_without_people_is_refused(capsys):
    assert main(["benchmark", "--people", "0"]) == 1
    assert "at least 1 person" in capsys.readouterr().err
