"""The page while things change: new videos, trims, reloads, lost connections, cancellations, other users."""

import random
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from keep_hf.page.jobs.clients import Clients
from keep_hf.page.jobs.face_search import FaceSearch
from keep_hf.page.jobs.job import JobState
from keep_hf.page.progress import Progress
from page_steps import (
    DESKTOP,
    NUM_FRAMES,
    TIMEOUT,
    changes,
    clear,
    expect_text,
    open_session,
    upload,
)
from portraits import write_people


pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


def set_end(page: Page, seconds: float) -> None:
    end = page.get_by_label("number input for To (seconds)")
    end.fill(f"{seconds:g}")
    end.press("Tab")


def test_restore_before_the_search_has_ended(open_page, demo, two_people):
    """And a search result or a restoration of another video never arrives."""
    page = open_page(DESKTOP)
    upload(page, two_people)
    expect_text(page, "about", "3.6 seconds")
    page.click("#preview")
    expect(page.locator("#run")).to_be_disabled()
    expect_text(page, "status", "Done: 30 frames, 2 people restored.")
    expect_text(page, "found", "Found 2 people.")

    # Another video
    clear(page)
    expect(page.locator("#compare .views")).to_have_count(0)
    expect(page.locator("#status p, #found p, #result h2, #faces .person")).to_have_count(0)
    expect(page.locator("#download")).not_to_be_visible()


def test_a_choice_survives_a_trim_and_a_reload(open_page, demo, two_people, tmp_path):
    page = open_page(DESKTOP)
    upload(page, two_people)
    expect_text(page, "found", "Found 2 people.")
    page.locator("#faces .person").nth(0).click()
    page.get_by_label("Strength for Person 2").select_option("100 %")
    set_end(page, 0.6)
    page.click("#run")  # the search in this part may still run
    expect_text(page, "status", "Done: 6 frames, 1 person restored.")
    expect_text(page, "found", "Found 2 people.")
    session = open_session(page, demo)
    part = session.view().restoration.result
    changed, same = sorted(changes(part.before, part.after), reverse=True)
    assert changed > 10
    assert same < 4

    def check() -> None:
        boxes = page.locator("#faces input")
        expect(boxes).to_have_count(2, timeout=TIMEOUT)
        assert [box.is_checked() for box in boxes.all()] == [False, True]
        expect(page.locator("#faces select option:checked")).to_have_text(["as below", "100 %"])
        assert page.get_by_label("number input for To (seconds)").input_value() == "0.6"
        expect(page.locator("#video video")).to_be_visible()
        expect(page.locator("#compare .views")).to_be_visible()

    check()
    for reload in (page.reload, lambda: (page.goto("about:blank"), page.go_back())):
        reload()
        expect_text(page, "status", "Done: 6 frames, 1 person restored.")
        check()
    assert open_session(page, demo) is session
    assert session.view().number == 2  # reloading has chosen nothing
    set_end(page, 0.8)  # the result stays, and says what it belongs to
    expect_text(page, "result", "from 0 to 0.6 s: not the part that is selected now")
    expect(page.locator("#compare .views, #download")).to_have_count(2)
    set_end(page, 0.6)
    expect_text(page, "status", "Done: 6 frames, 1 person restored.")
    expect(page.locator("#result .badge")).to_have_count(0)


def test_the_job_goes_on_without_the_browser(open_page, demo, two_people):
    page = open_page(DESKTOP)
    upload(page, two_people)
    expect_text(page, "about", "3.6 seconds")
    page.click("#run")
    expect(page.locator("#run")).to_be_disabled()
    job = demo.service.find_job(open_session(page, demo).view().restoration.id)

    page.reload()
    page.context.set_offline(True)
    page.wait_for_timeout(3000)
    page.context.set_offline(False)
    expect_text(page, "status", f"Done: {NUM_FRAMES} frames")
    expect(page.locator("#compare .views")).to_be_visible()
    expect_text(page, "result", "Kept until")
    assert open_session(page, demo).view().restoration.id == job.id


def test_an_expired_link(open_page, url):
    page = open_page(DESKTOP)
    page.goto(f"{url}?session=unknown")
    expect_text(page, "about", "There is no such session any more: it is kept for 60 minutes.")
    page.wait_for_function("!location.search.includes('unknown')")


def test_cancel_at_any_moment(open_page, tmp_path, monkeypatch):
    """Always a clean state: no bar, a message, and all buttons. Another test cancels 50 jobs without a browser."""

    def find(self, *arguments) -> Iterator[Progress]:
        while True:
            time.sleep(0.05)
            yield Progress("Looking for faces", 0.5)

    page = open_page(DESKTOP)
    with monkeypatch.context() as patch:
        patch.setattr(FaceSearch, "find", find)  # until it is cancelled
        upload(page, write_people(tmp_path / "not searched yet.mp4", NUM_FRAMES - 1))
        expect_text(page, "found", "Looking for faces: 50 %")
        page.click("#cancel")
        expect_text(page, "found", "The search for faces was cancelled.")
    page.click("#find")
    expect_text(page, "found", "Found 2 people.")
    moments = random.Random(0)
    for number in range(4):
        page.click("#run" if number % 2 else "#preview")
        expect(page.locator("#run")).to_be_disabled()
        page.wait_for_timeout(moments.uniform(0, 500))
        page.click("#cancel")
        expect_text(page, "status", "Cancelled.")
        page.wait_for_timeout(600)  # progress that was sent before does not come back
        expect(page.locator("#status p")).to_have_text("Cancelled.")
        expect(page.locator("#status progress")).to_have_count(0)
        expect(page.locator("#run")).to_be_enabled()
        expect(page.locator("#cancel")).to_be_disabled()
        expect(page.locator("#compare .views")).to_have_count(0)


def test_a_new_video_cancels_what_runs(open_page, demo, two_people, tmp_path):
    page = open_page(DESKTOP)
    upload(page, two_people)
    expect_text(page, "about", "3.6 seconds")
    page.click("#run")
    expect(page.locator("#run")).to_be_disabled()
    session = open_session(page, demo)
    old = demo.service.find_job(session.view().restoration.id)
    clear(page)
    deadline = time.monotonic() + 60
    while not old.state.is_final and time.monotonic() < deadline:
        time.sleep(0.05)
    assert old.state is JobState.CANCELLED
    upload(page, write_people(tmp_path / "one.mp4", 8, num_people=1))
    expect_text(page, "found", "Found 1 person.")
    expect(page.locator("#faces .person")).to_have_count(1)
    expect(page.locator("#status p")).to_have_count(0)


def test_a_full_queue(open_page, demo, two_people, monkeypatch):
    """The page stays usable, and nothing of the part is lost."""

    def refuse(self, client: str, unfinished: list[str]) -> None:
        raise ValueError("16 requests are waiting, which is the limit. Try again in some minutes.")

    page = open_page(DESKTOP)
    with monkeypatch.context() as patch:
        patch.setattr(Clients, "check_places", refuse)
        upload(page, two_people)
        expect_text(page, "about", "16 requests are waiting, which is the limit.")
        page.click("#run")
        expect_text(page, "status", "16 requests are waiting, which is the limit.")
    expect(page.locator("#run")).to_be_enabled()
    assert page.get_by_label("number input for To (seconds)").input_value() == "3.6"
    page.click("#find")
    expect_text(page, "found", "Found 2 people.")


def test_two_users(open_page, demo, two_people, tmp_path):
    """One reloads and one cancels; the one who waits sees the place in the queue."""
    first, second = open_page(DESKTOP), open_page(DESKTOP)
    upload(first, two_people)
    upload(second, write_people(tmp_path / "one.mp4", 8, num_people=1))
    for page in (first, second):
        expect_text(page, "found", "Found")
    first.click("#run")
    expect(first.locator("#run")).to_be_disabled()
    second.click("#run")
    expect(second.locator("#run")).to_be_disabled()
    expect_text(second, "status", "Waiting: 1 request before yours")
    first.reload()
    second.click("#cancel")
    expect_text(second, "status", "Cancelled.")
    second.click("#run")
    expect_text(first, "status", f"Done: {NUM_FRAMES} frames, 2 people restored.")
    expect_text(second, "status", "Done: 8 frames, 1 person restored.")
