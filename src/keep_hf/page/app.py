"""The page itself: what is on it, and which action follows what.

a video, a part of it ──> who is there ──> whom, and how ──> three seconds, or all ──> before and after, to compare
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ..pipeline import KeepPipeline
from .actions import EVERYBODY, Actions
from .api import make_endpoints
from .limits import Limits
from .work import QUALITIES, Studio


HERE = Path(__file__).parent
# A portrait of ours; examples/page_example.py makes it.
EXAMPLE = HERE / "example.mp4"
# What launch() takes: gradio wants the looks there.
PAGE: dict[str, Any] = {
    "css": (HERE / "page.css").read_text(encoding="utf-8"),
    # Dark enough against their background to be read (WCAG AA).
    "theme": gr.themes.Default(primary_hue="blue").set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_label_text_color="*neutral_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_cancel_background_fill="*neutral_700",
        button_cancel_background_fill_dark="*neutral_700",
        button_cancel_background_fill_hover="*neutral_800",
        button_cancel_background_fill_hover_dark="*neutral_800",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
    ),
    "footer_links": ["api"],
}
KEPT_SECONDS = 3600  # after an hour nobody comes back for a result
# One person's work at a time; the others wait in a queue that shows their place.
QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "networks"}
MAX_WAITING = 16

ABOUT = """# Clear, steady faces

Upload a video in which faces are blurred, noisy or full of blocks. **keep_hf** finds everybody, makes their faces
clear and keeps them the same from frame to frame. The sound stays.

A restored face is a likely face, not evidence: details are invented. Do not use it to identify anybody.
"""


def build_demo(
    pipe: KeepPipeline, *, limits: Limits | None = None, on_gpu: Callable[..., Callable] | None = None
) -> gr.Blocks:
    """Build the page.

    Args:
        pipe ([`KeepPipeline`]): On the device where it is to run.
        limits ([`Limits`], *optional*): What is refused as too much.
        on_gpu (`Callable`, *optional*): How to borrow a GPU, see [`Studio`].

    Returns:
        `gr.Blocks`: to be launched with `demo.launch(**PAGE)`.
    """
    studio = Studio(pipe, limits or Limits(), on_gpu)
    with gr.Blocks(
        title="keep_hf: clear, steady faces",
        analytics_enabled=False,
        # gradio removes uploads and results of its own accord, looking every hour for those that are an hour old.
        delete_cache=(KEPT_SECONDS, KEPT_SECONDS),
    ) as demo:
        gr.Markdown(ABOUT)
        with gr.Row():
            with gr.Column():
                parts = lay_out_input(studio.limits)
            with gr.Column():
                parts |= lay_out_options() | lay_out_result()
        connect(parts, Actions(studio))
        for name, function in make_endpoints(studio).items():
            gr.api(function, api_name=name, **QUEUE)
    demo.queue(max_size=MAX_WAITING)
    return demo


def lay_out_input(limits: Limits) -> dict[str, Any]:
    """The video, its part, and who is in it."""
    parts: dict[str, Any] = {"usable": gr.State(False), "known": gr.State([])}
    gr.Markdown("## 1. The video")
    parts["video"] = gr.Video(sources=["upload", "webcam"], label="Your video", elem_id="video", buttons=[])
    gr.Markdown(f"{limits} Nobody else sees your video; it is deleted after an hour or two.", elem_id="limits")
    gr.Examples(
        [str(EXAMPLE)],
        parts["video"],
        cache_examples=False,
        label="No video at hand?",
        example_labels=["Take a portrait, 4 seconds"],
    )
    parts["about"] = gr.HTML("", elem_id="about")
    gr.Markdown("## 2. The part, and who is in it")
    with gr.Row():
        parts["start"] = gr.Slider(0, 1, 0, step=0.1, label="From (seconds)", elem_id="start")
        parts["end"] = gr.Slider(0, 1, 1, step=0.1, label="To (seconds)", elem_id="end")
    parts["find"] = gr.Button("Find the faces", elem_id="find")
    hidden: dict[str, Any] = {"visible": False, "interactive": False, "buttons": []}
    parts["frame"] = gr.Image(label="Who is there", elem_id="frame", **hidden)
    parts["portraits"] = gr.Image(label="Everybody", elem_id="portraits", height=180, **hidden)
    parts["people"] = gr.CheckboxGroup([], value=[], label="Whom to restore", info=EVERYBODY, elem_id="people")
    return parts


def lay_out_options() -> dict[str, Any]:
    """How the faces are to be restored."""
    parts: dict[str, Any] = {}
    gr.Markdown("## 3. How")
    with gr.Group():
        parts["fidelity"] = gr.Slider(
            0,
            1,
            1,
            step=0.05,
            label="Closeness to the original",
            info="1 keeps the person; lower invents more, for faces that are nearly lost.",
            elem_id="fidelity",
        )
        parts["strength"] = gr.Slider(
            0, 1, 1, step=0.05, label="Strength", info="Lower mixes some of the original back in.", elem_id="strength"
        )
        with gr.Row():
            parts["upscale"] = gr.Dropdown(
                [("as it is", 1), ("2 times", 2), ("3 times", 3), ("4 times", 4)],
                value=1,
                label="Enlarge",
                info="The whole picture.",
                min_width=120,
                elem_id="upscale",
            )
            parts["quality"] = gr.Dropdown(
                list(QUALITIES),
                value="good",
                label="File",
                info="Smaller, or better.",
                min_width=120,
                elem_id="quality",
            )
    return parts


def lay_out_result() -> dict[str, Any]:
    """What sets it going, how far it is, and what comes of it."""
    parts: dict[str, Any] = {}
    with gr.Row():
        narrow: dict[str, Any] = {"min_width": 100}
        parts["preview"] = gr.Button("Try 3 seconds", elem_id="preview", **narrow)
        parts["run"] = gr.Button("Restore", variant="primary", elem_id="run", **narrow)
        parts["cancel"] = gr.Button("Cancel", variant="stop", elem_id="cancel", interactive=False, **narrow)
    parts["status"] = gr.HTML("", elem_id="status")
    gr.Markdown("## 4. Before and after")
    parts["compare"] = gr.HTML(
        None,
        html_template=(HERE / "compare.html").read_text(encoding="utf-8"),
        css_template=(HERE / "compare.css").read_text(encoding="utf-8"),
        js_on_load=(HERE / "compare.js").read_text(encoding="utf-8"),
        elem_id="compare",
    )
    with gr.Row():
        hidden: dict[str, Any] = {"visible": False, **narrow}
        parts["after"] = gr.DownloadButton("Save the video", variant="primary", elem_id="download", **hidden)
        parts["both"] = gr.DownloadButton("Save side by side", elem_id="download-both", **hidden)
        parts["report"] = gr.DownloadButton("Save the report", elem_id="download-report", **hidden)
    return parts


def connect(parts: dict[str, Any], actions: Actions) -> None:
    """Say which action follows what."""

    def named(names: str) -> list:
        return [parts[name] for name in names.split()]

    quiet: dict[str, Any] = {"api_visibility": "private"}
    at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden"} | quiet
    in_turn: dict[str, Any] = QUEUE | quiet

    who = named("about known frame portraits people")
    arrived = parts["video"].change(
        actions.arrive, parts["video"], named("usable start end") + who, show_progress="hidden", **quiet
    )
    # The numbers of people are those of one part.
    gr.on([parts["start"].input, parts["end"].input], actions.forget, None, who, **at_once)
    seen = {"outputs": who, "show_progress": "minimal", "show_progress_on": parts["about"]}
    finding = [
        arrived.then(actions.look_on_arrival, named("usable video start end"), **seen, **in_turn),
        parts["find"].click(actions.look, named("video start end"), **seen, **in_turn),
    ]

    asked = named("video known start end people fidelity strength upscale quality")
    shown = {
        "outputs": named("status compare after both report"),
        "show_progress": "minimal",
        "show_progress_on": parts["status"],
    }
    running = []
    for name, action in (("preview", actions.preview), ("run", actions.work)):
        begun = parts[name].click(actions.begin, None, named("status preview run cancel"), **at_once)
        running.append(begun.then(action, asked, **shown, **in_turn))
        running[-1].then(actions.end, None, named("preview run cancel"), **at_once)
    parts["cancel"].click(
        actions.cancel, None, named("status preview run cancel"), cancels=finding + running, **at_once
    )
