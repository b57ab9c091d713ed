"""For how long files are kept, also those of a killed process."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from job_steps import SECONDS, request, result, wait
from keep_hf.page.backend import RESTORING
from keep_hf.page.jobs import work_folder
from keep_hf.page.jobs.clients import ClientLimits, Clients, QueueFullError
from keep_hf.page.requests import RestorationRequest
from keep_hf.page.results.restore_several import RestoredVideos, restore_several
from portraits import write_people


pytest_plugins = ["page_fixtures", "job_fixtures"]


def test_results_are_kept_for_a_time(start, clips):
    service = start(client_limits=ClientLimits(seconds=2), seconds_between=0.1)
    session = service.open_session("me")
    video = service.add_video(clips["one"])
    part = result(session.restore(request(video)))
    assert part.after.is_file()
    deadline = time.monotonic() + 120
    while list((service.folder / "videos").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    service.delete_old(2)
    assert not part.after.exists()
    assert session.view().restoration is None
    assert session.view().is_expired
    with pytest.raises(ValueError, match="no such session any more"):
        service.find_session(session.id)
    late = service.open_session("me").restore(request(video))
    assert "The video was deleted" in wait(late).error


def test_what_is_kept_counts_as_used_now(start, clips, tmp_path):
    service = start()
    upload = Path(shutil.copyfile(clips["one"], tmp_path / "upload.mp4"))
    kept, unused = (service.open_session("me") for _ in range(2))
    job = service.submit("me", request(service.add_video(upload)))
    job.keep()
    assert job.view().seconds_ended is None
    service.cancel(job)
    assert job.stopped.wait(120)
    before = upload.stat()
    time.sleep(1)
    for keep in (kept.keep, job.keep, lambda: service.add_video(upload)):
        keep()
    after = upload.stat()
    assert job.view().seconds_ended < 1
    service.delete_old(1)
    assert service.has_session(kept.id)
    assert not service.has_session(unused.id)
    assert after.st_ctime_ns - before.st_ctime_ns >= 1e9  # by which gradio deletes uploads
    assert after.st_mtime_ns == before.st_mtime_ns  # the file is still known by it


def test_an_open_page_keeps_its_upload(start, clips, tmp_path):
    """It asks for the state of the session, which uses the video; the next click sends the upload again."""
    service = start()
    uploads = [Path(shutil.copyfile(clips[name], tmp_path / f"{name}.mp4")) for name in ("one", "two")]
    used, _ = (service.add_video(upload) for upload in uploads)
    service.delete_old(100)
    before = [upload.stat().st_ctime_ns for upload in uploads]
    time.sleep(0.1)
    service.describe(used)
    service.delete_old(100)
    after = [upload.stat().st_ctime_ns for upload in uploads]
    assert after[0] > before[0]
    assert after[1] == before[1]


def test_a_job_that_waits_for_long_keeps_its_video(start, clips, held_phases):
    service = start()
    held_phases.add(RESTORING)
    videos = [service.add_video(clips[name]) for name in ("one", "two")]
    first, waiting = (service.submit("me", request(video)) for video in videos)
    time.sleep(0.1)
    service.delete_old(0.1)
    service.cancel(first)
    held_phases.clear()
    assert result(waiting).num_frames == round(SECONDS * 10)


def test_a_long_batch_keeps_uploads_and_results(start, tmp_path, monkeypatch):
    """The second video finds the queue full for longer than anything is kept; the third one waits for its turn."""
    accepted, is_full = [], True

    def check(self: Clients, client: str, unfinished: list[str]) -> None:
        if accepted and is_full:
            raise QueueFullError("full")
        accepted.append(client)

    monkeypatch.setattr(Clients, "check_places", check)
    service = start()
    videos = [write_people(tmp_path / f"{number}.mp4", 3 + number, num_people=1) for number in range(3)]
    steps = restore_several(service, "me", videos, RestorationRequest(strength=1.0))
    while "2 of 3, 1.mp4: Waiting for a place in the queue" not in next(steps).phase:
        pass
    before = videos[2].stat()
    time.sleep(1)
    next(steps)
    service.delete_old(1)
    assert len(list((service.folder / "videos").iterdir())) == 1  # that of the second video
    assert videos[2].stat().st_ctime_ns - before.st_ctime_ns >= 1e9  # by which gradio deletes uploads
    is_full = False
    *_, results = steps
    assert isinstance(results, RestoredVideos)
    assert (results.num_videos, results.failures) == (3, ())


SCRIPT = """
import runpy, sys, time
from pathlib import Path
work = runpy.run_path(sys.argv[1])["WorkFolder"](Path(sys.argv[2]))  # without the imports of the page, for speed
(work.path / "upload.mp4").write_bytes(bytes(1000))
print(work.path, flush=True)
time.sleep(600)
"""


def test_a_killed_process_leaves_nothing_for_long(start, tmp_path):
    work = tmp_path / "work"
    command = [sys.executable, "-c", SCRIPT, work_folder.__file__, str(work)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = [Path(process.stdout.readline().strip()) for process in processes]
    try:
        os.kill(processes[0].pid, signal.SIGKILL)
        processes[0].wait()
        service = start()
        assert not folders[0].exists()
        assert (folders[1] / "upload.mp4").is_file()  # its process runs
        assert service.folder.is_dir()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    start()
    assert not folders[1].exists()
    assert service.folder.is_dir()
