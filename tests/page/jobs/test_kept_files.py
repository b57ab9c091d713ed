"""For how long files are kept, also those of a killed process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from job_steps import request, result, wait
from keep_hf.page.jobs import work_folder
from keep_hf.page.jobs.clients import ClientLimits


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
