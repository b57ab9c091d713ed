"""The copy of an upload that browsers do not play, below the upload."""

import html
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from ..jobs.service import JobService
from ..messages import explain


TEMPLATE = """${value ? `<p>${value.text}</p>${value.video ? `<video src="${value.video.url}" controls playsinline
  aria-label="Copy of your video"></video>` : ""}` : ""}"""
STYLE = """p { margin: 0 0 4px; }
video { width: 100%; max-height: 320px; background: #000; border-radius: 8px; }"""
COPYING = "Not every browser plays this file. A small copy of the part is being made, to watch it here ..."
COPIED = "Not every browser plays this file: this is a small copy of the part. Your file itself is restored."


def build_browser_copy() -> gr.HTML:
    """Build the component; it is empty without a copy."""
    return gr.HTML(None, html_template=TEMPLATE, css_template=STYLE, elem_id="copy")


class BrowserCopyHandlers:
    """The handlers of the events after another video or part was chosen; `announce` comes first.

    Args:
        service ([`JobService`]): The jobs.
    """

    def __init__(self, service: JobService) -> None:
        self.service = service

    def announce(self, session_id: str) -> dict[str, Any] | None:
        """The value of the component until the copy is made."""
        try:
            part = self.service.find_session(session_id).view().part
            is_needed = part is not None and self.service.copies.is_needed(part.video)
        except ValueError:  # the session or the video was deleted; the page says so elsewhere
            return None
        return {"text": COPYING} if is_needed else None

    def make(self, session_id: str, announced: dict[str, Any] | None) -> Any:
        """The value with the copy, or why there is none; nothing if another part was chosen meanwhile."""
        if announced is None:
            return gr.skip()
        try:
            session = self.service.find_session(session_id)
        except ValueError:  # deleted; the page says so elsewhere
            return gr.skip()
        part = session.view().part
        if part is None:
            return gr.skip()
        try:
            value = {"text": COPIED, "video": FileData(path=str(self.service.copies.make(part))).model_dump()}
        except Exception as error:
            value = {"text": html.escape(self.service.hide_folders(explain(error, None)))}
        return value if session.view().part == part else gr.skip()
