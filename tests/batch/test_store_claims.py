"""Machines that share nothing but a bucket: each video is restored once, whichever machine is lost."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keep_hf.batch.manifest import RESTORED
from keep_hf.batch.members import Watch
from keep_hf.batch.remote_file import RemoteFile
from keep_hf.batch.shared_folder import Job, SharedFolder, find_start
from keep_hf.batch.store_claims import StoreClaims
from stores import memory, s3, s3_server


pytestmark = pytest.mark.slow
__all__ = ["memory", "s3", "s3_server"]

ROOT = RemoteFile("s3", "bucket/out")


def claims(tmp_path: Path, machine: str, patience: float = 60.0) -> StoreClaims:
    return StoreClaims(ROOT, machine, Watch(tmp_path, patience))


def test_two_machines_with_two_processes_each_restore_every_video_once(s3, tmp_path):
    names = [f"{i:02}.mp4" for i in range(10)]
    restored: list[str] = []
    start = threading.Barrier(4)

    def work(machine: str) -> None:
        folder = tmp_path / machine
        folder.mkdir(exist_ok=True)
        jobs = [Job(tmp_path / name, RemoteFile("s3", f"{ROOT.path}/{name}"), name) for name in names]
        shared = SharedFolder(folder, jobs, find_start(folder), resume=True)
        start.wait()
        with shared:
            for job in shared.take_jobs():
                restored.append(job.name)
                time.sleep(0.02)
                job.target.write(b"restored")
                shared.record(job, RESTORED)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, ["a", "a", "b", "b"]))
    assert Counter(restored) == Counter(names)
    assert sorted(s3.find("bucket")) == [f"bucket/out/{name}" for name in names]


def test_a_machine_that_shows_life_keeps_its_claim(s3, tmp_path):
    with claims(tmp_path, "first") as first, claims(tmp_path, "second", patience=0.3) as second:
        assert first.take("a.mp4")
        for _ in range(4):
            assert not second.take("a.mp4")
            time.sleep(0.2)
            first._show_life()
        first.release("a.mp4")
        time.sleep(5.1)  # the age of the list of claims
        assert second.take("a.mp4")


def test_the_claim_of_a_lost_machine_is_taken_over_by_one_other(s3, tmp_path):
    lost = claims(tmp_path, "lost")
    lost._show_life()
    assert lost.take("a.mp4")
    others = [claims(tmp_path, name, patience=0.2) for name in ("second", "third")]
    assert [each.take("a.mp4") for each in others] == [False, False]
    time.sleep(0.3)
    assert sorted(each.take("a.mp4") for each in others) == [False, True]
    # After a restart, the lost machine finds that it has lost the video.
    assert not claims(tmp_path, "lost").take("a.mp4")


def test_a_machine_takes_its_own_claim_after_a_crash(s3, tmp_path):
    assert claims(tmp_path, "first").take("a.mp4")
    assert claims(tmp_path, "first").take("a.mp4")


def test_an_interrupted_machine_leaves_nothing_in_the_store(memory, tmp_path):
    job = Job(tmp_path / "a.mp4", RemoteFile("memory", "bucket/out/a.mp4"), "a.mp4")
    with pytest.raises(KeyboardInterrupt), SharedFolder(tmp_path, [job], 0, resume=True) as shared:
        for _ in shared.take_jobs():
            assert len(memory.find("bucket")) == 2  # the claim and the sign of life
            raise KeyboardInterrupt
    assert memory.find("bucket") == []


def test_a_store_that_fails_at_the_start_leaves_no_sign_of_life(memory, tmp_path, monkeypatch):
    def fail(self, content):
        raise OSError(f"{self} cannot be reached.")

    monkeypatch.setattr(RemoteFile, "create", fail)
    job = Job(tmp_path / "a.mp4", RemoteFile("memory", "bucket/out/a.mp4"), "a.mp4")
    shared = SharedFolder(tmp_path / "work", [job], 0, resume=True)
    with pytest.raises(OSError, match="cannot be reached"), shared:
        raise AssertionError("it must not be entered")
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("keep-hf")] == []
    assert not (tmp_path / "work" / ".keep-hf").exists()
    assert memory.find("bucket") == []


def test_a_store_without_conditional_writes_is_named(memory, tmp_path, monkeypatch):
    root = RemoteFile("memory", "bucket/out")
    monkeypatch.setattr(RemoteFile, "create", lambda self, content: self.write(content) or True)
    with (
        pytest.warns(UserWarning, match="do not let two machines write to it at the same time"),
        StoreClaims(root, "first", Watch(tmp_path)),
    ):
        pass
