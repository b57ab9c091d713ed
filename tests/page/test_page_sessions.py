"""The page while things change: new videos, trims, reloads, lost connections, cancellations, other users."""

import time

import pytest
from playwright.sync_api import Page, expect

from benchmarks.page_cancels import CANCELLED, cancel_at_random_moments
from job_steps import wait
from keep_hf.page.backend import FINDING, RESTORING
from keep_hf.page.jobs.clients import Clients
from keep_hf.page.jobs.job import Job, JobState
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


def test_restore_before_the_search_has_ended(open_page, held_phases, tmp_path):
    page = open_page(DESKTOP)
    held_phases.add(FINDING)
    upload(page, write_people(tmp_path / "clip.mp4", 10))  # of no other test: it was not searched yet
    expect_text(page, "found", FINDING)
    page.click("#preview")
    expect_text(page, "status", "Done: 10 frames, 2 people restored.")
    expect_text(page, "found", FINDING)
    held_phases.clear()
    expect_text(page, "found", "Found 2 people.")


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
    searched, part = session.view().search.id, session.view().restoration.result
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
    assert session.view().search.id == searched, "reloading has chosen a part"
    set_end(page, 0.8)  # the result stays, and says what it belongs to
    expect_text(page, "result", "from 0 to 0.6 s: not the part that is selected now")
    expect(page.locator("#compare .views, #download")).to_have_count(2)
    set_end(page, 0.6)
    expect_text(page, "status", "Done: 6 frames, 1 person restored.")
    expect(page.locator("#result .badge")).to_have_count(0)


def test_the_job_goes_on_without_the_browser(open_page, demo, two_people, held_phases):
    page = open_page(DESKTOP)
    upload(page, two_people)
    expect_text(page, "about", "3.6 seconds")
    held_phases.add(RESTORING)
    page.click("#run")
    expect(page.locator("#run")).to_be_disabled()
    session = open_session(page, demo)
    job = session.restore(session.view().restoration.request)  # the same click again
    page.context.set_offline(True)
    held_phases.clear()
    assert wait(job).state is JobState.DONE
    page.wait_for_timeout(1000)  # requests of the browser fail
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


def test_cancel_at_any_moment(open_page, tmp_path, held_phases, monkeypatch):
    """Always a clean state; `python -m benchmarks.page_cancels` cancels 50 times."""
    page = open_page(DESKTOP)
    held_phases.add(FINDING)
    upload(page, write_people(tmp_path / "clip.mp4", 4, num_people=1))
    expect_text(page, "found", FINDING)
    page.click("#cancel")
    expect_text(page, "found", "The search for faces was cancelled.")
    held_phases.clear()
    page.click("#find")
    expect_text(page, "found", "Found 1 person.")
    advance = Job.advance

    def advance_slowly(job: Job, progress: Progress) -> None:
        advance(job, progress)
        time.sleep(0.02)  # otherwise these jobs may take no longer than the clicks

    monkeypatch.setattr(Job, "advance", advance_slowly)
    states = cancel_at_random_moments(page, 8)
    assert [state for state in states if not state.is_clean] == []
    assert sum(state.status == CANCELLED for state in states) >= 3  # others have ended before


def test_a_new_video_cancels_what_runs(open_page, demo, two_people, tmp_path):
    page = open_page(DESKTOP)
    upload(page, two_people)
    expect_text(page, "about", "3.6 seconds")
    page.click("#run")
    expect(page.locator("#run")).to_be_disabled()
    session = open_session(page, demo)
    old = session.restore(session.view().restoration.request)  # the same click again
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
