"""The comparison of before and after, in a real browser, with videos whose frames carry their number."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from accessibility import SCHEMES, SIZES, describe_violation, shown_as
from benchmarks.frame_lock import READ_NUMBER, SAMPLE, write_pair
from browser import horizontal_overflow, open_browser
from keep_hf.page.comparison import FacePath, build_comparison, collect_paths, comparison_value
from keep_hf.page.comparison.face_paths import VISIBLE_SHARE, divider_start


NUM_FRAMES, FRAME_RATE = 50, 25
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# A face that moves from the left edge to the middle, and one on the right that appears after a second.
FACES = (
    FacePath(np.array([0, 49]), np.array([[0.0, 0.2, 0.2, 0.6], [0.4, 0.2, 0.6, 0.6]]), 1.0),
    FacePath(np.array([25, 49]), np.array([[0.8, 0.5, 0.9, 0.7]] * 2), 1.0),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """A page with the comparison, and buttons that show two videos, one of them without faces."""
    folder = tmp_path_factory.mktemp("videos")
    *_, both = write_pair(folder, NUM_FRAMES, FRAME_RATE)
    *_, other = write_pair(folder, 5, 10)
    broken = folder / "broken.mp4"
    broken.write_bytes(other.read_bytes()[:-2000])
    with gr.Blocks() as demo:
        compare = build_comparison(elem_id="compare")
        gr.Button("One").click(lambda: comparison_value(both, FACES), None, compare)
        gr.Button("Other").click(lambda: comparison_value(other), None, compare)
        text = gr.FileData(path=gr.processing_utils.save_file_to_cache(__file__, demo.GRADIO_CACHE))
        gr.Button("Broken").click(lambda: comparison_value(other) | {"video": text.model_dump()}, None, compare)
    # The page of the other tests has changed which folder is that for temporary files.
    demo.launch(prevent_thread_lock=True, quiet=True, allowed_paths=[str(folder)])
    yield demo.local_url
    demo.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def open_page(browser, url):
    pages: list[Page] = []

    def open_page(size: dict, name: str | None = "One", **options) -> Page:
        pages.append(page := browser.new_page(viewport=size, **options))
        page.goto(url)
        page.get_by_text("The comparison appears here").wait_for()
        page.evaluate(READ_NUMBER)
        if name:
            click(page, name)
        return page

    yield open_page
    for page in pages:
        page.close()


def click(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    page.wait_for_function("document.querySelector('#compare canvas')?.width > 300")


def sides(page: Page) -> list[int]:
    """The frames that both sides show."""
    return page.evaluate("[...document.querySelectorAll('#compare canvas')].map(readNumber)")


def expect_frame(page: Page, number: int) -> None:
    """Both sides show a frame, and the slider its number."""
    page.wait_for_function("number => document.querySelector('#compare .seek').value == number", arg=number)
    page.wait_for_function(f"readNumber(document.querySelector('#compare canvas')) === {number}")
    assert sides(page) == [number, number]


def split(page: Page) -> float:
    return float(page.locator("#compare .divider").input_value()) / 100


# Frames


def test_both_sides_show_the_same_frame(open_page):
    page = open_page(DESKTOP)
    expect_frame(page, 0)
    play = page.get_by_role("button", name="Play")
    play.click()
    samples = np.array(page.evaluate(SAMPLE, 40))
    assert (samples[:, 0] == samples[:, 1]).all()
    assert len(set(samples[:, 0])) > 10
    page.get_by_role("button", name="Pause").click()
    expect(play).to_be_visible()
    assert len(set(sides(page))) == 1


def test_frame_by_frame(open_page):
    page = open_page(DESKTOP)
    forward, back = (page.get_by_role("button", name=f"{name} frame") for name in ("Next", "Previous"))
    for number in (1, 2, 3):
        forward.click()
        expect_frame(page, number)
    back.click()
    expect_frame(page, 2)
    for _ in range(6):  # faster than the browser seeks
        page.keyboard.press(".")
    expect_frame(page, 8)
    page.keyboard.press(",")
    expect_frame(page, 7)
    page.focus("#compare .seek")
    page.keyboard.press("End")
    expect_frame(page, NUM_FRAMES - 1)
    page.keyboard.press(".")  # there is none
    expect_frame(page, NUM_FRAMES - 1)
    page.keyboard.press("ArrowLeft")
    expect_frame(page, NUM_FRAMES - 2)
    expect(page.locator("#compare .time")).to_have_text("0:01.9 / 0:02.0")
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_speed_and_sound(open_page):
    page = open_page(DESKTOP)
    page.get_by_label("Speed").select_option("0.25")
    assert page.evaluate("document.querySelector('#compare video').playbackRate") == 0.25
    page.get_by_role("button", name="Mute").click()
    expect(page.get_by_role("button", name="Unmute")).to_be_visible()
    assert page.evaluate("document.querySelector('#compare video').muted")


def test_a_new_video_replaces_the_last_one(open_page):
    page = open_page(DESKTOP)
    page.get_by_label("View").select_option("after")
    page.get_by_label("Zoom").select_option("main")
    page.get_by_role("button", name="Next frame").click()
    expect_frame(page, 1)
    click(page, "Other")
    page.wait_for_function("document.querySelector('#compare .seek').max === '4'")
    expect_frame(page, 0)
    expect(page.locator("#compare .before canvas")).to_be_visible()
    expect(page.get_by_label("Zoom")).to_be_hidden()  # without faces
    assert split(page) == 0.5
    page.get_by_role("button", name="Next frame").click()
    expect_frame(page, 1)


@pytest.mark.parametrize("before", [None, "One"])
def test_a_video_that_cannot_be_played(open_page, before):
    page = open_page(DESKTOP, before)
    page.get_by_role("button", name="Broken").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot play the comparison")


# Divider, views and zoom


def test_divider(open_page):
    page = open_page(DESKTOP)
    expect_frame(page, 0)
    divider = page.get_by_role("slider", name="Divider")
    assert split(page) == pytest.approx(divider_start(FACES), abs=0.005)
    box = page.locator("#compare .views").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert split(page) == pytest.approx(0.25, abs=0.01)
    divider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert split(page) == pytest.approx(0.27, abs=0.01)
    assert page.evaluate("getComputedStyle(document.querySelector('#compare .after')).clipPath").endswith("27%)")
    for key, percent in (("Home", 0), ("End", 100)):
        page.keyboard.press(key)
        assert split(page) == percent / 100
        expect(divider).to_have_attribute("aria-valuetext", f"{percent} % before, {100 - percent} % restored")


def test_views(open_page):
    page = open_page(DESKTOP)
    before, after = (page.locator(f"#compare .{name} canvas") for name in ("before", "after"))
    page.get_by_label("View").select_option("side")
    one, other = before.bounding_box(), after.bounding_box()
    assert one
    assert other
    assert one["x"] + one["width"] <= other["x"]
    assert one["y"] == other["y"]
    page.get_by_label("View").select_option("after")
    expect(before).to_be_hidden()
    expect(after).to_be_visible()
    expect(page.locator("#compare .divider")).to_be_hidden()
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement?.matches('.comparison')")
    assert page.evaluate("document.documentElement.scrollHeight - innerHeight") <= 0
    page.get_by_role("button", name="Exit full screen").click()
    page.wait_for_function("!document.fullscreenElement")


def shown_part(page: Page) -> list[float]:
    """Left and right edge of the visible part, as shares of the width of the frame."""
    return page.evaluate(
        """() => { const canvas = document.querySelector("#compare canvas").getBoundingClientRect();
        const view = document.querySelector("#compare .view").getBoundingClientRect();
        return [view.left, view.right].map((edge) => (edge - canvas.left) / canvas.width); }"""
    )


def test_zoom_follows_the_face(open_page):
    page = open_page(DESKTOP)
    expect_frame(page, 0)
    page.get_by_label("Zoom").select_option("main")
    # The face is 0.4 high, so that it has half of the view at a zoom of 1.25; it is at the left edge.
    assert shown_part(page) == pytest.approx([0, 0.8], abs=0.01)
    assert split(page) == 0.5
    page.focus("#compare .seek")
    page.keyboard.press("End")
    expect_frame(page, NUM_FRAMES - 1)
    assert shown_part(page) == pytest.approx([0.1, 0.9], abs=0.01)
    page.get_by_label("Zoom").select_option(label="Face from 1.0 s")
    assert shown_part(page) == pytest.approx([0.6, 1.0], abs=0.01)
    page.get_by_label("Zoom").select_option("")
    assert shown_part(page) == pytest.approx([0, 1], abs=0.01)


def test_phone(open_page):
    page = open_page(PHONE, has_touch=True, is_mobile=True)
    expect_frame(page, 0)
    assert horizontal_overflow(page) <= 0
    small = page.evaluate(
        """[...document.querySelectorAll("#compare :is(button, select, input)")]
        .filter((node) => node.checkVisibility()).map((node) => node.getBoundingClientRect())
        .filter(({ width, height }) => width < 44 || height < 44).length"""
    )
    assert small == 0
    box = page.locator("#compare .views").bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2)
    assert split(page) == pytest.approx(0.7, abs=0.02)
    page.get_by_label("View").select_option("side")
    one, other = (page.locator(f"#compare .{name} canvas").bounding_box() for name in ("before", "after"))
    assert one
    assert other
    assert one["y"] + one["height"] <= other["y"]  # one above the other
    assert one["width"] > 300
    assert horizontal_overflow(page) <= 0


def test_keyboard(open_page):
    """The Tab key reaches every control, and shows where it is."""
    page = open_page(DESKTOP)
    expect_frame(page, 0)
    reached = []
    page.focus("#compare .comparison")
    for _ in range(10):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => { const node = document.activeElement;
            const shown = node.matches(".divider") ? node.parentElement : node;
            return [node.name || node.dataset.action || node.className, getComputedStyle(shown).outlineStyle]; }"""
        )
        reached.append(name)
        assert outline != "none", name
    assert reached == ["divider", "seek", "play", "back", "forward", "sound", "full", "view", "zoom", "speed"]


# Start of the divider


def test_divider_starts_where_both_versions_are_seen():
    assert divider_start(()) == 0.5

    def path(*lefts: float, width: float = 0.2, weight: float = 1.0) -> FacePath:
        boxes = [(left, 0.2, left + width, 0.5) for left in lefts]
        return FacePath(np.arange(len(lefts)), np.array(boxes), weight)

    assert divider_start((path(0.1, 0.1),)) == pytest.approx(0.2, abs=0.01)  # through the face
    assert divider_start((path(0.7),)) == pytest.approx(0.8, abs=0.01)
    # Never only before: the face moves to the left.
    start = divider_start((path(0.6, 0.5, 0.2),))
    assert 0.4 - start >= VISIBLE_SHARE * 0.2 - 1e-6
    # A face that was left as it is does not count.
    assert divider_start((path(0.7), path(0.1, width=0.4, weight=0.0))) == pytest.approx(0.8, abs=0.01)
    # Of two faces, one on each side
    assert 0.3 <= divider_start((path(0.1), path(0.7))) <= 0.7


def test_paths_are_those_of_the_report():
    boxes = {
        5: {7: np.array([10, 10, 30, 30]), 3: np.array([-10, 0, 50, 50])},
        0: {7: np.array([0, 10, 20, 30])},
    }
    report = {
        "tracks": [{"id": number, "strength": {"weight": weight}} for number, weight in ((3, 0.01), (7, 1), (9, 1))]
    }
    main, other = collect_paths(boxes, report, 100, 50)
    assert main.frames.tolist() == [0, 5]
    assert main.boxes.tolist() == [[0, 0.2, 0.2, 0.6], [0.1, 0.2, 0.3, 0.6]]
    assert (main.weight, other.weight) == (1, 0.01)
    assert other.boxes.tolist() == [[0, 0, 0.5, 1]]


def test_value_of_a_file(tmp_path):
    *_, both = write_pair(Path(tmp_path), 6, 30)
    value = comparison_value(both, autoplay=True)
    assert value["times"] == [round(index / 30, 6) for index in range(6)]
    assert value["has_sound"]
    assert value["autoplay"]
    assert value["faces"] == []


# Accessibility


def test_accessibility(open_page):
    page = open_page(DESKTOP)
    expect_frame(page, 0)
    violations = [violation for size in SIZES for scheme in SCHEMES for violation in check(page, size, scheme)]
    page.get_by_label("View").select_option("side")
    page.get_by_label("Zoom").select_option("main")
    page.get_by_role("button", name="Play").click()
    violations += check(page, "phone", "dark")
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement")
    for scheme in SCHEMES:
        violations += check(page, "desktop", scheme)
    assert not violations


def check(page: Page, size: str, scheme: str) -> list[str]:
    """What axe-core finds in the component."""
    with shown_as(page, size, scheme):
        violations = Axe().run(page, "#compare").response["violations"]
    return [describe_violation(violation, node) for violation in violations for node in violation["nodes"]]
