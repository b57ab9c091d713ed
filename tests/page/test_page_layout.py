"""How the page looks, on a desktop and on a phone: one column, sizes for fingers, one font, the time of a job."""

import pytest
from playwright.sync_api import Page, expect

from accessibility import find_violations, shown_as
from page_steps import DESKTOP, PHONE, expect_text, upload


pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow

# Visible controls that are smaller than 44 x 44 pixels; the label around a control counts with it. gradio's player has
# controls of its own.
SMALL_TARGETS = """() => [...document.querySelectorAll("#page button, #page input, #page a, #page select")]
  .filter((node) => node.type !== "file" && !node.closest("#video .controls, .video-container")
    && node.checkVisibility({ opacityProperty: true, visibilityProperty: true }))
  .map((node) => [node, (node.closest(".person label, #preset label") ?? node).getBoundingClientRect()])
  .filter(([node, box]) => box.width > 0 && (box.width < 43.5 || box.height < 43.5))
  .map(([node, box]) => `${node.outerHTML.slice(0, 120)}: ${box.width} x ${box.height}`)"""
# Fonts of all text, except numbers in a fixed width, and fonts that were downloaded.
FONTS = """() => { const walker = document.createTreeWalker(document.querySelector("#page"), NodeFilter.SHOW_TEXT);
  const found = new Set();
  while (walker.nextNode()) { const node = walker.currentNode.parentElement, font = getComputedStyle(node).fontFamily;
    if (walker.currentNode.data.trim() && node.checkVisibility() && !font.includes("mono")) found.add(font); }
  return [...found, ...[...document.fonts].filter((font) => font.status === "loaded").map((font) => font.family)]; }"""
COLUMN = """() => ["#video", "#start", "#faces", "#preset", "#preview", "#status"].map((name) =>
  document.querySelector(name).getBoundingClientRect()).map((box) => [box.top, box.left])"""


def check_column(page: Page) -> None:
    tops, lefts = zip(*page.evaluate(COLUMN), strict=True)
    assert list(tops) == sorted(tops)
    assert max(lefts) - min(lefts) < 20


def test_a_phone(open_page, two_people):
    page = open_page(PHONE, has_touch=True, is_mobile=True)
    upload(page, two_people)
    expect_text(page, "found", "Found 2 people.")
    expect(page.locator("#faces .person")).to_have_count(2)
    page.click("#options button")
    assert page.evaluate(SMALL_TARGETS) == []
    for scheme in ("light", "dark"):
        with shown_as(page, "phone", scheme):
            assert find_violations(page) == []
    assert len(page.evaluate(FONTS)) == 1


def test_the_example_plays_until_there_is_a_video(open_page, two_people):
    page = open_page(DESKTOP)
    expect(page.locator("#example .views")).to_be_in_viewport()
    page.wait_for_function("document.querySelector('#example .seek').value > 3")
    upload(page, two_people)
    expect_text(page, "about", "3.6 seconds")
    expect(page.locator("#example .views")).to_have_count(0)


def test_one_column_and_presets(open_page, two_people):
    page = open_page(DESKTOP)
    upload(page, two_people)
    # Restoring takes as long as the restoration of the example at start has shown, before the button is pressed.
    expect_text(page, "estimate", "On this machine: about")
    check_column(page)
    page.get_by_label("Strong").check()
    page.click("#options button")
    expect(page.get_by_label("number input for Closeness to the original")).to_have_value("0.4")
    expect(page.locator("#strength input")).to_have_value("100 %")
    assert len(page.evaluate(FONTS)) == 1
