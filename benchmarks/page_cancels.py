"""Whether the page is in a clean state after jobs are cancelled at random moments, in Chromium.

    python -m benchmarks.page_cancels

A short drawn video is uploaded once and restored with keep-tiny. Then restorations are started and cancelled, after
random times of up to about that of a whole one. A state is clean if it has a message, no progress bar, and the buttons
of a page that is idle; a page that shows progress again after that is not. Prints the number of states with each
message, and those that are not clean. The exit code is 0 if all are clean.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import av
from playwright.sync_api import Page, expect, sync_playwright

from keep_hf import KeepPipeline
from keep_hf.drawn_people import draw_video
from keep_hf.page import build_demo


CANCELLED = "Cancelled."
TIMEOUT = 120_000  # milliseconds
LATEST = 0.7  # of the time of a job as the page shows it, which is longer than that of the job
SETTLING = 500  # milliseconds; the page asks for changes every 400 while a job runs
SIZE, FRAME_RATE = 192, 10
# Two choices: a request like that of the last result would return that result.
PRESETS = ("Strong", "Faithful")
READ_STATE = """() => {
  const enabled = ["preview", "run", "cancel"].filter((name) => !document.querySelector(`#${name}`).disabled);
  const status = document.querySelector("#status p")?.innerText ?? "";
  return [status, document.querySelectorAll("#status progress, #found progress").length, enabled];
}"""


@dataclass(frozen=True)
class PageState:
    """What the page shows.

    Args:
        status (`str`): The line under the buttons.
        num_bars (`int`): Number of progress bars.
        enabled (`tuple[str, ...]`): The buttons that can be pressed, of `preview`, `run` and `cancel`.
    """

    status: str
    num_bars: int
    enabled: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left of the job; a job may have ended before it was cancelled."""
        has_ended = self.status == CANCELLED or self.status.startswith("Done:")
        return has_ended and self.num_bars == 0 and self.enabled == ("preview", "run")


def read_state(page: Page) -> PageState:
    """The present state of a page."""
    status, num_bars, enabled = page.evaluate(READ_STATE)
    return PageState(status, num_bars, tuple(enabled))


def cancel_at_random_moments(page: Page, count: int) -> list[PageState]:
    """Start and cancel restorations.

    Args:
        page (`Page`): A page with a video whose people were found.
        count (`int`): How often.

    Returns:
        `list[PageState]`: The state after each of them.
    """
    duration, moments = 0.0, random.Random(0)
    for preset in PRESETS:  # the first restoration takes longer: the part is cut, and networks run for the first time
        page.get_by_label(preset).check()
        page.click("#run")
        began = time.monotonic()
        expect(page.locator("#run")).to_be_disabled()
        expect(page.locator("#status")).to_contain_text("Done", timeout=TIMEOUT)
        duration = time.monotonic() - began
    states: list[PageState] = []
    restored = PRESETS[-1]
    for _ in range(count):
        preset = PRESETS[0] if restored == PRESETS[1] else PRESETS[1]
        page.get_by_label(preset).check()
        page.click("#run")
        expect(page.locator("#cancel")).to_be_enabled()  # the request was answered
        page.wait_for_timeout(1000 * moments.uniform(0, LATEST * duration))
        page.evaluate("document.querySelector('#cancel').click()")  # ignored if it is disabled: the job has ended
        deadline = time.monotonic() + TIMEOUT / 1000
        while not read_state(page).is_clean and time.monotonic() < deadline:
            page.wait_for_timeout(20)
        page.wait_for_timeout(SETTLING)
        states.append(read_state(page))
        if states[-1].status != CANCELLED:
            restored = preset
    return states


def write_drawn_video(path: Path, num_frames: int) -> Path:
    """Write a video of one drawn person."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for image in draw_video(1, num_frames, SIZE, SIZE, FRAME_RATE):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def main() -> int:
    """Cancel, and print what the page shows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=50, help="number of cancels")
    parser.add_argument("--frames", type=int, default=4, help="frames of the video")
    arguments = parser.parse_args()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    demo = build_demo(KeepPipeline.from_pretrained("keep-tiny"))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        page.wait_for_url("**session=*")
        page.set_input_files("#video input[type=file]", write_drawn_video(Path(folder) / "clip.mp4", arguments.frames))
        expect(page.locator("#found")).to_contain_text("Found", timeout=TIMEOUT)
        began = time.monotonic()
        states = cancel_at_random_moments(page, arguments.count)
        seconds = time.monotonic() - began
        browser.close()
    demo.close()
    for status, number in Counter(state.status for state in states).items():
        print(f"{number:4d} times {status}")
    unclean = [state for state in states if not state.is_clean]
    print(f"{len(states)} cancels in {seconds:.0f} s, {len(unclean)} states that are not clean", *unclean, sep="\n")
    return 1 if unclean else 0


if __name__ == "__main__":
    sys.exit(main())
