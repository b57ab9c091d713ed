"""The benchmark measures what it says: the film is restored, nothing is left out of the count."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import golden
from keep_hf import KeepPipeline
from keep_hf.benchmark import MORE_FLOPS, Setup, load, measure_apart, measure_film, measure_networks
from keep_hf.cli import main


def test_a_film_is_restored_with_all_its_stages():
    film = measure_apart(measure_film, Setup("keep-tiny", "cpu", "fp32", 2, False, 6))
    assert film["found"] == 2 and film["num_frames"] == 6 and film["model"] == "keep-tiny"
    stages = {"decode", "encode", "cuts", "detect", "track", "align", "observe", "flow", "gains", "recursion", "paste"}
    assert film["ms"].keys() == stages | {"all"}
    assert film["fps"] == pytest.approx(1000 / film["ms"]["all"])
    inner = sum(film["ms"][stage] for stage in stages - {"decode", "encode"})
    assert 0 < inner < film["ms"]["all"]
    assert film["peak_memory_bytes"]["host"] > 2**28


@golden.needs_golden
def test_a_published_checkpoint_is_measured_in_the_precision_asked_for(tmp_path):
    torch.save(golden.tiny_state_dict(), tmp_path / "official.pth")
    pipe = load(Setup(str(tmp_path / "official.pth"), "cpu", "bf16", 1, False, 2))
    assert {pipe.vq.dtype, pipe.kalman.dtype, pipe.flow.dtype, pipe.detector.dtype} == {torch.bfloat16}


def test_the_short_way_is_counted_as_the_plain_one():
    """With gradients linear layers are torch's own, which its counter knows."""
    vq, counts = KeepPipeline.from_pretrained("keep-tiny").vq, []
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), FlopCounterMode(display=False, custom_mapping=MORE_FLOPS) as counter:
            vq.predict_codes(torch.randn(1, 64, 16, 16))
        counts.append(counter.get_total_flops())
    n, c, layers = 256, 192, 4
    linear = 64 * c + layers * (4 * c * c + 2 * 2 * c * c) + c * 1024
    assert counts == [2 * n * linear + layers * 4 * n * n * c] * 2


def test_the_command_prints_and_reports(tmp_path, capsys):
    report = tmp_path / "speed.json"
    options = ["--frames", "2", "--people", "1", "--dtype", "bf16", "--report", str(report)]
    assert main(["benchmark", "--device", "cpu", *options]) == 0
    results = json.loads(report.read_text())
    assert [film["aligned"] for film in results["films"]] == [True, False]
    (networks,) = results["networks"]
    assert networks["parts"].keys() == {"observe", "code transformer", "decoder", "flow", "gains", "predict"}
    for part in networks["parts"].values():
        assert part["gflop"] > 0 and part["reached"] > 0
    assert results["machine"]["torch"] == torch.__version__
    printed = capsys.readouterr().out
    assert "1 person" in printed and "(limit)" in printed


def test_nobody_is_refused(capsys):
    assert main(["benchmark", "--people", "0"]) == 1
    assert "0" in capsys.readouterr().err


def test_a_model_without_gains_has_fewer_parts(tmp_path):
    pipe = KeepPipeline.from_pretrained("keep-tiny", kalman=None, flow=None)
    pipe.save_pretrained(tmp_path)
    parts = measure_networks(Setup(str(tmp_path), "cpu", "fp32", 1, True, 1))["parts"]
    assert parts.keys() == {"observe", "code transformer", "decoder"}
