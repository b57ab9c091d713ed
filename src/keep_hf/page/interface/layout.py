"""The components of the page, in one column: video, part, faces, options, buttons, result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ...options import AUTO
from ..comparison import build_comparison
from ..examples import EXAMPLES
from ..limits import Limits
from ..requests import QUALITIES
from .browser_copy import build_browser_copy


HERE = Path(__file__).parent
NARROW: dict[str, Any] = {"min_width": 100}

# Closeness to the original and strength of each preset.
PRESETS: dict[str, tuple[float, float | str]] = {
    "Faithful": (1.0, AUTO),
    "Balanced": (0.7, AUTO),
    "Strong": (0.4, 1.0),
}
STRENGTHS: list[tuple[str, str | float]] = [
    ("automatic", AUTO),
    ("100 %", 1.0),
    ("75 %", 0.75),
    ("50 %", 0.5),
    ("25 %", 0.25),
]


@dataclass(frozen=True)
class Components:
    """The components that events read and change.

    Attributes:
        session: Id of the session; the browser takes it from its address.
        shown: What the browser shows of the session, see [`Renderer`].
        timer: Asks for changes.
        example: An example before and after restoration, until there is a video.
        video, copy, about: The video, its copy if browsers do not play it, and a line about it.
        start, end: The part, in seconds.
        found, find, faces: How far the search is, a button to repeat it, and the people.
        preset, fidelity, strength, upscale, quality: How the faces are restored.
        preview, run, cancel, estimate, status: The buttons, the time of the whole job, and how far it is.
        result, compare, after, both, report, data: The result; the report as a page and as JSON.
    """

    session: gr.Textbox
    shown: gr.Textbox
    timer: gr.Timer
    example: gr.HTML
    video: gr.Video
    copy: gr.HTML
    about: gr.HTML
    start: gr.Slider
    end: gr.Slider
    found: gr.HTML
    find: gr.Button
    faces: gr.HTML
    preset: gr.Radio
    fidelity: gr.Slider
    strength: gr.Dropdown
    upscale: gr.Dropdown
    quality: gr.Dropdown
    preview: gr.Button
    run: gr.Button
    cancel: gr.Button
    estimate: gr.HTML
    status: gr.HTML
    result: gr.HTML
    compare: gr.HTML
    after: gr.DownloadButton
    both: gr.DownloadButton
    report: gr.DownloadButton
    data: gr.DownloadButton

    def rendered(self) -> list:
        """What [`Renderer`] changes."""
        return [
            *(
                self.shown,
                self.timer,
                self.about,
                self.start,
                self.end,
                self.example,
                self.found,
                self.find,
                self.faces,
            ),
            *(self.preview, self.run, self.cancel, self.estimate, self.status),
            *(self.result, self.compare, self.after, self.both, self.report, self.data),
        ]

    def choice(self) -> list:
        """What the choice of a video or a part sends."""
        return [self.session, self.shown, self.video, self.start, self.end, self.faces]

    def request(self) -> list:
        """What a click on "Restore" sends: all that the job needs."""
        return [*self.choice(), self.fidelity, self.strength, self.upscale, self.quality]


def lay_out(limits: Limits, example: dict[str, Any]) -> Components:
    """Lay out all components.

    Args:
        limits ([`Limits`]): Limits of a request, for the text about them.
        example (`dict`): The example that is shown first, from [`comparison_value`].
    """
    return Components(
        session=gr.Textbox("", visible=False),
        shown=gr.Textbox("", visible=False),
        timer=gr.Timer(3.0),
        example=build_comparison(example, elem_id="example"),
        **_lay_out_input(limits),
        **_lay_out_options(),
        **_lay_out_run(),
        **_lay_out_result(),
    )


def _lay_out_input(limits: Limits) -> dict[str, Any]:
    video = gr.Video(sources=["upload", "webcam"], label="Your video", elem_id="video", buttons=[])
    copy = build_browser_copy()
    gr.Markdown(f"{limits} Only you can see your video. It is deleted after an hour without use.", elem_id="limits")
    gr.Examples(
        [str(example.path) for example in EXAMPLES],
        video,
        cache_examples=False,
        label="No video at hand? Try one of these",
        example_labels=[example.title for example in EXAMPLES],
        elem_id="examples",
    )
    about = gr.HTML("", elem_id="about")
    with gr.Row():
        start = gr.Slider(0, 1, 0, step=0.1, label="From (seconds)", elem_id="start")
        end = gr.Slider(0, 1, 1, step=0.1, label="To (seconds)", elem_id="end")
    return {
        "video": video,
        "copy": copy,
        "about": about,
        "start": start,
        "end": end,
        "found": gr.HTML("", elem_id="found"),
        "find": gr.Button("Find the faces", visible=False, elem_id="find"),
        "faces": _custom("faces", None),
    }


def _lay_out_options() -> dict[str, Any]:
    preset = gr.Radio(
        list(PRESETS),
        value="Faithful",
        label="How much to change",
        info="Faithful preserves identity. Strong invents more, for severely degraded faces.",
        elem_id="preset",
    )
    with gr.Accordion("More options", open=False, elem_id="options"):
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
    return {"preset": preset, "fidelity": fidelity, "strength": strength, "upscale": upscale, "quality": quality}


def _lay_out_run() -> dict[str, Any]:
    estimate = gr.HTML("", elem_id="estimate")
    with gr.Row():
        preview = gr.Button("Try 3 seconds", elem_id="preview", **NARROW)
        run = gr.Button("Restore", variant="primary", elem_id="run", **NARROW)
        cancel = gr.Button("Cancel", variant="stop", elem_id="cancel", interactive=False, **NARROW)
    status = gr.HTML("", elem_id="status")
    return {"preview": preview, "run": run, "cancel": cancel, "estimate": estimate, "status": status}


def _lay_out_result() -> dict[str, Any]:
    result = _custom("result", None)
    compare = build_comparison(elem_id="compare", visible=False)
    with gr.Row():
        hidden: dict[str, Any] = {"visible": False, **NARROW}
        after = gr.DownloadButton("Save the video", variant="primary", elem_id="download", **hidden)
        both = gr.DownloadButton("Save side by side", elem_id="download-both", **hidden)
        report = gr.DownloadButton("Save the report", elem_id="download-report", **hidden)
        data = gr.DownloadButton("Save the report as JSON", elem_id="download-data", **hidden)
    return {"result": result, "compare": compare, "after": after, "both": both, "report": report, "data": data}


def _custom(name: str, value: Any) -> gr.HTML:
    """A component with a template, a style and a script of its own."""
    template, style, script = (
        (HERE / f"{name}.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js")
    )
    return gr.HTML(value, html_template=template, css_template=style, js_on_load=script, elem_id=name)
