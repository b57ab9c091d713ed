"""The handlers of the page, called as gradio calls them: clicks that come before the answer to an earlier event."""

from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from job_steps import wait_for_search
from keep_hf.page.comparison import comparison_value
from keep_hf.page.examples import RESULT
from keep_hf.page.interface.handlers import Handlers
from keep_hf.page.interface.layout import lay_out
from keep_hf.page.jobs.service import JobService
from portraits import FRAME_RATE


pytest_plugins = ["page_fixtures", "job_fixtures"]
REQUEST = SimpleNamespace(client=None)
OPTIONS = (1.0, 1.0, 1, "good")  # fidelity, strength, upscale, quality


class Browser:
    """What a browser shows, and sends back."""

    def __init__(self, service: JobService) -> None:
        with gr.Blocks():
            self.components = lay_out(service.limits, comparison_value(RESULT))
        self.handlers = Handlers(self.components, service)
        self.session = service.open_session("me")
        self.values: dict = {self.components.shown: "", self.components.faces: None}
        self.part = (0.0, 1.0)

    def take(self, updates: dict) -> None:
        self.values |= {component: value for component, value in updates.items() if "__type__" not in str(value)}

    def choose(self, video: Path, target: str = "video") -> dict:
        event = SimpleNamespace(target=getattr(self.components, target))
        shown, faces = (self.values[component] for component in (self.components.shown, self.components.faces))
        return self.handlers.chose(self.session.id, shown, {"path": str(video)}, *self.part, faces, event, REQUEST)

    def restore(self, video: Path) -> dict:
        shown, faces = (self.values[component] for component in (self.components.shown, self.components.faces))
        upload = {"path": str(video)}
        return self.handlers.restore_part(REQUEST, self.session.id, shown, upload, *self.part, faces, *OPTIONS)


@pytest.fixture
def browser(start) -> Browser:
    return Browser(start())


def test_a_click_before_the_answer_to_another_video(browser, clips):
    """Neither the people nor the part of the former video are those of the new one."""
    browser.take(browser.choose(clips["two"]))
    browser.part = (0.2, 0.8)
    browser.take(browser.choose(clips["two"]))
    wait_for_search(browser.session)
    browser.take(browser.handlers.changed(browser.session.id, browser.values[browser.components.shown]))
    faces = browser.values[browser.components.faces]
    assert [person["number"] for person in faces["people"]] == [1, 2]
    faces["people"][1]["is_chosen"] = False
    faces["people"][0]["strength"] = 0.5
    browser.restore(clips["two"])
    restoration = browser.session.view().restoration.request.restoration
    assert (restoration.start, restoration.end, restoration.people) == (0.2, 0.8, (1,))
    assert restoration.person_strength == {1: 0.5}

    browser.choose(clips["long"])  # the answer is on its way
    browser.handlers.chose_people(browser.session.id, faces)  # and so is this
    browser.restore(clips["long"])
    restoration = browser.session.view().restoration.request.restoration
    assert (restoration.start, restoration.end, restoration.people) == (0.0, 40 / FRAME_RATE, ())


def test_a_click_that_is_handled_before_the_choice_of_another_video(browser, clips):
    """An answer that names the video as shown brings the part of that video, too."""
    browser.take(browser.choose(clips["two"]))
    answer = browser.restore(clips["long"])
    end = answer[browser.components.end]
    assert (end["value"], end["maximum"]) == (40 / FRAME_RATE, 40 / FRAME_RATE)
    assert browser.session.view().part.end == 40 / FRAME_RATE


def test_a_field_that_is_empty_while_one_types(browser, clips):
    browser.take(browser.choose(clips["two"]))
    part = browser.session.view().part
    browser.part = (0.0, None)
    browser.choose(clips["two"], "end")
    assert browser.session.view().part == part
    assert "The part has no start or no end" in browser.restore(clips["two"])[browser.components.status]
    assert browser.session.view().restoration is None
    browser.part = (0.0, 0.5)
    browser.choose(clips["two"], "end")
    assert browser.session.view().part.end == 0.5


def test_a_trim_sends_the_choice_of_people(browser, clips):
    """The event of a click on a person may come after the people of the new part were found."""
    browser.take(browser.choose(clips["two"]))
    wait_for_search(browser.session)
    browser.take(browser.handlers.changed(browser.session.id, browser.values[browser.components.shown]))
    faces = browser.values[browser.components.faces]
    faces["people"][0] |= {"is_chosen": False}
    faces["people"][1] |= {"strength": 0.5}
    browser.part = (0.0, 0.8)
    browser.choose(clips["two"], "end")
    wait_for_search(browser.session)
    browser.handlers.chose_people(browser.session.id, faces)
    assert browser.session.view().chosen == {2: 0.5}


def test_a_deleted_upload(browser, clips, tmp_path):
    browser.restore(tmp_path / "gone.mp4")
    assert browser.session.view().restoration is None
    updates = browser.choose(tmp_path / "gone.mp4")
    assert "was not used for a while: upload it again" in updates[browser.components.about]
