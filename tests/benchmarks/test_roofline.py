"""The roofline: operations are counted completely, and measurements end in time."""

import json
import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import roofline
from benchmarks.roofline import FLOP_FORMULAS, MAX_SECONDS, highest_rate, measure_networks, shortest_time
from keep_hf import KeepPipeline
from keep_hf.benchmark import Setup


CPU = torch.device("cpu")


def test_fast_paths_are_counted_like_the_plain_layers():
    """With gradients linear layers are torch's own, which its counter knows."""
    vq, counts = KeepPipeline.from_pretrained("keep-tiny").vq, []
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS) as counter:
            vq.predict_codes(torch.randn(1, 64, 16, 16))
        counts.append(counter.get_total_flops())
    n, c, layers = 256, 192, 4
    linear = 64 * c + layers * (4 * c * c + 2 * 2 * c * c) + c * 1024
    assert counts == [2 * n * linear + layers * 4 * n * n * c] * 2


def test_a_slow_call_is_measured_once_and_larger_ones_are_left_out():
    calls = []

    def make(side: int):
        def run():
            calls.append(side)
            time.sleep(side)

        return run, 10.0 * side

    assert highest_rate(make, (0.001, 1.1 * MAX_SECONDS, 60.0), CPU) == pytest.approx(10, rel=0.2)
    assert calls.count(1.1 * MAX_SECONDS) == 1
    assert 60.0 not in calls


def test_the_first_call_does_not_count():
    durations = iter([0.2, 0.05, 0.01, 0.05, 0.05, 0.05])
    assert shortest_time(lambda: time.sleep(next(durations)), CPU) < 0.05
    assert next(durations, None) is None


def test_every_part_is_measured_and_reported(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(roofline, "measure_in_process", lambda measure, *arguments: measure(*arguments))
    report = tmp_path / "roofline.json"
    roofline.main(["--device", "cpu", "--people", "2", "--report", str(report)])
    (networks,) = json.loads(report.read_text())["networks"]
    assert networks["parts"].keys() == {"observe", "code transformer", "decoder", "flow", "gains", "predict"}
    for part in networks["parts"].values():
        assert part["gflop"] > 0
        assert part["milliseconds"] > 0
        assert part["share_of_limit"] > 0
    assert "(limit)" in capsys.readouterr().out


def test_a_model_without_gain_network_has_fewer_parts(tmp_path):
    KeepPipeline.from_pretrained("keep-tiny", kalman=None, flow=None).save_pretrained(tmp_path)
    parts = measure_networks(Setup(str(tmp_path), "cpu", "fp32", 1, True, 1))["parts"]
    assert parts.keys() == {"observe", "code transformer", "decoder"}
