"""The page in a real browser, and its API through gradio_client."""

import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, Page, Route, expect

from browser import LOW_CONTRAST, UNNAMED, horizontal_overflow, open_browser
from conftest import make_components
from keep_hf import KeepPipeline, VideoReader
from keep_hf.page import LAUNCH_OPTIONS, Limits, app, build_demo
from media import packets, write_clip
from paths import REPOSITORY
from portraits import FRAME_RATE, SIDE, write_people


pytestmark = pytest.mark.slow


NUM_FRAMES = 36  # 3.6 seconds: more than the preview, less than the limit
LIMITS = Limits(seconds=4, megabytes=2)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TIMEOUT = 60_000  # milliseconds


@pytest.fixture(scope="module")
def pipe() -> KeepPipeline:
    """Small untrained networks, which change a face strongly, and the detector of keep-tiny."""
    detector = KeepPipeline.from_pretrained("keep-tiny").detector
    return KeepPipeline(**make_components(), detector=detector, gain_window=4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Iterator[tuple[Path, Path]]:
    """The upload folder of gradio, and the folder for temporary files of the page."""
    uploads, work = tmp_path_factory.mktemp("uploads"), tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(uploads))
        patch.setattr(tempfile, "tempdir", str(work))
        yield uploads, work


@pytest.fixture(scope="module")
def url(pipe, folders) -> Iterator[str]:
    demo = build_demo(pipe, limits=LIMITS)
    demo.launch(prevent_thread_lock=True, quiet=True, max_file_size=f"{LIMITS.megabytes}mb", **LAUNCH_OPTIONS)
    yield demo.local_url
    demo.close()


@pytest.fixture(scope="module")
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
def open_page(browser, url) -> Iterator[Callable[[dict], Page]]:
    pages = []

    def open_page(size: dict, **options) -> Page:
        pages.append(page := browser.new_page(viewport=size, accept_downloads=True, **options))
        page.set_default_timeout(TIMEOUT)
        page.goto(url)
        expect(page.locator("#run")).to_be_visible(timeout=TIMEOUT)
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def two_people(tmp_path_factory) -> Path:
    return write_people(tmp_path_factory.mktemp("clips") / "two people.mp4", NUM_FRAMES)


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#video input[type=file]", path)


def clear(page: Page) -> None:
    """Remove the video and wait until the page has handled that."""
    page.get_by_label("Clear").click()
    expect(page.locator("#about p")).to_have_count(0, timeout=TIMEOUT)


def expect_text(page: Page, place: str, text: str) -> None:
    expect(page.locator(f"#{place}")).to_contain_text(text, timeout=TIMEOUT)


def choose_full_strength(page: Page) -> None:
    """By default, the sharp faces of these videos are left as they are."""
    page.click("#strength input")
    page.get_by_role("option", name="100 %").click()


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
    num_texts, low_contrast = page.evaluate(LOW_CONTRAST)
    assert num_texts > 10
    assert not low_contrast
    assert not page.evaluate(UNNAMED)
    assert horizontal_overflow(page) <= 0


def check_players(page: Page) -> None:
    """The comparison plays; tests/page/test_comparison.py has more."""
    page.click("#compare [data-action=play]")
    page.wait_for_function("document.querySelector('#compare .seek').value > 3")
    page.click("#compare [data-action=play]")


def split(page: Page) -> float:
    return float(page.locator("#compare .divider").input_value())


def test_one_of_two_people(open_page, two_people, folders, tmp_path):
    page = open_page(DESKTOP)
    check_legible(page)
    expect_text(page, "limits", "4 seconds at a time")
    upload(page, two_people)
    expect_text(page, "about", "Found 2 people.")
    expect(page.locator("#frame img")).to_be_visible()
    expect(page.locator("#portraits img")).to_be_visible()
    boxes = page.locator("#people input")
    assert boxes.count() == 2
    # The API finds the same faces, in the same order.
    found = Client(page.url, verbose=False).predict(handle_file(two_people), api_name="/faces")
    assert [person["frames"] for person in found] == [NUM_FRAMES] * 2
    labels = page.locator("#people label")
    expect(labels.nth(0)).to_contain_text(f"Person {found[0]['number']}")
    boxes.nth(1).uncheck()
    choose_full_strength(page)

    watch_progress(page)
    page.click("#run")
    expect(page.locator("#cancel")).to_be_enabled()
    expect_text(page, "status", f"Done: {NUM_FRAMES} frames, 1 person restored.")
    shares = [value for line, value in page.evaluate("window.shares") if line.startswith("Restoring")]
    assert len(set(shares)) >= 2  # the page is updated a few times a second, and a fast machine needs hardly longer
    assert shares == sorted(shares)
    expect(page.locator("#cancel")).to_be_disabled()
    check_legible(page)

    # The divider, by mouse and by keyboard
    box = page.locator("#compare .views").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert split(page) == pytest.approx(25, abs=1)
    page.focus("#compare .divider")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert split(page) == pytest.approx(27, abs=1)
    assert "27%" in page.eval_on_selector("#compare .after", "node => getComputedStyle(node).clipPath")
    check_players(page)

    saved = {}
    for name in ("download", "download-both", "download-report"):
        with page.expect_download() as download:
            page.click(f"#{name}")
        saved[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[name])
    restored = saved["download"]
    assert restored.name == "restored.mp4"
    assert frames(restored).shape == frames(two_people).shape
    assert audio_seconds(restored) == pytest.approx(NUM_FRAMES / FRAME_RATE, abs=0.1)
    assert audio_seconds(saved["download-both"]) == pytest.approx(NUM_FRAMES / FRAME_RATE, abs=0.1)
    assert frames(saved["download-both"]).shape == (NUM_FRAMES, SIDE, 4 * SIDE, 3)
    report = json.loads(saved["download-report"].read_text())
    assert report["options"]["people"] == [found[0]["number"]]
    changed, same = sorted(changes(two_people, restored), reverse=True)
    assert changed > 10
    assert same < 4
    assert not list(folders[1].iterdir())


def test_preview_on_a_phone(open_page, two_people):
    page = open_page(PHONE, has_touch=True, is_mobile=True)
    check_legible(page)
    upload(page, two_people)
    expect_text(page, "about", "Found 2 people.")
    check_legible(page)
    page.click("#preview")
    expect(page.locator("#status progress[value]")).to_be_visible()
    check_legible(page)
    expect_text(page, "status", f"Done: {3 * FRAME_RATE} frames, 2 people restored.")
    check_legible(page)
    page.locator("#compare .views").scroll_into_view_if_needed()
    box = page.locator("#compare .views").bounding_box()
    page.touchscreen.tap(box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2)
    assert split(page) == pytest.approx(70, abs=2)


def test_errors_are_shown_on_the_page(open_page, tmp_path):
    page = open_page(DESKTOP, color_scheme="dark")
    page.click("#run")
    expect_text(page, "status", "There is no video yet")

    text = tmp_path / "holiday.mp4"
    text.write_text("not a video")
    upload(page, text)
    expect_text(page, "about", "holiday.mp4 is not a video")
    page.click("#run")
    expect_text(page, "status", "holiday.mp4 is not a video")
    expect(page.locator("#run")).to_be_enabled()

    clear(page)
    upload(page, write_clip(tmp_path / "empty room.mp4", num_frames=12))
    expect_text(page, "about", "No faces found")
    page.click("#run")
    expect_text(page, "status", "No faces found in this part")

    clear(page)
    upload(page, write_people(tmp_path / "long.mp4", 60, num_people=1))
    expect_text(page, "about", "Found 1 person.")  # in the first four seconds, because the video exceeds the limit
    end = page.get_by_label("number input for To (seconds)")
    assert end.input_value() == "4"
    end.fill("6")
    end.press("Tab")
    expect_text(page, "about", "The part has changed")
    page.click("#run")
    expect_text(page, "status", "6.0 seconds are too long: choose a part of at most 4 seconds.")
    check_legible(page)
    assert str(tmp_path) not in page.content()
    assert "Traceback" not in page.content()

    clear(page)
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(3_000_000))
    upload(page, large)
    expect(page.get_by_text("exceed the maximum allowed size", exact=False).first).to_be_visible()


def test_cancel(open_page, two_people, folders):
    """Also where the answer to the click arrives before the run has ended, as on a busy machine."""
    page = open_page(DESKTOP)

    def delay(route: Route) -> None:
        time.sleep(0.5)
        route.continue_()

    page.route(re.compile(r"/cancel$"), delay)
    upload(page, two_people)
    expect_text(page, "about", "Found 2 people.")
    page.click("#run")
    expect_text(page, "status", "Restoring the faces")
    assert list(folders[1].iterdir())
    page.click("#cancel")
    expect_text(page, "cancelled", "Cancelled.")
    expect(page.locator("#run")).to_be_enabled()
    deadline = time.monotonic() + 20
    while list(folders[1].iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not list(folders[1].iterdir())
    expect_text(page, "cancelled", "Cancelled.")
    expect(page.locator("#status")).not_to_be_visible()
    assert not page.locator("#compare .views").count()

    page.click("#preview")  # the status is back
    expect(page.locator("#cancelled")).not_to_be_visible()
    expect_text(page, "status", "Restoring the faces")
    page.click("#cancel")
    expect_text(page, "cancelled", "Cancelled.")


def test_keyboard_navigation(open_page):
    """The Tab key reaches every control in the order in which it is used."""
    page = open_page(DESKTOP)
    wanted = ["video", "start", "end", "find", "fidelity", "strength", "upscale", "quality", "preview", "run"]
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "names => names.find((name) => document.activeElement.closest(`#${name}`)) ?? null", wanted
        )
        if place and place not in reached:
            reached.append(place)
    assert reached == wanted


def test_api(url, two_people, tmp_path):
    client = Client(url, verbose=False, download_files=tmp_path)
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/faces", "/restore"}
    people = client.predict(handle_file(two_people), end=2.0, api_name="/faces")
    numbers = [person["number"] for person in people]
    assert len(numbers) == 2
    assert people[0]["frames"] == 20

    job = client.submit(
        handle_file(two_people), start=1.0, end=2.0, people=numbers[:1], upscale=2, quality="best", api_name="/restore"
    )
    restored, both, report = job.result()
    assert any("Restoring" in output[2].get("progress", "") for output in job.outputs())
    assert frames(Path(restored)).shape == (FRAME_RATE, 2 * SIDE, 4 * SIDE, 3)
    assert frames(Path(both)).shape == (FRAME_RATE, 2 * SIDE, 8 * SIDE, 3)
    assert audio_seconds(Path(restored)) == pytest.approx(1, abs=0.1)
    assert report["frames"] == FRAME_RATE
    assert [track["id"] for track in report["tracks"]] == numbers[:1]


def test_api_example_of_the_guide(url, tmp_path, monkeypatch):
    """The block of the guide that needs a running page."""
    guide = (REPOSITORY / "docs" / "guides" / "page.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.S)
    write_people(tmp_path / "in.mp4", 8)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code.replace("http://127.0.0.1:7860", url), "page.md", "exec"), names)
    assert len(names["numbers"]) == 2
    assert len(frames(Path(names["restored"]))) == names["report"]["frames"] == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 3.0, "end": 2.0}, "must end after it starts"),
        ({"start": 9.0}, "is 3.6 seconds long"),
        ({"people": [7]}, "None of the selected faces"),
        ({"people": ["me"]}, "at least one track by a number"),
        ({"fidelity": 2.0}, "fidelity must be from 0 to 1"),
        ({"upscale": 5}, "upscale must be 1, 2, 3 or 4"),
        ({"quality": "perfect"}, "small file, good, best"),
        ({"start": "now"}, "Unexpected error"),
    ],
)
def test_api_errors(url, two_people, options, message):
    client = Client(url, verbose=False)
    with pytest.raises(Exception, match=re.escape(message)) as raised:
        client.predict(handle_file(two_people), **options, api_name="/restore")
    assert str(two_people.parent) not in str(raised.value)


def test_clients_cannot_read_files_of_others(url, two_people, folders, tmp_path):
    """Neither files of the machine nor files of other requests."""
    uploads, work = folders
    (work / "keep_hf_page_other").mkdir()
    shutil.copyfile(two_people, work / "keep_hf_page_other" / "before.mp4")
    client = Client(url, verbose=False)
    for name in (two_people, work / "keep_hf_page_other" / "before.mp4", uploads, "/etc/passwd"):
        assert httpx.get(f"{url}gradio_api/file={name}").status_code in (403, 404)
        for endpoint in ("/faces", "/restore"):
            # A custom client could name a file without uploading it.
            index = next(fn["id"] for fn in client.config["dependencies"] if fn["api_name"] == endpoint[1:])
            defaults = {"faces": [0, 1], "restore": [0, 1, None, 1, 1, 1, "good"]}[endpoint[1:]]
            file = {"path": str(name)}
            assert "must be uploaded" in call_api(url, index, [file, *defaults])
            file["meta"] = {"_type": "gradio.FileData"}
            assert '"success":false' in call_api(url, index, [file, *defaults])
    shutil.rmtree(work / "keep_hf_page_other")


def call_api(url: str, index: int, data: list) -> str:
    """Call an API function without gradio's client, and return its last message."""
    session = {"session_hash": f"test{time.monotonic_ns()}"}
    httpx.post(f"{url}gradio_api/queue/join", json={"data": data, "fn_index": index} | session).raise_for_status()
    with httpx.stream("GET", f"{url}gradio_api/queue/data", params=session, timeout=60) as stream:
        for line in stream.iter_lines():
            if "process_completed" in line or "unexpected_error" in line:
                return line
    return ""


def test_concurrent_users_get_their_own_results(url, tmp_path):
    results: dict[int, tuple] = {}
    clips = {
        length: write_people(tmp_path / "clip.mp4", length, 1).rename(tmp_path / f"{length}") for length in (8, 13)
    }

    def run_client(length: int) -> None:
        folder = tmp_path / f"of {length}"
        folder.mkdir()
        mine = shutil.copyfile(clips[length], folder / "clip.mp4")  # both clips have the same name
        client = Client(url, verbose=False, download_files=folder)
        results[length] = client.predict(handle_file(mine), api_name="/restore")

    clients = [threading.Thread(target=run_client, args=(length,)) for length in clips]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    for length in clips:
        restored, _, report = results[length]
        assert report["frames"] == len(frames(Path(restored))) == length


def test_old_files_are_deleted(pipe, two_people, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setattr(app, "FILE_LIFETIME", 1)
    demo = build_demo(pipe, limits=LIMITS)
    demo.launch(prevent_thread_lock=True, quiet=True, **LAUNCH_OPTIONS)
    try:
        client = Client(demo.local_url, verbose=False, download_files=tmp_path)
        kept = set((tmp_path / "uploads").rglob("*.*"))  # the example
        client.predict(handle_file(two_people), end=0.3, api_name="/restore")
        deadline = time.monotonic() + 20
        while set((tmp_path / "uploads").rglob("*.*")) > kept and time.monotonic() < deadline:
            time.sleep(0.2)
        assert set((tmp_path / "uploads").rglob("*.*")) == kept
        assert kept
    finally:
        demo.close()


def test_a_camera_recording(open_page):
    """Recordings of a browser do not state their length."""
    page = open_page(DESKTOP)
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    record = page.locator("#video .capture-button")
    record.click()
    expect(record).to_contain_text("Stop")
    page.wait_for_timeout(1500)
    record.click()
    expect_text(page, "about", "Found 1 person.")
    assert 0.5 < float(page.get_by_label("number input for To (seconds)").input_value()) < 4
