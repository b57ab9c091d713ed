"""Take the screenshot of the web page in README.md: an example is uploaded, restored, and compared.

    python docs/page_screenshot.py docs/page.jpg         # needs Chromium

It starts the page with a built-in checkpoint, and restores the first seconds of the example.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from keep_hf import KeepPipeline
from keep_hf.page import build_demo
from keep_hf.page.examples import EXAMPLES


CHECKPOINT = "keep-small"
EXAMPLE = next(example for example in EXAMPLES if example.num_people == 2)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 1240}
MINUTE = 60_000  # milliseconds
PART_SECONDS = 1.5  # of the example, which are restored
SHOWN_FRAME = 10  # of the result


def take_screenshot(browser: Browser, url: str, clip: Path, target: Path, minutes: int = 30) -> None:
    """Restore a clip on the page, and write a screenshot of the result.

    Args:
        browser (`Browser`): The browser.
        url (`str`): Address of the page.
        clip (`Path`): The clip to upload.
        target (`Path`): A JPEG or PNG file.
        minutes (`int`): For how long to wait.
    """
    page = browser.new_page(viewport=SIZE, color_scheme="light")
    page.set_default_timeout(minutes * MINUTE)
    page.goto(url)
    page.wait_for_url("**session=*")
    page.set_input_files("#video input[type=file]", clip)
    expect(page.locator("#about")).to_contain_text("seconds", timeout=minutes * MINUTE)
    end = page.get_by_label("number input for To (seconds)")
    end.fill(f"{PART_SECONDS:g}")
    end.press("Tab")
    expect(page.locator("#found")).to_contain_text("Found", timeout=minutes * MINUTE)
    page.click("#run")
    expect(page.locator("#status")).to_contain_text("Done", timeout=minutes * MINUTE)
    page.wait_for_function("document.querySelector('#compare video')?.readyState >= 2")
    for _ in range(SHOWN_FRAME):
        page.click("#compare [data-action=forward]")
    # From the people down to the buttons below the comparison.
    page.evaluate("document.querySelector('#faces').scrollIntoView({ block: 'start' })")
    page.wait_for_timeout(500)  # until the browser has drawn the frame
    page.screenshot(path=target, **({"quality": 85} if target.suffix == ".jpg" else {}))
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="the .jpg or .png to write")
    target = parser.parse_args().target
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        parser.error(f"there is no browser ({', '.join(BROWSERS)}): apt-get install chromium")
    demo = build_demo(KeepPipeline.from_pretrained(CHECKPOINT))
    demo.launch(prevent_thread_lock=True, quiet=True)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            take_screenshot(browser, demo.local_url, EXAMPLE.path, target)
            browser.close()
    finally:
        demo.close()
    print(f"{target}: {EXAMPLE.title}, restored with {CHECKPOINT}")


if __name__ == "__main__":
    main()
