"""The part of the page for several videos at once."""

from pathlib import Path
from typing import Any

import gradio as gr

from ..jobs.clients import client_of
from ..jobs.service import JobService
from ..messages import error_html, error_line, status_html
from ..requests import RestorationRequest
from ..results.restore_several import RestoredVideos, describe_failures
from ..results.session_batches import CANCELLED, BatchView, SessionBatches
from .events import AT_ONCE, WRITE_SESSION
from .layout import NARROW, Components


def add_several(components: Components, service: JobService) -> None:
    """Lay out the components for several videos, and connect their events.

    Args:
        components ([`Components`]): The components of the page, of which session, timer and options are used.
        service ([`JobService`]): The jobs.
    """
    shown = gr.Textbox("", visible=False)  # the status that the browser shows
    with gr.Accordion("Several videos at once", open=False, elem_id="several") as part:
        gr.Markdown(
            f"Whole videos, one after the other, with the options above, of at most {service.limits.megabytes} MB "
            "together. The page can be closed meanwhile: its address shows the progress and the results. A video that "
            "fails does not stop the others."
        )
        files = gr.File(file_count="multiple", file_types=["video"], label="Your videos", elem_id="several-files")
        with gr.Row():
            run = gr.Button("Restore all videos", variant="primary", elem_id="several-run", **NARROW)
            cancel = gr.Button("Cancel", variant="stop", elem_id="several-cancel", interactive=False, **NARROW)
        status = gr.HTML("", elem_id="several-status")
        archive = gr.DownloadButton(
            "Save all as a ZIP file", variant="primary", visible=False, elem_id="several-download"
        )
    outputs = [shown, part, status, archive, run, cancel]
    batches = SessionBatches(service)

    def render(session_id: str, before: str) -> dict[Any, Any]:
        view = batches.view(session_id)
        text = batch_status(view)
        if text == before or view is None:
            return {shown: gr.skip()}
        is_busy, result = view.progress is not None, view.result
        return {
            shown: text,
            part: gr.update() if before else gr.update(open=True),  # after a reload
            status: text,
            archive: gr.update(value=str(result.archive) if result else None, visible=result is not None),
            run: gr.update(interactive=not is_busy),
            cancel: gr.update(interactive=is_busy),
        }

    def start(request: gr.Request, session_id: str, videos: list[str] | None, *options: Any) -> dict[Any, Any]:
        session = service.find_or_open_session(session_id, client_of(request))
        updates: dict[Any, Any] = {components.session: session.id}
        try:
            paths = [Path(video) for video in videos or ()]
            batches.start(session, paths, RestorationRequest(0.0, float("inf"), (), *options))
        except Exception as error:
            return updates | {status: error_html(error, None)}
        return updates | render(session.id, "")

    def stop(session_id: str) -> dict[Any, Any]:
        batches.cancel(session_id)
        return render(session_id, "")

    settings = [components.fidelity, components.strength, components.upscale, components.quality]
    started = run.click(start, [components.session, files, *settings], [components.session, *outputs], **AT_ONCE)
    started.then(None, components.session, None, js=WRITE_SESSION, **AT_ONCE)  # it can open a session
    cancel.click(stop, components.session, outputs, **AT_ONCE)
    components.timer.tick(render, [components.session, shown], outputs, **AT_ONCE)


def batch_status(view: BatchView | None) -> str:
    """How far a batch is, as HTML."""
    if view is None:
        return ""
    if view.progress is not None:
        return status_html(view.progress)
    if view.result is not None:
        return status_html(describe_result(view.result))
    return status_html(view.error) if view.error == CANCELLED else error_line(view.error)


def describe_result(result: RestoredVideos) -> str:
    """What was restored, and why the others were not."""
    videos = "1 video" if result.num_videos == 1 else f"{result.num_videos} videos"
    text = f"Done: {videos} restored."
    return f"{text} Not restored: {describe_failures(result.failures)}" if result.failures else text
