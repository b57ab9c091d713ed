"""The roofline: operations are counted completely, and measurements end in time."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import roofline
from benchmarks.roofline import FLOP_FORMULAS, MAX_SECONDS, highest_rate, measure_networks, shortest_time
from keep_hf import KeepPipeline
from keep_hf.benchmark import Setup


pytestmark = pytest.mark.slow


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


class Clock:
    """Stands in for the module `time`: a call takes as long as it says."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(roofline, "time", clock)
    return clock


def test_larger_sizes_are_left_out_after_a_slow_one(clock):
    calls = []

    def make(side: int):
        def run():
            calls.append(side)
            clock.sleep(side / 100)

        return run, 1000.0 * side**2

    # A side of 10 takes 0.1 s, one of 100 takes 1 s: more operations per second, but one call only, and the last size.
    assert highest_rate(make, (10, 100, 1000), CPU) == pytest.approx(1000 * 100**2)
    assert calls == [10] * 6 + [100]
    assert clock.now < 2 * MAX_SECONDS


def test_the_first_call_does_not_count_if_others_follow(clock):
    durations = iter([0.01, 0.3, 0.2, 0.3, 0.3])
    assert shortest_time(lambda: clock.sleep(next(durations)), CPU) == pytest.approx(0.2)
    assert list(durations) == []  # all calls together take 1 s
    assert shortest_time(lambda: clock.sleep(5), CPU) == pytest.approx(5)


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
