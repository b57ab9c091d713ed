"""Whether the comparison of the page shows the same frame before and after, in Chromium.

    python -m benchmarks.frame_lock

Both videos carry the number of each frame as coloured blocks, which are read back from what is drawn while the
comparison plays. The same is measured with two `<video>` elements, of which one follows the other. Each line has the
frame rate, the share of samples without a difference, the largest difference in frames, and the number of different
frames that were seen. The exit code is 0 if the component showed no difference in 99 % of the samples.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import av
import cv2
import gradio as gr
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from playwright.sync_api import Page, sync_playwright

from keep_hf.page.clips import write_side_by_side
from keep_hf.page.comparison import build_comparison, comparison_value


NUM_BITS = 10
COLOURS = ((200, 40, 40), (40, 200, 40))  # of a bit that is 0 or 1
WIDTH, HEIGHT = 640, 360

# Reads the number of the frame that a canvas shows.
READ_NUMBER = f"""() => {{ window.readNumber = (canvas) => {{
  const {{ width, height }} = canvas, row = canvas.getContext("2d").getImageData(0, height / 4, width, 1).data;
  let number = 0;
  for (let bit = 0; bit < {NUM_BITS}; bit += 1) {{
    const x = 4 * Math.floor((bit + 0.5) * width / {NUM_BITS});
    if (row[x + 1] > row[x]) number |= 1 << bit;
  }}
  return number;
}}; }}"""
# Returns the numbers of both sides for every animation frame in which one of them has changed.
SAMPLE = """async (count) => {
  const canvases = [...document.querySelectorAll("canvas")], samples = [];
  let last = "";
  while (samples.length < count) {
    await new Promise(requestAnimationFrame);
    window.drawSides?.();
    const numbers = canvases.map(readNumber);
    if (String(numbers) !== last) samples.push(numbers);
    last = String(numbers);
  }
  return samples;
}"""
# Two elements; the second one follows the first by small changes of speed.
TWO_VIDEOS = """async ([width, height, ...urls]) => {
  document.body.innerHTML = urls.map((url) =>
    `<video src="${url}" muted loop></video><canvas width="${width}" height="${height}"></canvas>`).join("");
  const videos = [...document.querySelectorAll("video")], canvases = [...document.querySelectorAll("canvas")];
  await Promise.all(videos.map((video) => video.play()));
  window.drawSides = () => {
    const drift = videos[1].currentTime - videos[0].currentTime;
    if (Math.abs(drift) > 0.25) videos[0].currentTime = videos[1].currentTime;
    videos[0].playbackRate = Math.abs(drift) > 0.01 ? 1 + Math.max(-0.3, Math.min(0.3, drift)) : 1;
    canvases.forEach((canvas, index) => canvas.getContext("2d").drawImage(videos[index], 0, 0, width, height));
  };
}"""


def draw_number(number: int, brightness: int) -> np.ndarray:
    """A grey image, uint8 RGB, with a number in its upper half, the lowest bit on the left."""
    image = np.full((HEIGHT, WIDTH, 3), brightness, np.uint8)
    width = WIDTH // NUM_BITS
    for bit in range(NUM_BITS):
        image[: HEIGHT // 2, bit * width : (bit + 1) * width] = COLOURS[number >> bit & 1]
    return image


def write_numbers(path: Path, num_frames: int, frame_rate: int, brightness: int) -> Path:
    """Write a video with sound whose frames have the numbers from 0 on."""
    with av.open(str(path), "w") as output:
        video = cast(VideoStream, output.add_stream("libx264", rate=frame_rate, options={"preset": "ultrafast"}))
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = cast(AudioStream, output.add_stream("aac", rate=48000))
        for number in range(num_frames):
            output.mux(video.encode(av.VideoFrame.from_ndarray(draw_number(number, brightness), format="rgb24")))
        output.mux(video.encode(None))
        silence = np.zeros((2, 48000 * num_frames // frame_rate), np.float32)
        sound = av.AudioFrame.from_ndarray(silence, format="fltp", layout="stereo")
        sound.sample_rate = 48000
        output.mux([*audio.encode(sound), *audio.encode(None)])
    return path


def write_pair(folder: Path, num_frames: int, frame_rate: int) -> tuple[Path, Path, Path]:
    """Write two numbered videos, and both side by side as the page does."""
    before, after = (
        write_numbers(folder / f"{name} {frame_rate}.mp4", num_frames, frame_rate, brightness)
        for name, brightness in (("before", 60), ("after", 180))
    )
    both = folder / f"both {frame_rate}.mp4"
    for _ in write_side_by_side(before, after, both):
        pass
    return before, after, both


@contextmanager
def serve(both: Path) -> Iterator[str]:
    """A page with nothing but the comparison; yields its address."""
    with gr.Blocks() as demo:
        build_comparison(comparison_value(both), elem_id="compare")
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, allowed_paths=[str(both.parent)])
    yield url
    demo.close()


def play(page: Page, url: str) -> None:
    """Open the comparison and play it."""
    page.goto(url)
    page.wait_for_selector("#compare canvas")
    page.wait_for_function("document.querySelector('#compare video').readyState === 4")
    page.evaluate(READ_NUMBER)
    page.click("#compare [data-action=play]")


def sample(page: Page, count: int) -> np.ndarray:
    """The numbers of both sides, `(count, 2)`."""
    return np.array(page.evaluate(SAMPLE, count))


def sample_screenshots(page: Page, count: int) -> np.ndarray:
    """The numbers of both sides in screenshots, `(count, 2)`."""
    page.select_option("#compare [name=view]", "side")
    places = [page.locator("#compare canvas").nth(index).bounding_box() for index in range(2)]
    numbers = []
    for _ in range(count):
        png = np.frombuffer(page.screenshot(), np.uint8)
        image = cv2.imdecode(png, cv2.IMREAD_COLOR_RGB)
        assert image is not None
        pair = []
        for place in places:
            assert place is not None
            y = round(place["y"] + place["height"] / 4)
            xs = [round(place["x"] + (bit + 0.5) * place["width"] / NUM_BITS) for bit in range(NUM_BITS)]
            pair.append(sum(int(image[y, x, 1] > image[y, x, 0]) << bit for bit, x in enumerate(xs)))
        numbers.append(pair)
    return np.array(numbers)


def show(name: str, numbers: np.ndarray) -> float:
    """Print a line about samples, and return the share without a difference."""
    differences = np.abs(numbers[:, 0] - numbers[:, 1])
    share = float((differences == 0).mean())
    print(f"{name:<42} {100 * share:6.1f} %  {differences.max():4d} frames  {len(set(numbers[:, 0])):4d} seen")
    return share


def main() -> int:
    """Measure at all frame rates."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=300, help="samples per frame rate, and frames of the videos")
    parser.add_argument("--rates", type=int, nargs="+", default=[25, 30, 60], help="frames per second")
    arguments = parser.parse_args()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    shares = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        for rate in arguments.rates:
            before, after, both = write_pair(Path(folder), arguments.frames, rate)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            with serve(both) as url:
                play(page, url)
                shares.append(show(f"{rate} per second, component", sample(page, arguments.frames)))
                shares.append(show(f"{rate} per second, component, screenshots", sample_screenshots(page, 20)))
                urls = [f"{url}gradio_api/file={path}" for path in (before, after)]
                page.evaluate(TWO_VIDEOS, [WIDTH, HEIGHT, *urls])
                show(f"{rate} per second, two elements", sample(page, arguments.frames))
            page.close()
        browser.close()
    return 0 if min(shares) >= 0.99 else 1


if __name__ == "__main__":
    sys.exit(main())
