"""Event handlers of the page, in the order in which a user triggers them.

No handler raises: an error becomes a message on the page. A handler returns new values for the components that
`app.py` names beside it, in the same order; `gr.skip()` leaves a component unchanged.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from .backend import Backend
from .clips import probe
from .comparison import comparison_value
from .messages import count_people, error_html, status_html
from .progress import Progress, throttle
from .requests import PREVIEW_SECONDS, FoundFaces, RestorationRequest, RestoredPart


ALL_FACES = "All faces, unless you find and select them."
NO_VIDEO = ValueError("There is no video yet: upload one, record one, or use the example.")


class FaceValues(NamedTuple):
    """Values of the components that show the faces of a part."""

    about: Any = gr.skip()  # a message
    known: Any = gr.skip()  # track numbers of the faces found
    frame: Any = gr.skip()
    portraits: Any = gr.skip()
    people: Any = gr.skip()  # the faces to choose from


class ResultValues(NamedTuple):
    """Values of the components that show a result."""

    status: Any = gr.skip()
    compare: Any = gr.skip()
    after: Any = gr.skip()
    both: Any = gr.skip()
    report: Any = gr.skip()


class Handlers:
    """The event handlers; they keep no state, which gradio passes as arguments.

    Args:
        backend ([`Backend`]): Finds and restores faces.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def video_changed(self, video: str | None) -> tuple:
        """A new video, or none -> usable, start, end, and [`FaceValues`]."""
        if not video:
            return False, *_part_sliders(1.0, 1.0), *_no_faces("")
        try:
            clip = probe(Path(video))
        except Exception as error:
            return False, *_part_sliders(1.0, 1.0), *_no_faces(error_html(error, video))
        seconds, limit = math.ceil(clip.seconds * 10) / 10, self.backend.limits.seconds
        about = f"{clip.seconds:.1f} seconds, {clip.num_frames} frames of {clip.width} x {clip.height} pixels."
        if seconds > limit:
            about += f" Only {limit:g} seconds can be restored at a time: the first {limit:g} are selected."
        return True, *_part_sliders(seconds, min(seconds, limit)), *_no_faces(status_html(about))

    def part_changed(self) -> FaceValues:
        """Another part, whose tracks have other numbers -> [`FaceValues`]."""
        return _no_faces(status_html("The part has changed: to select faces, find them again."))

    def find_faces_in_new_video(
        self, usable: bool, video: str | None, start: float, end: float
    ) -> Iterator[FaceValues]:
        """Find the faces, unless `video_changed` reported that the video cannot be used."""
        yield FaceValues()  # gradio would clear the outputs of an iterator that yields nothing
        if usable:
            yield from self.find_faces(video, start, end)

    def find_faces(self, video: str | None, start: float, end: float) -> Iterator[FaceValues]:
        """Find the faces of the part."""
        try:
            if not video:
                raise NO_VIDEO
            for step in throttle(self.backend.find_faces(Path(video), start, end)):
                if isinstance(step, Progress):
                    yield FaceValues(about=status_html(step))
                elif isinstance(step, FoundFaces):
                    yield _show_faces(step)
        except Exception as error:
            yield _no_faces(error_html(error, video))

    @staticmethod
    def request_started() -> tuple:
        """A restoration was requested -> status, cancelled, preview, run, cancel."""
        status = gr.HTML(status_html("Waiting in the queue ..."), visible=True)
        return status, gr.HTML(visible=False), *_buttons(busy=True)

    @staticmethod
    def request_ended() -> tuple:
        """A restoration has ended, with or without success -> preview, run, cancel."""
        return _buttons(busy=False)

    @staticmethod
    def request_cancelled() -> tuple:
        """The user has cancelled -> status, cancelled, preview, run, cancel.

        The status is hidden, because the browser can receive progress that was sent before.
        """
        return gr.HTML(visible=False), gr.HTML(visible=True), *_buttons(busy=False)

    def restore_part(
        self, video: str | None, known: list[int], start: float, end: float, people: list[int], *options: Any
    ) -> Iterator[ResultValues]:
        """Restore the part; `options` are fidelity, strength, upscale and quality.

        It is not named `restore`: gradio names endpoints after functions, and the API has one of that name.
        """
        try:
            if not video:
                raise NO_VIDEO
            if known and not people:
                raise ValueError("No faces selected: select at least one person.")
            selected = tuple(people) if set(people) < set(known) else ()
            request = RestorationRequest(start, end, selected, *options)
            for step in throttle(self.backend.restore(Path(video), request)):
                if isinstance(step, Progress):
                    yield ResultValues(status=status_html(step))
                elif isinstance(step, RestoredPart):
                    yield _show_result(step)
        except Exception as error:
            yield ResultValues(status=error_html(error, video))

    def preview(
        self, video: str | None, known: list[int], start: float, end: float, people: list[int], *options: Any
    ) -> Iterator[ResultValues]:
        """Restore the first three seconds of the part."""
        yield from self.restore_part(video, known, start, min(end, start + PREVIEW_SECONDS), people, *options)


def _part_sliders(seconds: float, end: float) -> tuple[gr.Slider, gr.Slider]:
    """Start and end of the part, in a video of a length in seconds."""
    return gr.Slider(value=0, maximum=seconds), gr.Slider(value=end, maximum=seconds)


def _no_faces(about: str) -> FaceValues:
    people = gr.CheckboxGroup([], value=[], info=ALL_FACES)
    return FaceValues(about, [], gr.Image(visible=False), gr.Image(visible=False), people)


def _show_faces(found: FoundFaces) -> FaceValues:
    choices = [(f"Person {track.track_id}, {len(track)} frames", track.track_id) for track in found.tracks]
    numbers = [number for _, number in choices]
    several = len(numbers) > 1
    hint = "Clear a box to leave a face unchanged." if several else ""
    return FaceValues(
        about=status_html(f"Found {count_people(len(numbers))}."),
        known=numbers,
        frame=gr.Image(found.frame, visible=True),
        portraits=gr.Image(found.portraits, visible=several),
        people=gr.CheckboxGroup(choices, value=numbers, info=hint),
    )


def _show_result(result: RestoredPart) -> ResultValues:
    return ResultValues(
        status_html(f"Done: {result.num_frames} frames, {count_people(result.num_people)} restored."),
        comparison_value(result.both, result.faces),
        *(gr.DownloadButton(value=str(path), visible=True) for path in (result.after, result.both, result.report)),
    )


def _buttons(busy: bool) -> tuple[gr.Button, gr.Button, gr.Button]:
    """Which of preview, run and cancel are enabled."""
    return gr.Button(interactive=not busy), gr.Button(interactive=not busy), gr.Button(interactive=busy)
