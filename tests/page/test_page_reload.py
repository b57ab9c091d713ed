"""A reload in every phase: the job is found again, and the page shows the same state as before."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gradio import processing_utils
from playwright.sync_api import Page

from job_steps import request
from keep_hf.page.backend import COMPARING, CUTTING, FINDING, RESTORING
from keep_hf.page.jobs.job import PartKey
from keep_hf.page.jobs.video_cache import checksum
from media import write_clip
from page_steps import DESKTOP, TIMEOUT, clear, open_session, upload
from portraits import write_people


pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


# What a user sees; of a line of progress only the phase, because the share of some phases may still grow.
READ_STATE = """() => {
  const visible = (node) => node?.checkVisibility({ visibilityProperty: true }) ?? false;
  const find = (name) => document.querySelector(`#${name}`);
  const text = (name) => visible(find(name)) ? find(name).innerText.trim().replace(/: \\d+ %.*/, " ...") : "";
  return {
    about: text("about"), found: text("found"), status: text("status"),
    bars: document.querySelectorAll("#found progress, #status progress").length,
    buttons: ["preview", "run", "cancel", "find"].filter((name) => visible(find(name)) && !find(name).disabled),
    part: ["start", "end"].map((name) => Number(find(name)?.querySelector("input[type=number]").value)),
    faces: [...document.querySelectorAll("#faces input")].map((node) => node.checked),
    result: find("result")?.querySelector("h2")?.innerText ?? "",
    shown: ["#video video", "#compare .views", "#example .views", "#download"].filter((place) =>
      visible(document.querySelector(place))),
  };
}"""
IDLE, SEARCHING, RESTORING_NOW = ["preview", "run"], ["preview", "run", "cancel"], ["cancel"]
RESULT = ["#video video", "#compare .views", "#download"]


def expect_state(page: Page, expected: dict[str, Any]) -> None:
    deadline = time.monotonic() + TIMEOUT / 1000
    while (state := page.evaluate(READ_STATE)) != expected and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert state == expected


class ReloadCheck:
    """Checks the state of a page before and after a reload; what is not given is that of the check before."""

    def __init__(self, page: Page, demo) -> None:
        self.page, self.demo = page, demo
        self.state: dict[str, Any] = {"status": "", "bars": 0, "faces": [], "result": "", "shown": ["#video video"]}

    def check(self, **changes: Any) -> None:
        self.state |= changes
        expect_state(self.page, self.state)
        session = open_session(self.page, self.demo)
        before = session.view()
        self.page.reload()
        expect_state(self.page, self.state)
        assert open_session(self.page, self.demo) is session
        after = session.view()
        assert after.part == before.part  # a reload chooses nothing, which would cancel the jobs
        for one, other in ((before.search, after.search), (before.restoration, after.restoration)):
            assert (one and (one.id, one.state)) == (other and (other.id, other.state))


def test_reload_in_every_phase(open_page, demo, held_phases, tmp_path):
    page = open_page(DESKTOP)
    check = ReloadCheck(page, demo).check
    held_phases.add(FINDING)
    upload(page, clip := write_people(tmp_path / "clip.mp4", 8))
    about = "0.8 seconds, 8 frames of 288 x 144 pixels."
    check(about=about, part=[0, 0.8], found=f"{FINDING} ...", bars=1, buttons=SEARCHING)
    page.click("#cancel")
    cancelled = "The search for faces was cancelled. Without it, all faces are restored."
    check(found=cancelled, bars=0, buttons=[*IDLE, "find"])
    page.click("#find")
    check(found=f"{FINDING} ...", bars=1, buttons=SEARCHING)
    held_phases.clear()
    check(found="Found 2 people.", bars=0, buttons=IDLE, faces=[True, True])

    held_phases.add(CUTTING)
    page.click("#preview")
    check(status=f"{CUTTING} ...", bars=1, buttons=RESTORING_NOW)
    held_phases.clear()
    done = {"bars": 0, "buttons": IDLE}
    check(status="Done: 8 frames, 2 people restored.", result="Preview", shown=RESULT, **done)

    # Behind the job of another user, one of two people
    held_phases.add(RESTORING)
    other = demo.service.submit("other", request(demo.service.add_video(clip), end=0.5))
    page.locator("#faces .person label").nth(0).click()
    page.get_by_label("Strength for Person 2").select_option("100 %")
    page.click("#run")
    waiting = {"bars": 1, "buttons": RESTORING_NOW, "faces": [False, True]}
    check(status="Waiting: 1 request before yours ...", **waiting)  # the preview stays until there is a result
    held_phases.add(FINDING)
    demo.service.cancel(other)
    for phase, following in ((FINDING, RESTORING), (RESTORING, COMPARING), (COMPARING, "")):
        held_phases.add(following)
        check(status=f"{phase} ...")
        held_phases.remove(phase)
    check(status="Done: 8 frames, 1 person restored.", result="Result", **done)

    held_phases.add(RESTORING)
    page.locator("#faces .person label").nth(0).click()
    page.click("#run")
    check(status=f"{RESTORING} ...", bars=1, buttons=RESTORING_NOW, faces=[True, True])
    page.click("#cancel")
    check(status="Cancelled.", bars=0, buttons=IDLE)

    clear(page)
    upload(page, write_clip(tmp_path / "nobody.mp4", num_frames=3))
    failure = (
        "No faces found in this part. Faces must be visible from the front or half from the side, and not be tiny. "
        "Choose another part, or another video."
    )
    about = "0.1 seconds, 3 frames of 96 x 64 pixels."
    none = {"status": "", "faces": [], "result": "", "shown": ["#video video"]}
    check(about=about, part=[0, 0.2], found=failure, buttons=[*IDLE, "find"], **none)
    page.click("#run")
    held_phases.clear()
    check(status="No faces found in this part, so there is nothing to restore. Choose another part.")


def test_a_reload_shows_the_same_file(demo, monkeypatch, tmp_path):
    """Where there is an ffmpeg binary, gradio converts what browsers do not play; that would be another video."""
    for name, value in (("ffmpeg_installed", True), ("video_is_playable", False)):
        monkeypatch.setattr(processing_utils, name, lambda *arguments, value=value: value)
    video = demo.service.add_video(write_clip(tmp_path / "camera.avi", codec="mpeg4"))
    session = demo.service.open_session("me")
    session.choose(PartKey(video, 0.0, 0.2))
    (event,) = (function for function in demo.fns.values() if function.name == "display_again")
    with ThreadPoolExecutor(1) as thread:  # in this one, a loop may run for the browser
        (sent,) = thread.submit(asyncio.run, demo.postprocess_data(event, event.fn(session.id), None)).result()
    assert checksum(Path(sent["path"])) == video
    assert Path(demo.GRADIO_CACHE) in Path(sent["path"]).parents  # from where gradio serves it
    session.cancel()
