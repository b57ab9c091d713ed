"""The page for programs: two functions that `gradio_client` calls by name."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData
from gradio.utils import get_upload_folder

from .progress import Progress, seldom
from .words import explain
from .work import Found, Result, Studio, Wishes


def make_endpoints(studio: Studio) -> dict[str, Callable]:
    """The functions by name; their docstrings are what a client is shown."""

    def faces(video: FileData, start: float = 0.0, end: float = 1e9) -> list[dict]:
        """Find the people of a video: for each the number that `restore` takes, the first and the last frame, how many
        frames, and the mean width of the face in pixels.

        Args:
            video: The video, as gradio_client.handle_file(path).
            start: Where the part begins, in seconds.
            end: Where it ends; at most where the video does.
        """
        with told(video) as path:
            *_, found = studio.find(path, start, end)
        assert isinstance(found, Found)
        return [
            {
                "number": track.track_id,
                "first_frame": int(track.frames[0]),
                "last_frame": int(track.frames[-1]),
                "frames": len(track),
                "width": round(float((track.boxes[:, 2] - track.boxes[:, 0]).mean()), 1),
            }
            for track in found.tracks
        ]

    # A generator, so that it can be cancelled; gradio reads from the annotation what each of its steps gives.
    def restore(  # type: ignore[misc]
        video: FileData,
        start: float = 0.0,
        end: float = 1e9,
        people: list[int] | None = None,
        fidelity: float = 1.0,
        strength: float = 1.0,
        upscale: int = 1,
        quality: str = "good",
    ) -> tuple[FileData | None, FileData | None, dict]:
        """Restore the faces of a video; gives the restored video, before and after side by side, and a report. Until
        it is done, it gives nothing, nothing, and how far it is.

        Args:
            video: The video, as gradio_client.handle_file(path).
            start: Where the part to restore begins, in seconds.
            end: Where it ends; at most where the video does.
            people: Numbers of the people to restore, from faces of the same part; none: everybody.
            fidelity: 0: free of the input's faults; 1: close to the input.
            strength: Blend of the result with the input, 0 to 1.
            upscale: The frames grow by 1, 2, 3 or 4.
            quality: Of the file: "small file", "good" or "best".
        """
        with told(video) as path:
            wishes = Wishes(start, end, tuple(people or ()), fidelity, strength, upscale, quality)
            for step in seldom(studio.restore(path, wishes)):
                if isinstance(step, Progress):
                    yield None, None, {"progress": str(step)}
                elif isinstance(step, Result):
                    report = json.loads(step.report.read_text())
                    yield FileData(path=str(step.after)), FileData(path=str(step.both)), report

    return {"faces": faces, "restore": restore}


@contextmanager
def told(video: FileData | dict) -> Iterator[Path]:
    """The path of a video that a client has sent; what goes wrong with it reaches the client as one line."""
    path = uploaded(video)
    try:
        yield path
    except Exception as error:
        raise gr.Error(explain(error, str(path)), print_exception=False) from error


def uploaded(video: FileData | dict) -> Path:
    """Where a file lies that a client has sent.

    To these functions gradio gives the client's words as they come, so a client could name any file of the machine. In
    the folder of uploads each file lies under the hash of its content, so nobody can name what they do not have.

    Raises:
        gr.Error: If it is anything else.
    """
    name = video.get("path") if isinstance(video, dict) else getattr(video, "path", None)
    path = Path(name if isinstance(name, str) else "").resolve()
    # The folder, the hash, the name.
    if path.parent.parent != Path(get_upload_folder()).resolve() or not path.is_file():
        raise gr.Error("The video must be uploaded: send gradio_client.handle_file(path).", print_exception=False)
    return path
