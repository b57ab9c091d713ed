"""What a session looks like in the browser.

The browser asks for changes a few times a second and sends back what it shows, as one key for each group of
components. Only groups whose key differs are sent. A response that is overtaken by a newer one brings its keys along,
so the next request corrects what it has replaced.
"""

import base64
import json
import time
from typing import Any

import cv2
import gradio as gr
import numpy as np

from ..comparison import comparison_value
from ..jobs.job import JobState, JobView, RestoreRequest
from ..jobs.service import JobService
from ..jobs.sessions import Session, SessionView
from ..messages import count_people, error_line, status_html
from ..progress import Progress
from ..requests import PREVIEW_SECONDS, RestorationRequest, RestoredPart
from .layout import Components


BUSY_SECONDS, IDLE_SECONDS = 0.4, 2.0  # between two requests of the browser
NEW_SECONDS = 10.0  # a result that is younger is scrolled to
Updates = dict[Any, Any]  # components -> values


class Renderer:
    """Turns the state of a session into values of components.

    Args:
        components ([`Components`]): The components.
        service ([`JobService`]): The jobs.
    """

    def __init__(self, components: Components, service: JobService) -> None:
        self.components, self.service = components, service

    def render(self, session: Session, shown: str) -> Updates:
        """The values of all components that differ from what the browser shows.

        Args:
            session ([`Session`]): The session.
            shown (`str`): What the browser shows: the value of `shown` from an earlier call, or empty.
        """
        view = session.view()
        before: dict[str, str] = json.loads(shown) if shown else {}
        status, search = restoration_status(view), search_status(view)
        is_busy, is_stopped = _is_busy(view), _is_stopped(view)
        result = view.restoration.id if view.restoration and view.restoration.result else ""
        estimate = self._estimate(view)
        keys = {
            "estimate": estimate,
            "status": status,
            "search": search,
            "buttons": f"{is_busy} {is_stopped}",
            "faces": repr(view.found_in),
            "result": result,
        }
        changed = {name for name, key in keys.items() if before.get(name) != key}
        updates: Updates = {self.components.shown: json.dumps(keys) if changed else gr.skip()}
        if "estimate" in changed:
            updates[self.components.estimate] = estimate
        if "status" in changed:
            updates[self.components.status] = status
        if "search" in changed:
            updates[self.components.found] = search
        if "buttons" in changed:
            updates |= self._buttons(view, is_busy, is_stopped)
        if "faces" in changed:
            updates[self.components.faces] = faces_value(view)
        if "result" in changed:
            updates |= self._result(view.restoration)
        return updates

    def _estimate(self, view: SessionView) -> str:
        """The expected time of the whole restoration and of the preview, as HTML."""
        if view.part is None:
            return ""
        people: tuple[int, ...] = ()
        if view.found is not None and len(view.chosen) < len(view.found.people):
            people = view.chosen
        restoration = RestorationRequest(view.part.start, view.part.end, people)
        try:
            whole, preview = (
                self.service.estimate(RestoreRequest(view.part.video, restoration, is_preview, view.found_in))
                for is_preview in (False, True)
            )
        except ValueError:  # deleted meanwhile
            return ""
        if whole is None or preview is None:
            return ""
        return status_html(f"On this machine, restoring takes about {duration(whole)}, 3 seconds {duration(preview)}.")

    def _buttons(self, view: SessionView, is_busy: bool, is_stopped: bool) -> Updates:
        is_restoring = view.restoration is not None and not view.restoration.state.is_final
        return {
            self.components.preview: gr.update(interactive=not is_restoring),
            self.components.run: gr.update(interactive=not is_restoring),
            self.components.cancel: gr.update(interactive=is_busy),
            self.components.find: gr.update(visible=is_stopped),
            self.components.timer: gr.Timer(BUSY_SECONDS if is_busy else IDLE_SECONDS),
        }

    def _result(self, job: JobView | None) -> Updates:
        files = (self.components.after, self.components.both, self.components.report, self.components.data)
        if job is None or not isinstance(job.result, RestoredPart):
            hidden = {component: gr.update(visible=False) for component in files}
            return {
                self.components.result: None,
                self.components.compare: gr.update(value=None, visible=False),
                **hidden,
            }
        part = job.result
        value = comparison_value(part.both, part.faces)
        paths = (part.after, part.both, part.page, part.report)
        saved = {
            component: gr.update(value=str(path), visible=True) for component, path in zip(files, paths, strict=True)
        }
        return {
            self.components.result: result_value(job, self.service.client_limits.seconds),
            self.components.compare: gr.update(value=value, visible=True),
            **saved,
        }


def _is_busy(view: SessionView) -> bool:
    """Whether a job of the session waits or runs."""
    return any(job is not None and not job.state.is_final for job in (view.search, view.restoration))


def _is_stopped(view: SessionView) -> bool:
    """Whether the search has ended without a result."""
    return view.search is not None and view.search.state in (JobState.FAILED, JobState.CANCELLED)


def search_status(view: SessionView) -> str:
    """How far the search for people is, as HTML."""
    job = view.search
    if job is None:
        return ""
    if job.state is JobState.DONE:
        return status_html(f"Found {count_people(len(view.found.people) if view.found else 0)}.")
    if job.state is JobState.FAILED:
        return error_line(job.error)
    if job.state is JobState.CANCELLED:
        return status_html("The search for faces was cancelled. Without it, all faces are restored.")
    return status_html(Progress(job.phase or "Looking for faces", job.share))


def restoration_status(view: SessionView) -> str:
    """How far the restoration is, as HTML."""
    job = view.restoration
    if job is None:
        return ""
    if job.state is JobState.WAITING:
        return status_html(Progress(waiting_text(view.place)))
    if job.state is JobState.FAILED:
        return error_line(job.error)
    if job.state is JobState.CANCELLED:
        return status_html("Cancelled.")
    if isinstance(job.result, RestoredPart):
        return status_html(f"Done: {job.result.num_frames} frames, {count_people(job.result.num_people)} restored.")
    return status_html(Progress(job.phase or "Starting", job.share, job.seconds_left))


def waiting_text(place: int) -> str:
    """The place in the queue in words."""
    if place == 0:
        return "Starting"
    return f"Waiting: {place} request{'s' if place > 1 else ''} before yours"


def faces_value(view: SessionView) -> dict[str, Any] | None:
    """The value of the component that shows the people; their times are those of the player."""
    if view.found is None or view.found_in is None:
        return None
    start = view.found_in.start
    return {
        "part": [view.found_in.start, view.found_in.end],
        "people": [
            {
                "number": person.number,
                "times": f"{clock(start + person.first)} to {clock(start + person.last)}",
                "portrait": _data_url(person.portrait),
                "is_chosen": person.number in view.chosen,
            }
            for person in view.found.people
        ],
    }


def result_value(job: JobView, lifetime: float) -> dict[str, Any]:
    """The value of the heading above a result; times are in seconds since 1970, as browsers measure them."""
    assert isinstance(job.request, RestoreRequest)
    ended = job.seconds_ended or 0.0
    return {
        "id": job.id,
        "is_preview": job.request.is_preview,
        "seconds": PREVIEW_SECONDS,
        "expires": time.time() + lifetime - ended,
        "is_new": ended < NEW_SECONDS,
    }


def duration(seconds: float) -> str:
    """A rounded time in words, such as 45 s or 3 min."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    return f"{5 * round(seconds / 5)} s" if seconds < 120 else f"{round(seconds / 60)} min"


def clock(seconds: float) -> str:
    """A time as players show it, such as 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _data_url(image: np.ndarray) -> str:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
