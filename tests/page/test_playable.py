"""Which uploads browsers play, and the copies of the others, in a real browser."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from keep_hf.page.clips import browsers_play, cut_clip, probe
from media import packets, times, write_clip
from page_steps import DESKTOP, TIMEOUT, clear, expect_text, frames, upload
from portraits import FRAME_RATE


pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


# name, codec, pixel format, audio codec, whether all browsers play it
FORMATS = [
    ("h264.mp4", "libx264", "yuv420p", "aac", True),
    ("vp9.webm", "libvpx-vp9", "yuv420p", "libopus", True),
    ("h264.mov", "libx264", "yuv420p", None, True),
    ("mpeg4.avi", "mpeg4", "yuv420p", "mp3", False),
    ("hevc.mp4", "libx265", "yuv420p10le", "aac", False),
    ("deep.mp4", "libx264", "yuv420p10le", None, False),
    ("full.mp4", "libx264", "yuv444p", None, False),
    ("prores.mov", "prores_ks", "yuv422p10le", "pcm_s16le", False),
    ("h264.avi", "libx264", "yuv420p", None, False),
    ("lossless.mkv", "ffv1", "yuv420p", "flac", False),
]
# Loads a video in the page, and returns its width; 0 if the browser cannot play it.
LOAD = """async (url) => {
  const video = document.createElement("video");
  video.src = url;
  document.body.append(video);
  await new Promise((done) => { video.oncanplay = video.onerror = done; });
  return video.videoWidth;
}"""


def loaded_width(browser: Browser, path: Path) -> int:
    page = browser.new_page()
    page.route("http://page.test/", lambda route: route.fulfill(body="<p>", content_type="text/html"))
    page.route("http://page.test/video", lambda route: route.fulfill(path=path, content_type="video/mp4"))
    page.goto("http://page.test/")
    width = page.evaluate(LOAD, "http://page.test/video")
    page.close()
    return width


@pytest.mark.parametrize(("name", "codec", "pixel_format", "audio_codec", "is_played"), FORMATS)
def test_what_browsers_cannot_play_gets_a_copy(browser, tmp_path, name, codec, pixel_format, audio_codec, is_played):
    images = [np.full((400, 800, 3), 30 * index, np.uint8) for index in range(5)]
    source = write_clip(
        tmp_path / name, images=images, codec=codec, pixel_format=pixel_format, audio_codec=audio_codec
    )
    assert browsers_play(source) == is_played
    if is_played:
        assert loaded_width(browser, source) == 800
        return
    copy = tmp_path / "copy.mp4"
    assert list(cut_clip(source, copy, is_copy=True)) == [1, 2, 3, 4, 5]
    assert browsers_play(copy)
    assert loaded_width(browser, copy) == 720
    assert len(times(copy)) == len(times(source))
    if audio_codec:
        assert packets(copy, "audio")


def test_a_copy_is_of_the_part_and_not_larger_than_it(tmp_path):
    source = write_clip(tmp_path / "in.avi", num_frames=50, codec="mpeg4")
    list(cut_clip(source, tmp_path / "copy.mp4", 0.4, 1.2, is_copy=True))
    clip = probe(tmp_path / "copy.mp4")
    assert (clip.num_frames, clip.width, clip.height) == (20, 96, 64)


def test_no_video(tmp_path):
    (tmp_path / "text.mp4").write_text("text")
    with pytest.raises(ValueError, match="is not a video"):
        browsers_play(tmp_path / "text.mp4")


def test_the_page_shows_the_copy(open_page, two_people, tmp_path):
    """An MPEG-4 in AVI is an empty box in the browser; another part has another copy, another video none."""
    images = list(frames(two_people).astype(np.uint8))
    recording = write_clip(tmp_path / "camera.avi", images=images, frame_rate=FRAME_RATE, codec="mpeg4")
    page = open_page(DESKTOP)
    upload(page, recording)
    copy = page.locator("#copy video")
    page.wait_for_function("document.querySelector('#copy video')?.videoWidth > 200")
    expect_text(page, "copy", "this is a small copy of the part")
    expect(page.locator("#video video")).to_be_hidden(timeout=TIMEOUT)
    first = copy.get_attribute("src")
    expect_text(page, "found", "Found 2 people.")
    end = page.get_by_label("number input for To (seconds)")
    end.fill("1")
    end.press("Tab")
    expect(copy).not_to_have_attribute("src", first or "", timeout=TIMEOUT)
    page.wait_for_function("document.querySelector('#copy video')?.duration < 1.2")
    page.reload()
    page.wait_for_function("document.querySelector('#copy video')?.duration < 1.2")
    clear(page)
    expect(copy).to_have_count(0, timeout=TIMEOUT)
    upload(page, two_people)
    expect_text(page, "found", "Found 2 people.")
    expect(page.locator("#video video")).to_be_visible(timeout=TIMEOUT)
    expect(copy).to_have_count(0, timeout=TIMEOUT)
