"""The report as an HTML page: what it shows, and that a browser shows it well."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from accessibility import SCHEMES, SIZES, find_violations
from browser import horizontal_overflow, open_browser
from conftest import make_components
from keep_hf import KeepPipeline, VideoReader
from keep_hf.restoration.report.report_page import describe_video, render_report
from keep_hf.restoration.report.thumbnails import crop_square
from portraits import write_people


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict[str, Any]:
    """The report of a real run with small untrained networks, which change a face strongly."""
    folder = tmp_path_factory.mktemp("report")
    pipe = KeepPipeline(
        **make_components(), detector=KeepPipeline.from_pretrained("keep-tiny").detector, gain_window=4
    )
    source = write_people(folder / 'a <b>"clip".mp4', 6)
    return pipe.restore_video(source, folder / "out.mp4", strength=1.0, upscale=2)


@pytest.fixture(scope="module")
def page(report) -> str:
    return render_report([describe_video(report, Path(report["source"]), Path(report["target"]))])


def images(page: str) -> list[np.ndarray]:
    data = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(text)))) for text in data]


def test_the_page_shows_everyone_before_and_after(page, report):
    assert re.findall(r"<h4>(.*?)</h4>", page) == ["Person 1", "Person 2"]
    assert page.count('<span class="outcome restored">Restored.</span>') == 2
    before, after, *others = images(page)
    assert len(others) == 2
    assert before.shape == after.shape == (160, 160, 3)
    # The first thumbnail is the face of the first person in the source; the second one is the restored face.
    clearest = report["tracks"][0]["clearest"]
    with VideoReader(report["source"]) as reader:
        frames = [frame.image for frame in reader]
    expected = crop_square(frames[clearest["frame"]], np.array(clearest["box"]))
    assert np.abs(before.astype(int) - expected).mean() < 5
    assert np.abs(before.astype(int) - after)[40:-40, 40:-40].mean() > 5
    # Beside the face both show the same place, although the result is enlarged.
    assert np.abs(before[:10].astype(int) - after[:10]).mean() < 10


def test_names_are_escaped_and_nothing_is_loaded(page):
    assert "<b>" not in page
    assert "a &lt;b&gt;&#34;clip&#34;.mp4" in page
    assert not re.findall(r"https?://|<script|<link|url\(", page)


def test_videos_that_failed_are_listed(report):
    section = describe_video(report, Path(report["source"]), Path(report["target"]))
    page = render_report([section, section], {"<i>.mp4": "It is empty."})
    assert "<strong>&lt;i&gt;.mp4</strong>: It is empty." in page
    assert "<h1>Restoration report: 3 videos</h1>" in page


def test_a_video_without_faces(report):
    empty = report | {"tracks": [], "warnings": [f"{report['source']} is truncated."]}
    page = render_report([describe_video(empty, Path(report["source"]), Path(report["target"]))])
    assert "No faces were found" in page
    assert not images(page)
    assert "<li>a &lt;b&gt;&#34;clip&#34;.mp4 is truncated.</li>" in page  # without the folder
    assert str(Path(report["source"]).parent) not in page


def test_the_page_in_a_browser(page):
    with open_browser() as browser:
        for scheme in SCHEMES:
            for size in SIZES.values():
                opened = browser.new_page(viewport=size, color_scheme=scheme)
                opened.set_content(page)
                opened.locator("summary").click()
                assert not find_violations(opened)
                assert horizontal_overflow(opened) == 0
                assert opened.evaluate("[...document.images].every((image) => image.naturalWidth === 160)")
                opened.close()
