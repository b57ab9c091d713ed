"""A real browser for tests of the page: headless Chromium, driven by Playwright."""

import atexit
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright


NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


@cache
def playwright() -> Playwright:
    """Playwright can be started only once in a thread, so all browsers of the tests share one."""
    started = sync_playwright().start()
    atexit.register(started.stop)
    return started


@contextmanager
def open_browser(*arguments: str) -> Iterator[Browser]:
    """Start Chromium; if it is missing, skip the test, or fail in CI."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        reason = f"no browser to open the page with ({', '.join(NAMES)}): apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    browser = playwright().chromium.launch(executable_path=path, args=[*ARGUMENTS, *arguments])
    yield browser
    browser.close()


def horizontal_overflow(page: Page) -> int:
    """The number of pixels by which the page can be scrolled horizontally."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
