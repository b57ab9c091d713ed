"""The page with small networks, and a browser: fixtures for modules that name this one in `pytest_plugins`."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from browser import open_browser
from conftest import make_components
from keep_hf import KeepPipeline
from keep_hf.page import ClientLimits
from keep_hf.page.app import Demo
from keep_hf.page.jobs.job import Job
from keep_hf.page.progress import Progress
from media import write_clip
from page_steps import NUM_FRAMES, TIMEOUT, frames
from portraits import write_people
from served_page import serve_page


@pytest.fixture(scope="session")
def pipe() -> KeepPipeline:
    """Small untrained networks, which change a face strongly, and the detector of keep-tiny."""
    detector = KeepPipeline.from_pretrained("keep-tiny").detector
    return KeepPipeline(**make_components(), detector=detector, gain_window=4)


@pytest.fixture(scope="session")
def demo(pipe, tmp_path_factory) -> Iterator[Demo]:
    """A page that is served. All clients of the tests have one address, so they get more places."""
    with serve_page(pipe, tmp_path_factory.mktemp("work"), client_limits=ClientLimits(places=12)) as demo:
        yield demo


@pytest.fixture(scope="session")
def url(demo) -> str:
    return demo.local_url


@pytest.fixture(scope="session")
def browser(url, tmp_path_factory) -> Iterator[Browser]:
    """Chromium with a fake camera that shows a face."""
    folder = tmp_path_factory.mktemp("camera")
    clip = frames(write_people(folder / "clip.mp4", 30, num_people=1)).astype(np.uint8)
    images = list(clip.repeat(3, axis=1).repeat(3, axis=2))
    camera = write_clip(
        folder / "camera.mjpeg", images=images, codec="mjpeg", pixel_format="yuvj420p", container_format="mjpeg"
    )
    fakes = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    with open_browser(*fakes, f"--use-file-for-fake-video-capture={camera}") as browser:
        yield browser


@pytest.fixture
def open_page(browser, url) -> Iterator[Callable[..., Page]]:
    pages = []

    def open_page(size: dict, **options) -> Page:
        pages.append(page := browser.new_page(viewport=size, accept_downloads=True, **options))
        page.set_default_timeout(TIMEOUT)
        page.goto(url)
        page.wait_for_url("**session=*")  # the page is connected to its session
        expect(page.locator("#run")).to_be_visible(timeout=TIMEOUT)
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.fixture(scope="session")
def two_people(tmp_path_factory) -> Path:
    return write_people(tmp_path_factory.mktemp("clips") / "two people.mp4", NUM_FRAMES)


@pytest.fixture
def held_phases(monkeypatch) -> Iterator[set[str]]:
    """Names of phases: a job that reaches one of them stops there, until it is removed or the job is cancelled."""
    held: set[str] = set()
    advance = Job.advance

    def pause(self: Job, progress: Progress) -> None:
        advance(self, progress)
        while progress.phase in held and not self.state.is_final:
            time.sleep(0.01)

    monkeypatch.setattr(Job, "advance", pause)
    yield held
    held.clear()
