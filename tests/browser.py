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

# Texts with less contrast than WCAG AA requires: 4.5, or 3 if they are large; disabled controls are exempt. The
# background is the nearest opaque one; text over images is not checked. Returns the number of texts, and the failures.
LOW_CONTRAST = """() => {
  const parse = (text) => { const p = text.match(/[\\d.]+/g).map(Number); return [p[0], p[1], p[2], p[3] ?? 1]; };
  const light = (rgb) => { const [r, g, b] = rgb.slice(0, 3).map((value) => { const c = value / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const over = (top, under) => under.map((value, i) => i < 3 ? top[i] * top[3] + value * (1 - top[3]) : 1);
  const behind = (node) => { let stack = [];
    for (; node; node = node.parentElement) { const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour[3] > 0) stack.push(colour); if (colour[3] === 1) break; }
    return stack.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]); };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walker.nextNode()) { const node = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    const style = getComputedStyle(node), box = node.getBoundingClientRect();
    if (!text || !node.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || box.width < 2) continue;
    if (node.closest(":disabled, script, style, .views, video, [aria-hidden=true]")) continue;
    const ground = behind(node), front = over(parse(style.color), ground);
    const [high, low] = [light(front), light(ground)].sort((a, b) => b - a), ratio = (high + 0.05) / (low + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    count += 1;
    if (ratio < (large ? 3 : 4.5)) found.push(`${text}: ${ratio.toFixed(2)}`); }
  return [count, found]; }"""

# Controls without a name for screen readers, except those of gradio's own player.
UNNAMED = """() => [...document.querySelectorAll("#compare *, button, input, select, textarea, [tabindex='0']")]
  .filter((node) => node.matches("button, input, select, textarea, video, [tabindex='0']"))
  .filter((node) => node.checkVisibility() && node.type !== "file" && !node.closest("#video, [aria-hidden=true]"))
  .filter((node) => !(node.ariaLabel || node.title || node.innerText?.trim() || node.querySelector("img, svg")
    || [...(node.labels ?? [])].some((label) => label.innerText.trim())
    || document.getElementById(node.getAttribute("aria-labelledby"))))
  .map((node) => node.outerHTML.slice(0, 200))"""


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
