"""What happens when something on the page is pressed or changed, in the order in which a visitor does it.

Nothing is raised: what went wrong is a line of the page.  Each action gives new values for the parts of the page that
`app.py` names beside it; `gr.skip()` leaves one as it is.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from .clips import look_at
from .progress import Progress, seldom
from .words import count_people, fault, status
from .work import Found, Result, Studio, Wishes


PREVIEW_SECONDS = 3.0
EVERYBODY = "Everybody, unless you find the faces and choose."
NO_VIDEO = ValueError("There is no video yet: upload one, record one, or take the example.")


class Actions:
    """The actions of one page; all that a visitor has done so far comes as arguments.

    Args:
        studio ([`Studio`]): Does the work.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def arrive(self, video: str | None) -> tuple:
        """Another video, or none -> usable, from, to, about, and the people as in `forget`."""
        if not video:
            return False, *self._part(1.0, 1.0), "", *self._nobody()
        try:
            clip = look_at(Path(video))
        except Exception as error:
            return False, *self._part(1.0, 1.0), fault(error, video), *self._nobody()
        seconds, limit = math.ceil(clip.seconds * 10) / 10, self.studio.limits.seconds
        about = f"{clip.seconds:.1f} seconds, {clip.num_frames} frames of {clip.width} x {clip.height} pixels."
        if seconds > limit:
            about += f" That is longer than the {limit:g} seconds at a time: the first {limit:g} are chosen."
        return True, *self._part(seconds, min(seconds, limit)), status(about), *self._nobody()

    @staticmethod
    def _part(seconds: float, end: float) -> tuple:
        return gr.Slider(value=0, maximum=seconds), gr.Slider(value=end, maximum=seconds)

    @staticmethod
    def _nobody() -> tuple:
        """Nobody is known -> the numbers that are known, frame, portraits, choice."""
        return [], gr.Image(visible=False), gr.Image(visible=False), gr.CheckboxGroup([], value=[], info=EVERYBODY)

    def forget(self) -> tuple:
        """Another part, whose people have other numbers -> about, and nobody."""
        text = "Another part: to choose whom to restore, find the faces again."
        return status(text), *self._nobody()

    def look_on_arrival(self, usable: bool, video: str | None, start: float, end: float) -> Iterator[tuple]:
        """As `look`, unless it was told already that the video cannot be used."""
        yield (gr.skip(),) * 5  # of an iterator that gives nothing gradio would make empty values
        if usable:
            yield from self.look(video, start, end)

    def look(self, video: str | None, start: float, end: float) -> Iterator[tuple]:
        """Find the faces -> about, known numbers, frame, portraits, choice."""
        nothing = (gr.skip(),) * 4
        try:
            if not video:
                raise NO_VIDEO
            for step in seldom(self.studio.find(Path(video), start, end)):
                if isinstance(step, Progress):
                    yield status(step), *nothing
                elif isinstance(step, Found):
                    yield self._show_people(step)
        except Exception as error:
            yield fault(error, video), *self._nobody()

    @staticmethod
    def _show_people(found: Found) -> tuple:
        choices = [(f"Person {track.track_id}, {len(track)} frames", track.track_id) for track in found.tracks]
        numbers = [number for _, number in choices]
        many = len(numbers) > 1
        return (
            status(f"Found {count_people(len(numbers))}."),
            numbers,
            gr.Image(found.frame, visible=True),
            gr.Image(found.portraits, visible=many),
            gr.CheckboxGroup(choices, value=numbers, info="Untick whom to leave as they are." if many else ""),
        )

    @staticmethod
    def begin() -> tuple:
        """Work was asked for -> status, preview, run, cancel."""
        return status("Waiting for its turn ..."), *buttons(busy=True)

    @staticmethod
    def end() -> tuple:
        """Work has ended, one way or another -> preview, run, cancel."""
        return buttons(busy=False)

    @staticmethod
    def cancel() -> tuple:
        """The visitor has had enough -> status, preview, run, cancel."""
        return status("Cancelled."), *buttons(busy=False)

    def work(
        self, video: str | None, known: list[int], start: float, end: float, people: list[int], *options: Any
    ) -> Iterator[tuple]:
        """Restore the part -> status, comparison, and the three downloads."""
        nothing = (gr.skip(),) * 4
        try:
            if not video:
                raise NO_VIDEO
            if known and not people:
                raise ValueError("Nobody is chosen: tick at least one person.")
            chosen = tuple(people) if set(people) < set(known) else ()
            for step in seldom(self.studio.restore(Path(video), Wishes(start, end, chosen, *options))):
                if isinstance(step, Progress):
                    yield status(step), *nothing
                elif isinstance(step, Result):
                    yield self._show_result(step)
        except Exception as error:
            yield fault(error, video), *nothing

    def preview(
        self, video: str | None, known: list[int], start: float, end: float, people: list[int], *options: Any
    ) -> Iterator[tuple]:
        """Restore the first three seconds of the part; as `work`."""
        yield from self.work(video, known, start, min(end, start + PREVIEW_SECONDS), people, *options)

    @staticmethod
    def _show_result(result: Result) -> tuple:
        videos = {"before": FileData(path=str(result.before)), "after": FileData(path=str(result.after))}
        return (
            status(f"Done: {result.num_frames} frames, {count_people(result.num_people)} restored."),
            {name: file.model_dump() for name, file in videos.items()},
            *(gr.DownloadButton(value=str(path), visible=True) for path in (result.after, result.both, result.report)),
        )


def buttons(busy: bool) -> tuple:
    """Which of preview, run and cancel can be pressed."""
    return gr.Button(interactive=not busy), gr.Button(interactive=not busy), gr.Button(interactive=busy)
