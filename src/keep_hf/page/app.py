"""The layout of the page, and the handlers of its events.

a video, a part of it ──> its faces ──> selection and options ──> restoration ──> comparison of before and after
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..options import AUTO
from ..pipeline import KeepPipeline
from .api import build_endpoints
from .backend import Backend
from .comparison import build_comparison
from .handlers import ALL_FACES, Handlers
from .limits import Limits
from .messages import status_html
from .requests import QUALITIES


HERE = Path(__file__).parent
# A portrait with synthetic motion and degradation, made by examples/page_example.py.
EXAMPLE = HERE / "example.mp4"
# Arguments of gradio.Blocks.launch.
LAUNCH_OPTIONS: dict[str, Any] = {
    "css": (HERE / "page.css").read_text(encoding="utf-8"),
    # Text has the contrast that WCAG AA requires.
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
FILE_LIFETIME = 3600  # seconds after which gradio may delete uploads and results
# One request at a time; the others wait in a queue that shows their position.
QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "networks"}
MAX_QUEUE_LENGTH = 16

ABOUT = """# Clear, steady faces

Upload a video with blurred, noisy or blocky faces. **keep_hf** finds all faces, restores them, and keeps them
consistent from frame to frame. The sound is kept.

A restored face is plausible, not evidence: its details are invented. Do not use it to identify people.
"""


@dataclass(frozen=True)
class InputComponents:
    """The video, its part, and the faces in it."""

    usable: gr.State  # whether the video can be read
    known: gr.State  # track numbers of the faces found
    video: gr.Video
    about: gr.HTML
    start: gr.Slider
    end: gr.Slider
    find: gr.Button
    frame: gr.Image
    portraits: gr.Image
    people: gr.CheckboxGroup

    def faces(self) -> list:
        """The components of [`FaceValues`]."""
        return [self.about, self.known, self.frame, self.portraits, self.people]


@dataclass(frozen=True)
class OptionComponents:
    """How the faces are restored."""

    fidelity: gr.Slider
    strength: gr.Dropdown
    upscale: gr.Dropdown
    quality: gr.Dropdown


@dataclass(frozen=True)
class ResultComponents:
    """Buttons, progress and results of a restoration."""

    preview: gr.Button
    run: gr.Button
    cancel: gr.Button
    status: gr.HTML
    cancelled: gr.HTML  # shown in place of the status
    compare: gr.HTML
    after: gr.DownloadButton
    both: gr.DownloadButton
    report: gr.DownloadButton

    def buttons(self) -> list:
        """The buttons that a request enables and disables."""
        return [self.preview, self.run, self.cancel]

    def state(self) -> list:
        """What the start and the cancellation of a request change."""
        return [self.status, self.cancelled, *self.buttons()]

    def values(self) -> list:
        """The components of [`ResultValues`]."""
        return [self.status, self.compare, self.after, self.both, self.report]


def build_demo(
    pipe: KeepPipeline, *, limits: Limits | None = None, on_gpu: Callable[..., Callable] | None = None
) -> gr.Blocks:
    """Build the page.

    Args:
        pipe ([`KeepPipeline`]): The pipeline, on its device.
        limits ([`Limits`], *optional*): Limits of a request.
        on_gpu (`Callable`, *optional*): How to borrow a GPU, see [`Backend`].

    Returns:
        `gr.Blocks`: To be launched with `demo.launch(**LAUNCH_OPTIONS)`.
    """
    backend = Backend(pipe, limits or Limits(), on_gpu)
    with gr.Blocks(
        title="keep_hf: clear, steady faces",
        analytics_enabled=False,
        # gradio checks every hour for uploads and results that are an hour old, and deletes them.
        delete_cache=(FILE_LIFETIME, FILE_LIFETIME),
    ) as demo:
        gr.Markdown(ABOUT)
        with gr.Row():
            with gr.Column():
                inputs = lay_out_input(backend.limits)
            with gr.Column():
                options = lay_out_options()
                results = lay_out_result()
        handlers = Handlers(backend)
        finding = connect_input(inputs, handlers)
        connect_result(inputs, options, results, handlers, finding)
        for endpoint in build_endpoints(backend):
            gr.api(endpoint, api_name=endpoint.__name__, **QUEUE)
    demo.queue(max_size=MAX_QUEUE_LENGTH)
    return demo


def lay_out_input(limits: Limits) -> InputComponents:
    """Lay out the left column: the video, its part, and its faces."""
    gr.Markdown("## 1. The video")
    video = gr.Video(sources=["upload", "webcam"], label="Your video", elem_id="video", buttons=[])
    gr.Markdown(f"{limits} Only you can see your video. It is deleted within two hours.", elem_id="limits")
    gr.Examples(
        [str(EXAMPLE)],
        video,
        cache_examples=False,
        label="No video at hand?",
        example_labels=["Use a portrait, 4 seconds"],
    )
    about = gr.HTML("", elem_id="about")
    gr.Markdown("## 2. The part, and its faces")
    with gr.Row():
        start = gr.Slider(0, 1, 0, step=0.1, label="From (seconds)", elem_id="start")
        end = gr.Slider(0, 1, 1, step=0.1, label="To (seconds)", elem_id="end")
    find = gr.Button("Find the faces", elem_id="find")
    hidden: dict[str, Any] = {"visible": False, "interactive": False, "buttons": []}
    return InputComponents(
        usable=gr.State(False),
        known=gr.State([]),
        video=video,
        about=about,
        start=start,
        end=end,
        find=find,
        frame=gr.Image(label="Faces in one frame", elem_id="frame", **hidden),
        portraits=gr.Image(label="All faces", elem_id="portraits", height=180, **hidden),
        people=gr.CheckboxGroup([], value=[], label="Faces to restore", info=ALL_FACES, elem_id="people"),
    )


STRENGTHS: list[tuple[str, str | float]] = [
    ("automatic", AUTO),
    ("100 %", 1.0),
    ("75 %", 0.75),
    ("50 %", 0.5),
    ("25 %", 0.25),
]


def lay_out_options() -> OptionComponents:
    """Lay out the options, at the top of the right column."""
    gr.Markdown("## 3. Options")
    with gr.Group():
        fidelity = gr.Slider(
            0,
            1,
            1,
            step=0.05,
            label="Closeness to the original",
            info="1 preserves identity; lower values invent more, for severely degraded faces.",
            elem_id="fidelity",
        )
        strength = gr.Dropdown(
            STRENGTHS,
            value=AUTO,
            label="Strength",
            info="Automatic: as much as each face needs. Lower values blend in the original.",
            elem_id="strength",
        )
        with gr.Row():
            upscale = gr.Dropdown(
                [("original size", 1), ("2 times", 2), ("3 times", 3), ("4 times", 4)],
                value=1,
                label="Enlarge",
                info="The whole image.",
                min_width=120,
                elem_id="upscale",
            )
            quality = gr.Dropdown(
                list(QUALITIES),
                value="good",
                label="File",
                info="Smaller, or better.",
                min_width=120,
                elem_id="quality",
            )
    return OptionComponents(fidelity, strength, upscale, quality)


def lay_out_result() -> ResultComponents:
    """Lay out the buttons, the progress and the result, below the options."""
    narrow: dict[str, Any] = {"min_width": 100}
    with gr.Row():
        preview = gr.Button("Try 3 seconds", elem_id="preview", **narrow)
        run = gr.Button("Restore", variant="primary", elem_id="run", **narrow)
        cancel = gr.Button("Cancel", variant="stop", elem_id="cancel", interactive=False, **narrow)
    status = gr.HTML("", elem_id="status")
    cancelled = gr.HTML(status_html("Cancelled."), elem_id="cancelled", visible=False)
    gr.Markdown("## 4. Before and after")
    compare = build_comparison(elem_id="compare")
    with gr.Row():
        hidden: dict[str, Any] = {"visible": False, **narrow}
        after = gr.DownloadButton("Save the video", variant="primary", elem_id="download", **hidden)
        both = gr.DownloadButton("Save side by side", elem_id="download-both", **hidden)
        report = gr.DownloadButton("Save the report", elem_id="download-report", **hidden)
    return ResultComponents(preview, run, cancel, status, cancelled, compare, after, both, report)


# Handlers are private, so the API has the two endpoints only. Some run at once, others wait in the queue.
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden"} | PRIVATE
QUEUED: dict[str, Any] = QUEUE | PRIVATE


def connect_input(inputs: InputComponents, handlers: Handlers) -> list:
    """Connect video, part and faces; returns the events that find faces."""
    faces, part = inputs.faces(), [inputs.video, inputs.start, inputs.end]
    changed = inputs.video.change(
        handlers.video_changed,
        inputs.video,
        [inputs.usable, inputs.start, inputs.end, *faces],
        show_progress="hidden",
        **PRIVATE,
    )
    gr.on([inputs.start.input, inputs.end.input], handlers.part_changed, None, faces, **AT_ONCE)
    shown: dict[str, Any] = {"outputs": faces, "show_progress": "minimal", "show_progress_on": inputs.about}
    return [
        changed.then(handlers.find_faces_in_new_video, [inputs.usable, *part], **shown, **QUEUED),
        inputs.find.click(handlers.find_faces, part, **shown, **QUEUED),
    ]


def connect_result(
    inputs: InputComponents, options: OptionComponents, results: ResultComponents, handlers: Handlers, finding: list
) -> None:
    """Connect the buttons; "Cancel" also ends the events of `finding`."""
    request = [inputs.video, inputs.known, inputs.start, inputs.end, inputs.people]
    request += [options.fidelity, options.strength, options.upscale, options.quality]
    buttons = results.buttons()
    running = []
    for button, handler in ((results.preview, handlers.preview), (results.run, handlers.restore_part)):
        started = button.click(handlers.request_started, None, results.state(), **AT_ONCE)
        work = started.then(
            handler,
            request,
            results.values(),
            show_progress="minimal",
            show_progress_on=results.status,
            **QUEUED,
        )
        work.then(handlers.request_ended, None, buttons, **AT_ONCE)
        running.append(work)
    results.cancel.click(handlers.request_cancelled, None, results.state(), cancels=finding + running, **AT_ONCE)
