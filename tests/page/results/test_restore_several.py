"""Several videos at once, as jobs and in a browser."""

import json
import re
import time
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from accessibility import find_violations
from keep_hf.page.backend import RESTORING
from keep_hf.page.jobs.sessions import Session
from keep_hf.page.progress import Progress
from keep_hf.page.requests import RestorationRequest
from keep_hf.page.results.restore_several import RestoredVideos, restore_several
from keep_hf.page.results.session_batches import BatchView, SessionBatches
from page_steps import DESKTOP, PHONE, check_legible, expect_text
from portraits import write_people


pytest_plugins = ["page_fixtures", "job_fixtures"]
pytestmark = pytest.mark.slow


@pytest.fixture
def videos(tmp_path) -> list[Path]:
    """Two videos of the same name, and a file that is not a video."""
    paths = []
    for number in (1, 2):
        (folder := tmp_path / f"{number}").mkdir()
        paths.append(write_people(folder / "a video.mp4", 6 + number, num_people=1))
    (tmp_path / "bad.mp4").write_text("no video")
    return [*paths, tmp_path / "bad.mp4"]


def test_results_are_in_one_zip_file(demo, videos):
    *steps, result = restore_several(demo.service, "me", videos, RestorationRequest())
    assert isinstance(result, RestoredVideos)
    shares = [step.share for step in steps if isinstance(step, Progress) and step.phase.startswith("Video")]
    assert shares == sorted(shares)
    with zipfile.ZipFile(result.archive) as archive:
        assert archive.namelist() == [
            *("a_video_restored.mp4", "a_video_report.json", "a_video_restored_2.mp4", "a_video_report_2.json"),
            "restored_videos_report.html",
        ]
        lengths = [json.loads(archive.read(name))["frames"] for name in archive.namelist() if "json" in name]
        page = archive.read("restored_videos_report.html").decode()
    assert lengths == [7, 8]
    assert re.findall("<h2>(.*?)</h2>", page) == ["Not restored", "a video.mp4", "a video.mp4"]
    (failure,) = result.failures
    assert failure.name == "bad.mp4"
    assert failure.reason.startswith("bad.mp4 is not a video")

    with pytest.raises(ValueError, match=r"^No video could be restored\. bad\.mp4 is not a video"):
        list(restore_several(demo.service, "me", videos[2:], RestorationRequest()))
    with pytest.raises(ValueError, match="no videos yet"):
        list(restore_several(demo.service, "me", [], RestorationRequest()))


def wait_for(batches: SessionBatches, session: Session, phase: str | None) -> BatchView:
    """Wait for a phase of the batch, or for its end."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        view = batches.view(session.id)
        if view.progress is None if phase is None else view.progress and view.progress.phase.startswith(phase):
            return view
        time.sleep(0.02)
    raise TimeoutError(phase)


def test_a_batch_needs_no_browser(start, videos):
    service = start()
    batches, session = SessionBatches(service), service.open_session("me")
    assert batches.view(session.id) is None
    batches.start(session, videos, RestorationRequest())
    view = wait_for(batches, session, None)
    assert view.result.num_videos == 2
    view.result.archive.unlink()
    assert "The results were deleted" in batches.view(session.id).error
    batches.start(session, videos[2:], RestorationRequest())
    assert "No video could be restored." in wait_for(batches, session, None).error


def test_a_batch_is_cancelled_and_replaced(start, videos, held_phases):
    service = start()
    batches, session = SessionBatches(service), service.open_session("me")
    held_phases.add(RESTORING)
    batches.start(session, videos, RestorationRequest())
    wait_for(batches, session, "Video 1 of 3, a video.mp4: Restoring")
    batches.cancel(session.id)
    assert batches.view(session.id) == BatchView(None, error="Cancelled.")
    held_phases.clear()
    batches.start(session, videos[:1], RestorationRequest())
    assert wait_for(batches, session, None).result.num_videos == 1
    held_phases.add(RESTORING)
    batches.start(session, videos, RestorationRequest())
    wait_for(batches, session, "Video 1 of 3, a video.mp4: Restoring")
    held_phases.clear()
    service.close()  # ends the batch, and deletes its files
    assert batches.view(session.id) == BatchView(None, error="Cancelled.")


def test_the_page_restores_several_videos(open_page, videos, held_phases, tmp_path):
    page = open_page(DESKTOP)
    page.get_by_role("button", name="Several videos at once").click()
    page.locator("#several-files input[type=file]").set_input_files(videos)
    expect(page.locator("#several-files")).to_contain_text(re.compile(r"bad\s*\.mp4"))
    held_phases.add(RESTORING)
    page.click("#several-run")
    expect_text(page, "several-status", "Video 1 of 3, a video.mp4")
    page.reload()
    expect_text(page, "several-status", "Video 1 of 3, a video.mp4")
    expect(page.locator("#several-run")).to_be_disabled()
    held_phases.clear()
    page.reload()
    expect_text(page, "several-status", "Done: 2 videos restored. Not restored: bad.mp4 is not a video")
    check_legible(page)
    for size in (PHONE, DESKTOP):
        page.set_viewport_size(size)
        assert not find_violations(page)
    expect(page.locator("#several-run")).to_be_enabled()
    with page.expect_download() as download:
        page.click("#several-download")
    assert download.value.suggested_filename == "restored_videos.zip"
    download.value.save_as(tmp_path / "saved.zip")
    with zipfile.ZipFile(tmp_path / "saved.zip") as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 5
