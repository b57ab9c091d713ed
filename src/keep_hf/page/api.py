"""The API of the page: two endpoints, `/faces` and `/restore`, that `gradio_client` calls by name.

Their requests wait in the same queue as those of the page.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData
from gradio.utils import get_upload_folder

from ..options import AUTO
from .endpoints.arguments import check_part, check_request
from .jobs.clients import client_of
from .jobs.face_search import FoundPeople
from .jobs.job import PartKey, RestoreRequest, SearchRequest
from .jobs.service import JobService
from .messages import explain
from .progress import Progress
from .requests import RestoredPart


def build_endpoints(service: JobService) -> list[Callable]:
    """The endpoints. gradio shows their names, annotations and docstrings to clients."""

    def faces(video: FileData, request: gr.Request, start: float = 0.0, end: float | None = None) -> list[dict]:
        """Find the people in a video.

        The result is a list of {"number", "start", "end", "width"}: the number that /restore takes, first and last
        appearance in seconds from the start of the part, and the mean width of the face in pixels.

        Args:
            video: The video, as gradio_client.handle_file(path).
            start: Start of the part, in seconds.
            end: End of the part, in seconds; by default the end of the video.

        Returns:
            people: All people, in the order of their appearance.
        """
        with uploaded(video) as path:
            part = PartKey(service.add_video(path), *check_part(start, end))
            *_, found = service.wait(service.submit(client_of(request), SearchRequest(part)))
        assert isinstance(found, FoundPeople)
        return [
            {
                "number": person.number,
                "start": round(person.first, 3),
                "end": round(person.last, 3),
                "width": round(float((person.boxes[:, 2] - person.boxes[:, 0]).mean()), 1),
            }
            for person in found.people
        ]

    # A generator, so that it can be cancelled. gradio reads the outputs of each step from the annotation.
    def restore(  # type: ignore[misc]
        video: FileData,
        request: gr.Request,
        start: float = 0.0,
        end: float | None = None,
        people: list[int] | None = None,
        fidelity: float = 1.0,
        strength: float | str = AUTO,
        upscale: int = 1,
        quality: str = "good",
        person_strength: dict[str, float | str] | None = None,
    ) -> tuple[FileData | None, FileData | None, dict]:
        """Restore the faces of a video. Until the end, each step yields None, None, and the progress.

        Args:
            video: The video, as gradio_client.handle_file(path).
            start: Start of the part to restore, in seconds.
            end: End of the part, in seconds; by default the end of the video.
            people: Numbers of the people to restore, from /faces for the same part; all faces by default.
            fidelity: From 0, free of the input's artifacts, to 1, close to the input.
            strength: Weight of the result against the input, from 0 to 1, or "auto": as much as the input needs.
            upscale: Factor by which the frames are enlarged: 1, 2, 3 or 4.
            quality: Quality of the file: "small file", "good" or "best".
            person_strength: A strength for single people, by number: {"1": 1, "2": 0.5, "3": 0}.

        Returns:
            restored: The restored video.
            side_by_side: Before and after side by side.
            report: What was done to every person.
        """
        with uploaded(video) as path:
            restoration = check_request(start, end, people, fidelity, strength, upscale, quality, person_strength)
            job = service.submit(
                client_of(request), RestoreRequest(service.add_video(path), restoration, name=path.name)
            )
            for step in service.wait(job):
                if isinstance(step, Progress):
                    yield None, None, {"progress": str(step)}
                elif isinstance(step, RestoredPart):
                    report = json.loads(step.report.read_text())
                    yield FileData(path=str(step.after)), FileData(path=str(step.both)), report

    return [faces, restore]


@contextmanager
def uploaded(video: FileData | dict) -> Iterator[Path]:
    """The path of an uploaded video; an error is sent to the client as one line."""
    path = find_upload(video)
    try:
        yield path
    except Exception as error:
        raise gr.Error(explain(error, str(path)), print_exception=False) from error


def find_upload(video: FileData | dict) -> Path:
    """Find the file that a client has uploaded.

    gradio passes the arguments of an API function unchecked, so a client could name any file of this machine. In the
    upload folder each file lies under the hash of its content, so a client can only name files that it has.

    Raises:
        gr.Error: If the path is not that of an uploaded file.
    """
    name = video.get("path") if isinstance(video, dict) else getattr(video, "path", None)
    path = Path(name if isinstance(name, str) else "").resolve()
    # The path is: upload folder / hash / file name.
    if path.parent.parent != Path(get_upload_folder()).resolve() or not path.is_file():
        raise gr.Error("The video must be uploaded: send gradio_client.handle_file(path).", print_exception=False)
    return path
