"""The screenshot in README.md, and the script that takes it."""

import runpy

import cv2
import pytest

from paths import REPOSITORY


pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


DOCS = REPOSITORY / "docs"


def test_a_screenshot_of_a_result(browser, url, two_people, tmp_path):
    take_screenshot = runpy.run_path(str(DOCS / "page_screenshot.py"))["take_screenshot"]
    take_screenshot(browser, url, two_people, tmp_path / "page.png", minutes=5)
    taken, bundled = (cv2.imread(str(path)) for path in (tmp_path / "page.png", DOCS / "page.jpg"))
    assert taken.shape == bundled.shape == (1240, 1280, 3)
    assert taken.std() > 10
