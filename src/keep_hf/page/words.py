"""What the page says: how far it is, what it found, and what went wrong."""

import html
import re
import traceback
from pathlib import Path

import gradio as gr
import torch

from .progress import Progress


def status(what: Progress | str) -> str:
    """What is going on, as a line of HTML and, while it lasts, a bar."""
    if isinstance(what, Progress):
        value = "" if what.share is None else f' value="{what.share:.3f}"'
        # No role="status": the line would be read aloud again and again.
        bar = f'<progress aria-label="Progress"{value}></progress>'
        return f'<div class="status"><p>{html.escape(str(what))}</p>{bar}</div>'
    return f'<div class="status" role="status"><p>{html.escape(what)}</p></div>'


def fault(error: Exception, video: str | None) -> str:
    """What went wrong, as a line of HTML that stands out."""
    return f'<div class="status fault" role="alert"><p>{html.escape(explain(error, video))}</p></div>'


def explain(error: Exception, video: str | None) -> str:
    """Say what went wrong, and what to do, to somebody who cannot look into this machine.

    Args:
        error (`Exception`): From the work.
        video (`str`, *optional*): The path of the file; the visitor knows its name only.

    Returns:
        `str`: one line. What nobody has foreseen goes to the log of the server.
    """
    if isinstance(error, gr.Error):  # a borrowed GPU that is not to be had
        text = re.sub(r"<[^>]+>", "", error.message)
    elif isinstance(error, ValueError):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"A file could not be read or written ({error.strerror}). Try again later."
    elif isinstance(error, torch.OutOfMemoryError | MemoryError):
        text = "The memory of this machine is too small for it. Choose a smaller enlargement or a shorter part."
    else:
        traceback.print_exception(error)
        text = f"Something went wrong that should not have ({type(error).__name__}). Try again, or with another video."
    if video:
        text = text.replace(video, Path(video).name)
    return " ".join(text.split())


def count_people(number: int) -> str:
    return "1 person" if number == 1 else f"{number} people"
