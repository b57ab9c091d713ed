"""Several processes fill one folder: every video is restored once, whoever is killed."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from keep_hf.batch.claims import Claims
from keep_hf.batch.manifest import ALREADY_DONE, FAILED, RESTORED, Manifest
from keep_hf.batch.members import Heartbeat, Watch
from keep_hf.batch.shared_folder import Job, SharedFolder, find_start, record_finished


SCRIPT = Path(__file__).with_name("shared_work.py")


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    return source, target


def start_workers(count: int, folders: tuple[Path, Path]) -> list[subprocess.Popen]:
    command = [sys.executable, str(SCRIPT), *map(str, folders)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(count)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:  # all at once
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return workers


def outcomes(folder: Path) -> list[tuple[str, str]]:
    return sorted((each.target, each.outcome) for each in Manifest(folder).read_new())


def make_jobs(folder: Path, *names: str) -> list[Job]:
    return [Job(folder / "in" / name, folder / name, name) for name in names]


def test_four_processes_restore_every_video_once(folders):
    source, target = folders
    for i in range(40):
        (source / f"{i:02}.mp4").write_text("0.01")
    workers = start_workers(4, folders)
    assert [worker.wait(120) for worker in workers] == [0, 0, 0, 0]
    names = sorted(path.name for path in source.iterdir())
    assert outcomes(target) == [(name, RESTORED) for name in names]
    # Nothing is left of the claims.
    assert sorted(path.name for path in target.iterdir()) == [*names, "keep-hf.jsonl"]
    assert [(target / name).read_text() for name in names] == names
    assert len({each.pid for each in Manifest(target).read_new()}) > 1
    for worker in workers:
        worker.communicate()


def test_the_others_finish_what_a_killed_process_has_left(folders):
    source, target = folders
    for name in ("a", "b", "c"):
        (source / name).write_text("0.3")
    workers = start_workers(3, folders)
    killed = workers[0]
    taken = killed.stdout.readline().strip()
    killed.send_signal(signal.SIGKILL)
    assert [worker.wait(120) for worker in workers] == [-signal.SIGKILL, 0, 0]
    assert outcomes(target) == [("a", RESTORED), ("b", RESTORED), ("c", RESTORED)]
    (finisher,) = [each.pid for each in Manifest(target).read_new() if each.target == taken]
    assert finisher in [worker.pid for worker in workers[1:]]
    assert not (target / ".keep-hf").exists()
    for worker in workers:
        worker.communicate()


def test_a_failed_video_is_not_tried_again_in_the_same_run(tmp_path):
    jobs = make_jobs(tmp_path, "a", "b")
    start = find_start(tmp_path)
    with SharedFolder(tmp_path, jobs, start, resume=False) as folder:
        for job in folder.take_jobs():
            folder.record(job, FAILED if job.name == "a" else RESTORED, reason="broken" if job.name == "a" else None)
    assert folder.num_failed == 1
    with SharedFolder(tmp_path, jobs, start, resume=False) as another:
        assert list(another.take_jobs()) == []
    assert another.num_failed == 1
    # The next run tries it again, and the other one, too.
    with SharedFolder(tmp_path, jobs, find_start(tmp_path), resume=False) as later:
        assert [job.name for job in later.take_jobs() if later.record(job, RESTORED) is None] == ["a", "b"]


def test_results_that_exist_are_finished_for_a_run_that_is_resumed(tmp_path):
    jobs = make_jobs(tmp_path, "a", "b")
    (tmp_path / "a").write_text("done")
    start = find_start(tmp_path)
    for _ in range(2):
        record_finished(tmp_path, jobs, start)
    assert outcomes(tmp_path) == [("a", ALREADY_DONE)]
    with SharedFolder(tmp_path, jobs, start, resume=True) as folder:
        for job in folder.take_jobs():
            assert job.name == "b"
            job.target.write_text("result")
            folder.record(job, RESTORED, seconds=1.5, frames=7)
    (entry,) = [each for each in Manifest(tmp_path).read_new() if each.target == "b"]
    assert (entry.seconds, entry.frames, entry.size, entry.pid) == (1.5, 7, 6, os.getpid())


def test_a_result_whose_process_was_killed_before_it_was_recorded_is_finished(tmp_path):
    jobs = make_jobs(tmp_path, "a")
    with SharedFolder(tmp_path, jobs, 0, resume=True) as folder:
        (tmp_path / "a").write_text("done")
        assert list(folder.take_jobs()) == []
    assert outcomes(tmp_path) == [("a", ALREADY_DONE)]


def test_a_run_joins_the_one_that_is_at_work(tmp_path):
    jobs = make_jobs(tmp_path, "a", "b")
    with SharedFolder(tmp_path, jobs, find_start(tmp_path), resume=False) as first:
        for job in first.take_jobs():
            first.record(job, RESTORED)
            if job.name == "a":
                with SharedFolder(tmp_path, jobs, find_start(tmp_path), resume=False) as second:
                    work = second.take_jobs()
                    second._read_outcomes()
                    assert list(second.outcomes) == ["a"]
                    work.close()
    assert Counter(outcomes(tmp_path)) == {("a", RESTORED): 1, ("b", RESTORED): 1}
    assert find_start(tmp_path) == Manifest(tmp_path).size()


def test_an_interrupted_process_releases_its_claim(tmp_path):
    jobs = make_jobs(tmp_path, "a")
    with pytest.raises(KeyboardInterrupt), SharedFolder(tmp_path, jobs, 0, resume=True) as folder:
        for _ in folder.take_jobs():
            raise KeyboardInterrupt
    assert not (tmp_path / ".keep-hf").exists()
    assert outcomes(tmp_path) == []


def test_the_outcome_is_left_to_the_process_that_took_over(tmp_path):
    """This process was suspended for so long that another machine took it for dead."""
    jobs = make_jobs(tmp_path, "a")
    folder = SharedFolder(tmp_path, jobs, 0, resume=True)
    with folder:
        work = folder.take_jobs()
        job = next(work)
        hidden = tmp_path / ".keep-hf"
        other = Heartbeat(hidden / "processes", 0)
        watch = Watch(hidden / "processes")
        watch.has_ended = lambda name: True
        successor = Claims(hidden / "claims", other, watch).take("a")
        assert successor is not None
        folder.record(job, RESTORED)
        assert outcomes(tmp_path) == []
        # A result that exists is not made again only because this process may not record it.
        job.target.write_text("done")
        assert folder._is_done(job)
    assert not successor.is_lost()
    assert len(list((hidden / "claims").iterdir())) == 1
    successor.release()
    other.close()
