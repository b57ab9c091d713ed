"""The people on the page: found while others restore, found once, one entry for each of them."""

import pytest
from playwright.sync_api import expect

from job_steps import count_work, request, wait_for_phase
from keep_hf.page.backend import RESTORING
from many_scenes import write_scenes
from page_steps import DESKTOP, PHONE, expect_text, upload
from portraits import write_people


pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


def test_a_search_waits_for_no_restoration_and_is_not_repeated(open_page, demo, held_phases, monkeypatch, tmp_path):
    held_phases.add(RESTORING)
    of_another_user = demo.service.add_video(write_people(tmp_path / "other.mp4", 4, num_people=1))
    job = demo.service.submit("other", request(of_another_user, end=0.4))
    wait_for_phase(job, RESTORING)
    calls = count_work(monkeypatch)
    page = open_page(DESKTOP)
    upload(page, write_people(tmp_path / "clip.mp4", 11))  # of no other test: the page knows those videos
    expect_text(page, "found", "Found 2 people.")
    assert not job.state.is_final
    held_phases.clear()
    page.click("#preview")
    expect_text(page, "status", "Done: 11 frames, 2 people restored.")
    page.get_by_label("Strength for Person 2").select_option("100 %")
    page.locator("#faces .person label").nth(0).click()
    page.click("#run")
    expect_text(page, "status", "Done: 11 frames, 1 person restored.")
    assert sorted(calls) == ["cut_clip", "find", "track_part"]


def test_a_person_in_many_scenes_is_one_entry(open_page, tmp_path):
    """Nine scenes of three people."""
    page = open_page(PHONE)
    upload(page, write_scenes(tmp_path / "cuts.mp4", (10,) * 9))
    expect_text(page, "found", "Found 3 people.")
    people = page.locator("#faces .person label")
    expect(people).to_have_count(3)
    for number, text in enumerate(["Person 1\n0:00 to 0:02", "Person 2\n0:00 to 0:03", "Person 3\n0:00 to 0:03"]):
        expect(people.nth(number)).to_have_text(text, use_inner_text=True)
    for image in page.locator("#faces img").all():
        assert image.bounding_box()["width"] >= 80  # pixels
        assert image.evaluate("image => image.naturalWidth") == 160
    for button, is_chosen in (("None", False), ("All", True)):
        page.get_by_role("button", name=button, exact=True).click()
        assert [box.is_checked() for box in page.locator("#faces input").all()] == [is_chosen] * 3
