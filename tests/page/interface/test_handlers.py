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
from keep_hf.page.jobs.clients import Clients, QueueFullError
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

    def choose(self, video: Path | None, target: str = "video", session_id: str = "") -> dict:
        shown, faces = (self.values[component] for component in (self.components.shown, self.components.faces))
        upload = {"path": str(video)} if video else None
        values = (session_id or self.session.id, shown, upload, *self.part, faces)
        if target == "find":
            return self.handlers.find_again(REQUEST, *values)
        chose = self.handlers.chose_video if target == "video" else self.handlers.chose_part
        return chose(REQUEST, *values)

    def ask_for_changes(self) -> dict:
        return self.handlers.changed(self.session.id, self.values[self.components.shown])

    def restore(self, video: Path | None) -> dict:
        shown, faces = (self.values[component] for component in (self.components.shown, self.components.faces))
        upload = {"path": str(video)} if video else None
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
    browser.take(browser.ask_for_changes())
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
    for target in ("end", "find"):  # right after a reload, when the video is not displayed yet
        browser.choose(None, target)
        assert browser.session.view().part.end == 0.5
    browser.choose(None)
    assert browser.session.view().part is None


def test_a_trim_sends_the_choice_of_people(browser, clips):
    """The event of a click on a person may come after the people of the new part were found."""
    browser.take(browser.choose(clips["two"]))
    wait_for_search(browser.session)
    browser.take(browser.ask_for_changes())
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


def test_an_error_stays_until_there_is_another_choice(browser, clips, tmp_path):
    """Also when the browser asks for changes, or is opened again; and no longer."""
    about, status = browser.components.about, browser.components.status
    browser.take(browser.ask_for_changes())
    browser.take(browser.restore(None))
    assert "There is no video yet" in browser.values[status]
    assert status not in browser.ask_for_changes()
    assert "There is no video yet" in browser.handlers.opened(browser.session.id, REQUEST)[status]
    browser.take(browser.choose(clips["two"]))
    assert browser.values[status] == ""

    asked_before = browser.values[browser.components.shown]
    (bad := tmp_path / "bad.mp4").write_text("no video")
    browser.take(browser.choose(bad))
    assert "bad.mp4 is not a video" in browser.values[about]
    late = browser.handlers.changed(browser.session.id, asked_before)
    assert "bad.mp4 is not a video" in late[about]
    assert about not in browser.ask_for_changes()
    browser.take(browser.choose(None))
    assert browser.values[about] == ""
    browser.take(browser.choose(bad))
    browser.take(browser.choose(clips["two"]))
    assert "1.2 seconds, 12 frames" in browser.values[about]


def test_an_expired_session_is_named_until_there_is_a_choice(browser, clips):
    about = browser.components.about
    browser.take(browser.handlers.opened("expired", REQUEST))
    browser.session = browser.handlers.service.find_session(browser.values[browser.components.session])
    assert "There is no such session any more" in browser.values[about]
    assert about not in browser.ask_for_changes()
    browser.take(browser.choose(clips["two"]))
    assert "1.2 seconds" in browser.values[about]


def test_a_search_that_was_refused(browser, clips, monkeypatch):
    """A trim and a click on "Find the faces" search again; without a session, another one is opened."""

    def refuse(self: Clients, client: str, unfinished: list[str]) -> None:
        raise QueueFullError("16 requests are waiting")

    about = browser.components.about
    for target, end in (("end", 0.5), ("find", 1.2)):
        with monkeypatch.context() as patch:
            patch.setattr(Clients, "check_places", refuse)
            browser.part = (0.0, 1.2)
            browser.take(browser.choose(clips["two"], "end"))
        assert "16 requests are waiting" in browser.values[about]
        assert browser.session.view().search is None
        browser.part = (0.0, end)
        browser.take(browser.choose(clips["two"], target))
        assert "1.2 seconds" in browser.values[about]
        wait_for_search(browser.session)
        assert browser.session.view().part.end == end
    browser.part = (0.2, 0.8)
    answer = browser.choose(clips["two"], "find", session_id="expired")
    session = browser.handlers.service.find_session(answer[browser.components.session])
    assert len(wait_for_search(session).people) == 2
    assert (session.view().part.start, session.view().part.end) == browser.part
