"""What a user does on the page, and what is checked there."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from playwright.sync_api import Page, expect

from accessibility import STILL, find_low_contrast
from browser import horizontal_overflow
from keep_hf import VideoReader
from keep_hf.page import Limits
from keep_hf.page.app import Demo
from keep_hf.page.jobs.sessions import Session
from media import packets
from portraits import SIDE


NUM_FRAMES = 36  # 3.6 seconds: more than the preview, less than the limit
LIMITS = Limits(seconds=4, megabytes=2)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TIMEOUT = 60_000  # milliseconds


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#video input[type=file]", path)


def clear(page: Page) -> None:
    """Remove the video and wait until the page has handled that."""
    page.get_by_label("Clear").click()
    expect(page.locator("#about p")).to_have_count(0, timeout=TIMEOUT)


def expect_text(page: Page, place: str, text: str) -> None:
    expect(page.locator(f"#{place}")).to_contain_text(text, timeout=TIMEOUT)


def frames(path: Path) -> np.ndarray:
    with VideoReader(path) as reader:
        return np.stack([frame.image for frame in reader]).astype(int)


def audio_seconds(path: Path) -> float:
    return len(packets(path, "audio")) * 1024 / 48000


def changes(before: Path, after: Path) -> list[float]:
    """Mean absolute change at the faces of the left and the right person, in levels of 255."""
    difference = np.abs(frames(after) - frames(before)).mean(axis=(0, 1, 3))
    return [difference[number * SIDE + 50 : number * SIDE + SIDE - 50].mean() for number in range(2)]


def watch_progress(page: Page) -> None:
    """Record every value of the progress bar under the buttons."""
    page.evaluate(
        """() => { window.shares = []; new MutationObserver(() => {
        const bar = document.querySelector("#status progress[value]"), line = document.querySelector("#status p");
        if (bar) window.shares.push([line.innerText, bar.value]); })
        .observe(document.querySelector("#status"), { childList: true, subtree: true, attributes: true }); }"""
    )


def check_legible(page: Page) -> None:
    page.add_style_tag(content=STILL)
    assert not find_low_contrast(page)
    assert horizontal_overflow(page) <= 0


def check_players(page: Page) -> None:
    """The comparison plays; tests/page/test_comparison.py has more."""
    page.click("#compare [data-action=play]")
    page.wait_for_function("document.querySelector('#compare .seek').value > 3")
    page.click("#compare [data-action=play]")


def split(page: Page) -> float:
    return float(page.locator("#compare .divider").input_value())


def open_session(page: Page, demo: Demo) -> Session:
    """The session that the address of a page names."""
    (session,) = parse_qs(urlsplit(page.url).query)["session"]
    return demo.service.find_session(session)
