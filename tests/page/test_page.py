"""The page in a real browser: what a user does in one session."""

import json

import pytest
from playwright.sync_api import expect

from media import write_clip
from page_steps import (
    DESKTOP,
    NUM_FRAMES,
    PHONE,
    audio_seconds,
    changes,
    check_legible,
    check_players,
    clear,
    expect_text,
    frames,
    split,
    upload,
    watch_progress,
)
from portraits import FRAME_RATE, SIDE, write_people


pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


def test_one_of_two_people(open_page, two_people, tmp_path):
    page = open_page(DESKTOP)
    check_legible(page)
    expect_text(page, "limits", "4 seconds at a time")
    upload(page, two_people)
    expect_text(page, "found", "Found 2 people.")
    people = page.locator("#faces .person")
    expect(people).to_have_count(2)
    expect(people.nth(0)).to_contain_text("Person 1")
    expect(people.nth(1)).to_contain_text("0:00 to 0:03")
    page.get_by_role("button", name="None").click()
    page.click("#run")
    expect_text(page, "status", "No faces selected: select at least one person.")
    people.nth(0).click()
    assert [box.is_checked() for box in page.locator("#faces input").all()] == [True, False]
    strength = page.get_by_label("Strength for Person 1")
    strength.focus()
    strength.select_option("100 %")
    expect(strength).to_be_focused()  # although the menu was rendered again
    expect(page.get_by_label("Strength for Person 2")).to_be_disabled()

    watch_progress(page)
    page.click("#run")
    expect(page.locator("#cancel")).to_be_enabled()
    expect_text(page, "status", f"Done: {NUM_FRAMES} frames, 1 person restored.")
    shares = [value for _, value in page.evaluate("window.shares")]  # of the whole job, not of its phases
    assert len(set(shares)) >= 2  # the page is updated a few times a second, and a fast machine needs hardly longer
    assert shares == sorted(shares)
    expect(page.locator("#cancel")).to_be_disabled()
    check_legible(page)
    # The result is scrolled to, and focused.
    expect(page.locator("#result .heading")).to_be_focused()
    expect(page.locator("#compare .views")).to_be_in_viewport(ratio=0.9)

    # The divider, by mouse and by keyboard
    box = page.locator("#compare .views").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert split(page) == pytest.approx(25, abs=1)
    page.focus("#compare .divider")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert split(page) == pytest.approx(27, abs=1)
    check_players(page)

    saved = {}
    for name in ("download", "download-both", "download-report", "download-data"):
        with page.expect_download() as download:
            page.click(f"#{name}")
        saved[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[name])
    restored = saved["download"]
    assert sorted(path.name for path in saved.values()) == [
        "two_people_report.html",
        "two_people_report.json",
        "two_people_restored.mp4",
        "two_people_side_by_side.mp4",
    ]
    assert frames(restored).shape == frames(two_people).shape
    assert audio_seconds(restored) == pytest.approx(NUM_FRAMES / FRAME_RATE, abs=0.1)
    assert audio_seconds(saved["download-both"]) == pytest.approx(NUM_FRAMES / FRAME_RATE, abs=0.1)
    assert frames(saved["download-both"]).shape == (NUM_FRAMES, SIDE, 4 * SIDE, 3)
    assert "<h4>Person" in saved["download-report"].read_text()
    report = json.loads(saved["download-data"].read_text())
    (track,) = report["tracks"]
    assert track["strength"]["reason"] == "restored at 100 %, as requested"
    changed, same = sorted(changes(two_people, restored), reverse=True)
    assert changed > 10
    assert same < 4


def test_preview_on_a_phone(open_page, two_people):
    page = open_page(PHONE, has_touch=True, is_mobile=True)
    check_legible(page)
    upload(page, two_people)
    expect_text(page, "found", "Found 2 people.")
    check_legible(page)
    page.click("#preview")
    expect(page.locator("#status progress[value]")).to_be_visible()
    check_legible(page)
    expect_text(page, "status", f"Done: {3 * FRAME_RATE} frames, 2 people restored.")
    expect_text(page, "result", "Preview")
    expect(page.locator("#compare .views")).to_be_in_viewport(ratio=0.9)
    check_legible(page)
    box = page.locator("#compare .views").bounding_box()
    page.locator("#compare .views").scroll_into_view_if_needed()
    box = page.locator("#compare .views").bounding_box()
    page.touchscreen.tap(box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2)
    assert split(page) == pytest.approx(70, abs=2)


def test_errors_are_shown_on_the_page(open_page, tmp_path):
    page = open_page(DESKTOP, color_scheme="dark")
    page.click("#run")
    expect_text(page, "status", "There is no video yet")

    text = tmp_path / "holiday.mp4"
    text.write_text("not a video")
    upload(page, text)
    expect_text(page, "about", "holiday.mp4 is not a video")
    page.click("#run")
    expect_text(page, "status", "holiday.mp4 is not a video")
    expect(page.locator("#run")).to_be_enabled()

    clear(page)
    upload(page, write_clip(tmp_path / "empty room.mp4", num_frames=12))
    expect_text(page, "found", "No faces found")
    page.click("#run")
    expect_text(page, "status", "No faces found in this part")

    clear(page)
    upload(page, write_people(tmp_path / "long.mp4", 60, num_people=1))
    expect_text(page, "found", "Found 1 person.")  # in the first four seconds, because the video exceeds the limit
    end = page.get_by_label("number input for To (seconds)")
    assert end.input_value() == "4"
    end.fill("6")
    end.press("Tab")
    expect_text(page, "found", "6.0 seconds are too long")
    page.click("#run")
    expect_text(page, "status", "6.0 seconds are too long: choose a part of at most 4 seconds.")
    check_legible(page)
    assert str(tmp_path) not in page.content()
    assert "Traceback" not in page.content()

    clear(page)
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(3_000_000))
    upload(page, large)
    expect(page.get_by_text("exceed the maximum allowed size", exact=False).first).to_be_visible()


def test_keyboard_navigation(open_page):
    """The Tab key reaches every control in the order in which it is used."""
    page = open_page(DESKTOP)
    wanted = ["video", "start", "end", "preset", "options", "preview", "run"]
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "names => names.find((name) => document.activeElement.closest(`#${name}`)) ?? null", wanted
        )
        if place and place not in reached:
            reached.append(place)
    assert reached == wanted


def test_a_camera_recording(open_page):
    """Recordings of a browser do not state their length."""
    page = open_page(DESKTOP)
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    record = page.locator("#video .capture-button")
    record.click()
    expect(record).to_contain_text("Stop")
    page.wait_for_timeout(1500)
    record.click()
    expect_text(page, "found", "Found 1 person.")
    assert 0.5 < float(page.get_by_label("number input for To (seconds)").input_value()) < 4
