"""Restoration on a Ray cluster: the files of one process, whatever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keep_hf import KeepPipeline
from many_scenes import LENGTHS, save_model, write_scenes
from paths import REPOSITORY


ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")
pytestmark = pytest.mark.slow

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
# A lost node is noticed after 10 seconds; by default it takes half a minute.
HEALTH = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 10}


@pytest.fixture(scope="module")
def cluster() -> Iterator["cluster_utils.Cluster"]:
    """Two nodes with one core each. Workers import what the test can import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_raylet_start_wait_time_s", "300")  # on a busy machine 30 seconds are not enough
        nodes = cluster_utils.Cluster(initialize_head=True, head_node_args=NODE | {"_system_config": HEALTH})
        nodes.add_node(**NODE)
        yield nodes
        nodes.shutdown()


class Run:
    """`keep-hf restore --ray`, in a process of its own."""

    def __init__(self, folder: Path, address: str) -> None:
        self.target, self.report = folder / "many.mp4", folder / "many.json"
        self.journal = folder / "many.mp4.journal.jsonl"
        self.command = [sys.executable, "-m", "keep_hf.cli", "restore", str(folder / "in.mp4"), str(self.target)]
        self.command += ["--model", str(folder / "model"), "--ray", address, "--longest-whole", "0"]
        self.command += ["--report", str(self.report)]

    def start(self, *more: str) -> None:
        self.process = subprocess.Popen([*self.command, *more], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)

    def events(self, kind: str) -> list[dict]:
        lines = self.journal.read_bytes().split(b"\n")[:-1] if self.journal.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["event"] == kind]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.05)

    def end(self) -> None:
        _, errors = self.process.communicate()
        assert self.process.returncode == 0, errors


def test_a_worker_a_node_and_the_driver_are_killed(cluster, tmp_path):
    source = write_scenes(tmp_path / "in.mp4")
    pipe = KeepPipeline.from_pretrained(save_model(tmp_path / "model"))
    pipe.set_progress_bar_config(disable=True)
    expected = pipe.restore_video(source, tmp_path / "one.mp4")

    run = Run(tmp_path, cluster.address)
    run.start()
    run.wait_until(lambda: len(run.events("restored")) >= 2)
    worker = run.events("restored")[-1]["worker"]
    os.kill(int(worker.split(":")[1]), signal.SIGKILL)
    run.wait_until(lambda: len(run.events("lost")) >= 1 and len(run.events("restored")) >= 4)
    run.process.kill()
    run.process.communicate()
    assert not run.target.exists()

    run.start("--resume")
    run.wait_until(lambda: len(run.events("restored")) >= 6)
    node = cluster.list_all_nodes()[-1]
    cluster.remove_node(node, allow_graceful=False)
    run.end()

    assert run.target.read_bytes() == (tmp_path / "one.mp4").read_bytes()
    report = json.loads(run.report.read_text())
    for name in ("frames", "scenes", "tracks", "recognized_by", "size", "frame_rate", "damaged_frames"):
        assert report[name] == expected[name], name
    counts = Counter(event["number"] for event in run.events("restored"))
    assert counts == dict.fromkeys(range(len(LENGTHS)), 1)
    assert len(run.events("planned")) == len(run.events("finished")) == 1
    assert {path.name for path in tmp_path.iterdir()} >= {"many.mp4", "many.mp4.journal.jsonl"}
    assert not list(tmp_path.glob("many.mp4.[ps]*"))
    print(Counter(event["worker"] for event in run.events("restored")), len(run.events("lost")), "lost")
