"""The part of the page for several videos, called as gradio calls it."""

import time
from types import SimpleNamespace

import gradio as gr

from keep_hf.page.comparison import comparison_value
from keep_hf.page.examples import RESULT
from keep_hf.page.interface.events import WRITE_SESSION
from keep_hf.page.interface.layout import lay_out
from keep_hf.page.interface.several_videos import add_several
from portraits import write_people


pytest_plugins = ["page_fixtures", "job_fixtures"]
REQUEST = SimpleNamespace(client=None)
OPTIONS = (1.0, 1.0, 1, "good")  # fidelity, strength, upscale, quality


def test_restore_all_after_the_session_has_expired(start, tmp_path):
    """Another session is opened and gets into the address; a click without videos leaves its results alone."""
    service = start()
    with gr.Blocks() as blocks:
        components = lay_out(service.limits, comparison_value(RESULT))
        add_several(components, service)
    functions = {function.name: function for function in blocks.fns.values()}
    click, render = functions["start"], functions["render"].fn
    shown, _, status, archive, *_ = functions["render"].outputs
    assert components.session in click.outputs
    (address,) = (function for function in blocks.fns.values() if function.trigger_after == click._id)
    assert (address.js, address.inputs) == (WRITE_SESSION, [components.session])

    video = write_people(tmp_path / "clip.mp4", 3, num_people=1)
    updates = click.fn(REQUEST, "expired", [str(video)], *OPTIONS)
    session = updates[components.session]
    assert service.has_session(session)
    deadline = time.monotonic() + 120
    while "Done" not in updates.get(status, "") and time.monotonic() < deadline:
        time.sleep(0.05)
        updates = render(session, "")
    assert "Done: 1 video restored." in updates[status]

    refused = click.fn(REQUEST, session, None, *OPTIONS)
    assert refused[components.session] == session
    assert "There are no videos yet: choose some." in refused[status]
    assert {shown, archive}.isdisjoint(refused)
    assert render(session, "")[archive]["visible"]
