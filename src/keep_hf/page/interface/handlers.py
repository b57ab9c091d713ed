"""Event handlers of the page, in the order in which a user triggers them.

A handler changes the session, and returns the values of the components that are different then. No handler raises: an
error becomes a message on the page.
"""

import contextlib
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from ..jobs.choices import Chosen, name_people
from ..jobs.clients import client_of
from ..jobs.job import PartKey, RestoreRequest
from ..jobs.service import JobService
from ..jobs.sessions import Session
from ..messages import error_html, explain
from ..requests import RestorationRequest
from .layout import Components
from .rendering import VIDEO, Renderer, Updates, shown_video, tenths


NO_VIDEO = "There is no video yet: upload one, record one, or take one of the examples."
NO_PART = "The part has no start or no end: enter both, in seconds."  # a field is empty while one types


class Handlers:
    """The event handlers; the browser keeps the id of its session, and all else is in the session.

    Args:
        components ([`Components`]): The components.
        service ([`JobService`]): The jobs.
    """

    def __init__(self, components: Components, service: JobService) -> None:
        self.components, self.service = components, service
        self._renderer = Renderer(components, service)

    def opened(self, session_id: str, request: gr.Request) -> Updates:
        """The page was opened or reloaded, with the id of a session in its address or without."""
        try:
            session = self.service.find_session(session_id)
        except ValueError as error:
            session = self.service.open_session(client_of(request))
            if session_id:
                session.refuse_choice(explain(error, None))
        return self._renderer.render(session, "") | {self.components.session: session.id}

    def display_again(self, session_id: str) -> Any:
        """The video after a reload, in the form that the browser needs.

        From a path, gradio would convert a video that browsers do not play, if there is an ffmpeg binary. The
        converted file would be another video, whose choice cancels the jobs.
        """
        try:
            part = self.service.find_session(session_id).view().part
            return gr.skip() if part is None else FileData(path=str(self.service.find_video(part.video))).model_dump()
        except ValueError:  # deleted meanwhile; the line about the video says so
            return gr.skip()

    def changed(self, session_id: str, shown: str) -> Updates:
        """The browser asks for changes."""
        try:
            return self._renderer.render(self.service.find_session(session_id), shown)
        except ValueError:  # not opened yet, or kept no longer: the next click opens another one
            return {self.components.shown: gr.skip()}

    def chose_video(self, request: gr.Request, *values: Any) -> Updates:
        """Another video or none, or after a reload the same; `values` are those of [`Components.choice`]."""
        # The part that the browser sends is that of another video, or after a reload not yet displayed.
        return self._take_choice(request, False, False, *values)

    def chose_part(self, request: gr.Request, *values: Any) -> Updates:
        """Another part of the video; `values` are those of [`Components.choice`]."""
        return self._take_choice(request, True, False, *values)

    def find_again(self, request: gr.Request, *values: Any) -> Updates:
        """Repeat a search that was cancelled or has failed; `values` are those of [`Components.choice`]."""
        return self._take_choice(request, True, True, *values)

    def _take_choice(
        self,
        request: gr.Request,
        is_part: bool,
        is_repeated: bool,
        session_id: str,
        shown: str,
        upload: dict[str, Any] | None,
        start: float | None,
        end: float | None,
        faces: dict[str, Any] | None,
    ) -> Updates:
        session = self.service.find_or_open_session(session_id, client_of(request))
        updates: Updates = {self.components.session: session.id}
        video = _path(upload)
        is_other = True
        try:
            if not video:
                if not is_part:  # otherwise, the video comes right after the part, as after a reload
                    session.choose(None)
            else:
                checksum = self.service.add_video(Path(video))
                key = session.view().part
                is_shown = checksum in (key.video if key else "", shown_video(shown))
                if is_part and is_shown and start is not None and end is not None:
                    key, is_other = PartKey(checksum, start, end), False
                elif key is None or key.video != checksum:
                    key = self._longest_part(checksum)
                else:
                    is_other = False
                # The choice of people is sent along: the event of a click may come later than this one.
                self._choose_people(session, faces)
                self._choose(session, key, Path(video).name, is_repeated)
        except Exception as error:
            session.choose(None)
            session.refuse_choice(explain(error, video))
        return self._renderer.render(session, shown, always=VIDEO if is_other else "") | updates

    @staticmethod
    def _choose(session: Session, key: PartKey, name: str, is_repeated: bool) -> None:
        """Choose a part; if there is no place in the queue for the search, all else works."""
        try:
            session.choose(key, name)
            if is_repeated:
                session.search_again()
        except ValueError as error:
            session.refuse_choice(explain(error, None))

    def chose_people(self, session_id: str, faces: dict[str, Any] | None) -> None:
        """Other people, for reloads and for other parts; a click on "Restore" sends them, too."""
        with contextlib.suppress(ValueError):  # the session is kept no longer
            self._choose_people(self.service.find_session(session_id), faces)

    @staticmethod
    def _choose_people(session: Session, faces: dict[str, Any] | None) -> None:
        if faces:
            session.choose_people(PartKey(*faces["part"]), _chosen(faces))

    def restore_part(self, request: gr.Request, *values: Any) -> Updates:
        """Restore the part; `values` are those of [`Components.request`].

        It is not named `restore`: gradio names endpoints after functions, and the API has one of that name.
        """
        return self._restore(False, request, *values)

    def preview(self, request: gr.Request, *values: Any) -> Updates:
        """Restore the first three seconds of the part."""
        return self._restore(True, request, *values)

    def _restore(
        self,
        is_preview: bool,
        request: gr.Request,
        session_id: str,
        shown: str,
        upload: dict[str, Any] | None,
        start: float | None,
        end: float | None,
        faces: dict[str, Any] | None,
        *options: Any,
    ) -> Updates:
        session = self.service.find_or_open_session(session_id, client_of(request))
        updates: Updates = {self.components.session: session.id}
        video = _path(upload)
        try:
            if not video:
                raise ValueError(NO_VIDEO)
            checksum = self.service.add_video(Path(video))
            if shown_video(shown) != checksum:
                # The browser does not have the answer to the choice of this video: what it sends is of another one.
                whole = self._longest_part(checksum)
                start, end, faces = whole.start, whole.end, None
            if start is None or end is None:
                raise ValueError(NO_PART)
            restoration = RestorationRequest(start, end, (), *options)
            numbered_in = None
            if faces:
                chosen, numbered_in = _chosen(faces), PartKey(*faces["part"])
                if not chosen:
                    raise ValueError("No faces selected: select at least one person.")
                restoration = name_people(restoration, chosen, len(faces["people"]))
            view = session.view()
            is_known = view.part is not None and view.part.video == checksum
            name = view.name if is_known else Path(video).name
            if not restoration.names_people:
                numbered_in = None
            session.restore(RestoreRequest(checksum, restoration, is_preview, numbered_in, name))
        except Exception as error:
            session.refuse_restoration(explain(error, video))
        return updates | self._renderer.render(session, shown, always="status")

    def cancel(self, session_id: str, shown: str) -> Updates:
        """End all jobs of the session."""
        try:
            session = self.service.find_session(session_id)
        except ValueError as error:
            return {self.components.status: error_html(error, None)}
        session.cancel()
        return self._renderer.render(session, shown, always="status")

    def _longest_part(self, video: str) -> PartKey:
        """The part of a video that is chosen first: all of it, or as much as can be restored at a time."""
        return PartKey(video, 0.0, min(tenths(self.service.describe(video).seconds), self.service.limits.seconds))


def _chosen(faces: dict[str, Any]) -> Chosen:
    """The chosen people, from the value of the component."""
    return {person["number"]: person["strength"] for person in faces["people"] if person["is_chosen"]}


def _path(upload: dict[str, Any] | None) -> str | None:
    """The path of an upload, which gradio has checked, from what the browser sends."""
    return upload["path"] if upload else None
