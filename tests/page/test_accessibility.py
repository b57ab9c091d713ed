"""Every state of the page follows the rules of axe-core, in light and dark, on desktops and phones."""

import pytest
from playwright.sync_api import Browser, expect

from accessibility import ALL, AccessibilityCheck, find_violations
from keep_hf.page.backend import RESTORING
from page_steps import DESKTOP, NUM_FRAMES, expect_text, upload


pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


BAD_PAGE = """<!doctype html><html lang="en"><title>A page</title><body style="background: #fff"><main><h1>Heading</h1>
<button><svg width="20" height="20"></svg></button>
<p style="color: #888; font-size: 40px">large and grey</p>
<div style="opacity: 0.4"><p>faint</p></div>
<p style="color: #444">legible</p></main></body></html>"""


def test_no_violation_in_any_state(open_page, two_people, held_phases):
    page = open_page(DESKTOP)
    check = AccessibilityCheck(page)
    check.check("start")
    page.click("#run")
    expect_text(page, "status", "There is no video yet")
    check.check("error")
    upload(page, two_people)
    expect_text(page, "about", "3.6 seconds")
    check.check("video chosen")
    expect_text(page, "found", "Found 2 people.")
    page.click("#options button")
    check.check("faces found, options open", axe_in=ALL)
    held_phases.add(RESTORING)
    page.click("#run")
    expect(page.locator("#status progress[value]")).to_be_visible()
    check.check("running")
    held_phases.clear()
    expect_text(page, "status", f"Done: {NUM_FRAMES} frames, 2 people restored.")
    expect(page.locator("#compare .views")).to_be_visible()
    check.check("result", axe_in=ALL)
    assert not check.report(), check.report()


def test_violations_are_found(browser: Browser):
    page = browser.new_page()
    page.set_content(BAD_PAGE)
    violations = find_violations(page)
    page.close()
    assert len(violations) == 4, violations
    assert [violation.split(":")[0] for violation in violations] == [
        "axe button-name (critical)",
        "axe color-contrast (serious)",
        "contrast below 4.5",
        "contrast below 4.5",
    ]
    assert "large and grey: 3.54, 136 136 136 on 255 255 255" in violations[2]  # axe allows 3 for large text
    assert "faint" in violations[3]
