"""The copy for the browser when something goes wrong; tests/page/test_playable.py has the copies themselves."""

from pathlib import Path

import av
import gradio as gr

from keep_hf.page.interface.browser_copy import COPYING, BrowserCopyHandlers
from keep_hf.page.jobs.browser_copies import BrowserCopies
from keep_hf.page.jobs.job import PartKey


pytest_plugins = ["page_fixtures", "job_fixtures"]


def test_a_copy_that_fails(start, clips, monkeypatch):
    """Any error ends the announcement; that of a part which was replaced meanwhile does not appear."""
    service = start()
    session, handlers = service.open_session("me"), BrowserCopyHandlers(service)
    videos = [service.add_video(clips[name]) for name in ("one", "two")]
    session.choose(PartKey(videos[0], 0.0, 1.0))

    def fail(self: BrowserCopies, key: PartKey) -> Path:
        raise av.error.ExternalError(1, "of the encoder")

    def fail_late(self: BrowserCopies, key: PartKey) -> Path:
        session.choose(PartKey(videos[1], 0.0, 1.0))
        raise ValueError("of the former video")

    announced = {"text": COPYING}
    monkeypatch.setattr(BrowserCopies, "make", fail)
    assert "cannot be decoded or encoded" in handlers.make(session.id, announced)["text"]
    monkeypatch.setattr(BrowserCopies, "make", fail_late)
    assert handlers.make(session.id, announced) == gr.skip()
