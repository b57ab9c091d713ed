"""The part of the page for several videos at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ..jobs.clients import client_of
from ..jobs.service import JobService
from ..messages import error_html, status_html
from ..requests import RestorationRequest
from ..results.restore_several import RestoredVideos, describe_failures, restore_several
from .layout import NARROW, Components


PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def add_several(components: Components, service: JobService) -> None:
    """Lay out the components for several videos, and connect their events.

    Args:
        components ([`Components`]): The components of the page, of which the options are used.
        service ([`JobService`]): The jobs.
    """
    with gr.Accordion("Several videos at once", open=False, elem_id="several"):
        gr.Markdown(
            f"Whole videos, one after the other, with the options above, of at most {service.limits.megabytes} MB "
            "together. Keep this page open. A video that fails does not stop the others."
        )
        files = gr.File(file_count="multiple", file_types=["video"], label="Your videos", elem_id="several-files")
        with gr.Row():
            run = gr.Button("Restore all videos", variant="primary", elem_id="several-run", **NARROW)
            cancel = gr.Button("Cancel", variant="stop", elem_id="several-cancel", interactive=False, **NARROW)
        status = gr.HTML("", elem_id="several-status")
        archive = gr.DownloadButton(
            "Save all as a ZIP file", variant="primary", visible=False, elem_id="several-download"
        )
    outputs = [status, archive, run, cancel]

    def restore_files(videos: list[str] | None, request: gr.Request, *options: Any) -> Iterator[tuple]:
        try:
            paths = [Path(video) for video in videos or ()]
            for step in restore_several(
                service, client_of(request), paths, RestorationRequest(0.0, float("inf"), (), *options)
            ):
                if isinstance(step, RestoredVideos):
                    saved = gr.update(value=str(step.archive), visible=True)
                    yield status_html(describe_result(step)), saved, *_idle()
                else:
                    yield status_html(step), gr.update(visible=False), *_busy()
        except Exception as error:
            yield error_html(error, None), gr.skip(), *_idle()

    settings = [components.fidelity, components.strength, components.upscale, components.quality]
    work = run.click(restore_files, [files, *settings], outputs, concurrency_limit=None, **PRIVATE)
    cancel.click(
        lambda: (status_html("Cancelled."), gr.skip(), *_idle()),
        None,
        outputs,
        cancels=[work],
        queue=False,
        **PRIVATE,
    )


def describe_result(result: RestoredVideos) -> str:
    """What was restored, and why the others were not."""
    videos = "1 video" if result.num_videos == 1 else f"{result.num_videos} videos"
    text = f"Done: {videos} restored."
    return f"{text} Not restored: {describe_failures(result.failures)}" if result.failures else text


def _busy() -> tuple[Any, Any]:
    return gr.update(interactive=False), gr.update(interactive=True)


def _idle() -> tuple[Any, Any]:
    return gr.update(interactive=True), gr.update(interactive=False)
