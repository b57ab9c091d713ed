"""The page over connections that are lost, with several users at once, and after its process was killed."""

from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from keep_hf.page import ClientLimits
from keep_hf.page.app import Demo
from keep_hf.page.backend import RESTORING
from page_steps import DESKTOP, TIMEOUT, expect_text, frames, open_session, upload
from portraits import write_people
from served_page import serve_page
from tcp_proxy import TcpProxy


pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


LOST_SECONDS = 6


def wait_for_comparison(page: Page) -> list[int]:
    """Width and height of the video of the comparison, which has arrived."""
    video = "document.querySelector('#compare video')"
    page.wait_for_function(f"{video}?.readyState >= 2", timeout=TIMEOUT)
    return page.evaluate(f"[{video}.videoWidth, {video}.videoHeight]")


def test_the_result_arrives_after_a_lost_connection(browser, url, tmp_path):
    with TcpProxy(urlsplit(url).port) as proxy:
        page = browser.new_page(viewport=DESKTOP)
        page.set_default_timeout(TIMEOUT)
        page.goto(f"http://127.0.0.1:{proxy.port}/")
        page.wait_for_url("**session=*")
        upload(page, write_people(tmp_path / "clip.mp4", 13))
        expect_text(page, "found", "Found 2 people.")
        page.click("#run")
        expect(page.locator("#cancel")).to_be_enabled()
        proxy.cut()
        page.wait_for_timeout(1000 * LOST_SECONDS)
        proxy.restore()
        expect_text(page, "status", "Done: 13 frames, 2 people restored.")
        wait_for_comparison(page)
        page.close()


def test_two_users_at_once(pipe, browser, held_phases, tmp_path):
    """One reloads, one cancels and starts again: each gets the result of their own video; no file is left."""
    clips = {
        "reloads": write_people(tmp_path / "two people.mp4", 12),
        "cancels": write_people(tmp_path / "one person.mp4", 8, num_people=1),
    }
    (work := tmp_path / "work").mkdir()
    with serve_page(pipe, work, client_limits=ClientLimits(places=12)) as demo:
        pages: dict[str, Page] = {}
        for name, clip in clips.items():
            pages[name] = page = browser.new_page(viewport=DESKTOP)
            page.set_default_timeout(TIMEOUT)
            page.goto(demo.local_url)
            page.wait_for_url("**session=*")
            upload(page, clip)
        held_phases.add(RESTORING)
        for page in pages.values():
            expect_text(page, "found", "Found")
            page.click("#run")
            expect(page.locator("#status progress")).to_be_visible()
        expect_text(pages["cancels"], "status", "Waiting: 1 request before yours")
        pages["cancels"].click("#cancel")
        pages["reloads"].reload()
        expect_text(pages["cancels"], "status", "Cancelled.")
        held_phases.clear()
        pages["cancels"].click("#run")
        for name, page in pages.items():
            expect_text(page, "status", f"Done: {len(frames(clips[name]))} frames")
            check_result(page, demo, clips[name])
            page.close()
        assert list(work.rglob("*.mp4"))


def check_result(page: Page, demo: Demo, clip: Path) -> None:
    """The video before restoration is the part of the right clip, in the session and in the browser."""
    result = open_session(page, demo).view().restoration.result
    assert np.abs(frames(result.before) - frames(clip)).mean() < 6
    assert frames(result.after).shape == frames(clip).shape
    height, width = frames(clip).shape[1:3]
    assert wait_for_comparison(page) == [2 * width, height]


def test_a_killed_process_leaves_no_uploads(pipe, open_page, tmp_path):
    """The next start deletes them, and the page that is still open can be used again.

    Here the first page loses its lock, as if its process was killed; jobs/test_kept_files.py kills one.
    """
    clip = write_people(tmp_path / "holiday.mp4", 8)
    (work := tmp_path / "work").mkdir()
    with serve_page(pipe, work) as killed:
        page = open_page(DESKTOP)
        page.goto(killed.local_url)
        page.wait_for_url("**session=*")
        upload(page, clip)
        expect_text(page, "about", "0.8 seconds")
        killed.service._work._lock.release()
        assert list(work.rglob("holiday.mp4"))
        with serve_page(pipe, work) as started:
            assert list(work.iterdir()) == [started.service.folder]
            assert not list(work.rglob("holiday.mp4"))
            page.goto(f"{started.local_url}?{urlsplit(page.url).query}")
            expect_text(page, "about", "There is no such session any more: it is kept for 60 minutes.")
            upload(page, clip)
            expect_text(page, "found", "Found 2 people.")
