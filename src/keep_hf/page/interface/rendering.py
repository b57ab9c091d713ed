"""What a session looks like in the browser.

The browser asks for changes a few times a second and sends back what it shows, as one key for each group of
components. Only groups whose key differs are sent. A response that is overtaken by a newer one brings its keys along,
so the next request corrects what it has replaced.
"""

import json
import math
import time
from collections.abc import Callable
from typing import Any

import gradio as gr

from ...restoration.report.thumbnails import to_data_url
from ...restoration.report.wording import format_time
from ..comparison import comparison_value
from ..jobs.choices import name_people
from ..jobs.job import JobState, JobView, PartKey, RestoreRequest
from ..jobs.service import JobService
from ..jobs.sessions import Session, SessionView
from ..messages import count_people, error_html, error_line, status_html
from ..progress import Progress
from ..requests import PREVIEW_SECONDS, RestorationRequest, RestoredPart
from .layout import STRENGTHS, Components


BUSY_SECONDS, IDLE_SECONDS = 0.4, 2.0  # between two requests of the browser
NEW_SECONDS = 10.0  # a result that is younger is scrolled to
VIDEO = "video"  # the group whose key is the SHA-256 of the video that the browser shows
Updates = dict[Any, Any]  # components -> values


class Renderer:
    """Turns the state of a session into values of components.

    Args:
        components ([`Components`]): The components.
        service ([`JobService`]): The jobs.
    """

    def __init__(self, components: Components, service: JobService) -> None:
        self.components, self.service = components, service

    def render(self, session: Session, shown: str, *, always: str = "") -> Updates:
        """The values of all components that differ from what the browser shows.

        Args:
            session ([`Session`]): The session.
            shown (`str`): What the browser shows: the value of `shown` from an earlier call, or empty.
            always (`str`, *optional*): A group that is sent in any case, because the browser may show something else.
        """
        view, page = session.view(), self.components
        before: dict[str, str] = json.loads(shown) if shown else {}
        about, estimate = self._about(view), self._estimate(view)
        status, search = restoration_status(view), search_status(view)
        state = _is_busy(view.search) or _is_busy(view.restoration), _is_busy(view.restoration), _is_stopped(view)
        result = view.result.id if view.result else ""
        heading = f"{result} {result_mark(view)}"
        # The choice of people is not a part of a key: the browser has changed what it shows by itself.
        groups: dict[str, tuple[str, Callable[[], Updates]]] = {
            VIDEO: (view.part.video if view.part else "", lambda: self._sliders(view.part)),
            "about": (about, lambda: {page.about: about}),
            "example": (str(view.part is None), lambda: {page.example: gr.update(visible=view.part is None)}),
            "estimate": (estimate, lambda: {page.estimate: estimate}),
            "status": (status, lambda: {page.status: status}),
            "search": (search, lambda: {page.found: search}),
            "buttons": (repr(state), lambda: self._buttons(*state)),
            "faces": (repr(view.found_in), lambda: {page.faces: faces_value(view)}),
            "heading": (heading, lambda: {page.result: result_value(view, self.service.client_limits.seconds)}),
            "result": (result, lambda: self._result(view.result)),
        }
        keys = {name: key for name, (key, _) in groups.items()}
        updates: Updates = {page.shown: json.dumps(keys) if keys != before else gr.skip()}
        for name, (key, build) in groups.items():
            if before.get(name) != key or name == always:
                updates |= build()
        return updates

    def _about(self, view: SessionView) -> str:
        """The line about a video, or why it was refused, as HTML."""
        if view.choice_error:
            return error_line(view.choice_error)
        if view.part is None:
            return ""
        try:
            clip = self.service.describe(view.part.video)
        except ValueError as error:  # deleted meanwhile
            return error_html(error, None)
        limit = self.service.limits.seconds
        about = f"{clip.seconds:.1f} seconds, {clip.num_frames} frames of {clip.width} x {clip.height} pixels."
        if tenths(clip.seconds) > limit:
            about += f" Only {limit:g} seconds can be restored at a time: the first {limit:g} are selected."
        return status_html(about)

    def _sliders(self, part: PartKey | None) -> Updates:
        """The part of another video. Later, the browser changes it by itself."""
        seconds, start, end = 1.0, 0.0, 1.0
        if part is not None:
            try:
                seconds, start, end = tenths(self.service.describe(part.video).seconds), part.start, part.end
            except ValueError:  # deleted meanwhile; the line about the video says so
                return {}
        return {
            self.components.start: gr.update(value=start, maximum=seconds),
            self.components.end: gr.update(value=end, maximum=seconds),
        }

    def _estimate(self, view: SessionView) -> str:
        """The expected time of the whole restoration and of the preview, as HTML."""
        if view.part is None:
            return ""
        restoration = RestorationRequest(view.part.start, view.part.end)
        if view.found is not None:
            restoration = name_people(restoration, view.chosen, len(view.found.people))
        try:
            whole, preview = (
                self.service.estimate(RestoreRequest(view.part.video, restoration, is_preview, view.found_in))
                for is_preview in (False, True)
            )
        except ValueError:  # deleted meanwhile
            return ""
        if whole is None or preview is None:
            return ""
        times = f"about {duration(whole)} to restore, {duration(preview)} to try {PREVIEW_SECONDS:g} seconds"
        return status_html(f"On this machine: {times}.")

    def _buttons(self, is_busy: bool, is_restoring: bool, is_stopped: bool) -> Updates:
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
            return {self.components.compare: gr.update(value=None, visible=False), **hidden}
        part = job.result
        value = comparison_value(part.both, part.faces)
        paths = (part.after, part.both, part.page, part.report)
        saved = {
            component: gr.update(value=str(path), visible=True) for component, path in zip(files, paths, strict=True)
        }
        return {self.components.compare: gr.update(value=value, visible=True), **saved}


def tenths(seconds: float) -> float:
    """Seconds, rounded up to a step of the sliders."""
    # 3000 frames at 30000/1001 Hz are 100.10000000000001 seconds in floating point.
    return math.ceil(round(seconds * 10, 6)) / 10


def _is_busy(job: JobView | None) -> bool:
    """Whether a job waits or runs."""
    return job is not None and not job.state.is_final


def _is_stopped(view: SessionView) -> bool:
    """Whether there is no search, because the queue was full, or it has ended without a result."""
    states = (JobState.FAILED, JobState.CANCELLED)
    return view.part is not None and (view.search is None or view.search.state in states)


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


def shown_video(shown: str) -> str:
    """The SHA-256 of the video that the browser shows, from what it sends back."""
    return json.loads(shown).get(VIDEO, "") if shown else ""


def restoration_status(view: SessionView) -> str:
    """How far the restoration is, or why it was refused, as HTML."""
    job = view.restoration
    if view.restoration_error:
        return error_line(view.restoration_error)
    if job is None:
        return status_html("The result was deleted, because it is kept for a time only.") if view.is_expired else ""
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
        "part": [view.found_in.video, view.found_in.start, view.found_in.end],
        "strengths": [("as below", None), *STRENGTHS],
        "people": [
            {
                "number": person.number,
                "times": f"{format_time(start + person.first)} to {format_time(start + person.last)}",
                "portrait": to_data_url(person.portrait),
                "is_chosen": person.number in view.chosen,
                "strength": view.chosen.get(person.number),
            }
            for person in view.found.people
        ],
    }


def result_mark(view: SessionView) -> str:
    """What a result belongs to, if that is not the latest restoration of the selected part."""
    job = view.result
    if job is None or (view.restoration is not None and view.restoration.id == job.id):
        return ""
    assert isinstance(job.request, RestoreRequest)
    if job.request.chosen_part == view.part:
        return "of an earlier restoration"
    return f"from {job.request.part.start:g} to {job.request.part.end:g} s: not the part that is selected now"


def result_value(view: SessionView, lifetime: float) -> dict[str, Any] | None:
    """The value of the heading above a result; times are in seconds since 1970, as browsers measure them."""
    job = view.result
    if job is None:
        return None
    assert isinstance(job.request, RestoreRequest)
    ended = job.seconds_ended or 0.0
    return {
        "id": job.id,
        "is_preview": job.request.is_preview,
        "seconds": PREVIEW_SECONDS,
        "mark": result_mark(view),
        "expires": time.time() + lifetime - ended,
        "is_new": ended < NEW_SECONDS,
    }


def duration(seconds: float) -> str:
    """A rounded time in words, such as 45 s or 3 min."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    return f"{5 * round(seconds / 5)} s" if seconds < 120 else f"{round(seconds / 60)} min"
