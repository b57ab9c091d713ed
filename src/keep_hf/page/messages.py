"""Messages on the page: progress, results and errors, as HTML."""

import errno
import html
import re
import traceback
from pathlib import Path

import av
import gradio as gr
import torch

from .progress import Progress


def status_html(message: Progress | str) -> str:
    """A status line, with a bar while a request is in progress."""
    if isinstance(message, Progress):
        value = "" if message.share is None else f' value="{message.share:.3f}"'
        # Without role="status": a screen reader would read every update aloud.
        bar = f'<progress aria-label="Progress"{value}></progress>'
        return f'<div class="status"><p>{html.escape(str(message))}</p>{bar}</div>'
    return f'<div class="status" role="status"><p>{html.escape(message)}</p></div>'


def error_html(error: Exception, video: str | None) -> str:
    """An error as a highlighted line; see [`explain`]."""
    return error_line(explain(error, video))


def error_line(message: str) -> str:
    """The explanation of an error as a highlighted line."""
    return f'<div class="status error" role="alert"><p>{html.escape(message)}</p></div>'


def explain(error: Exception, video: str | None) -> str:
    """Explain an error to a user who cannot see this machine, and say what to do.

    Args:
        error (`Exception`): The error.
        video (`str`, *optional*): Path of the video; the message shows the name of the file only.

    Returns:
        `str`: One line. An unexpected error is also printed to the log of the server.
    """
    if isinstance(error, gr.Error):  # no GPU could be borrowed
        text = re.sub(r"<[^>]+>", "", error.message)
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = (
            "The disk of this machine is full. Old files are deleted within an hour: try again later, or choose a "
            "shorter part."
        )
    elif isinstance(error, av.FFmpegError):  # some of its subclasses are ValueErrors, too
        text = (
            "A part of the video cannot be decoded or encoded. Choose another part, or convert the video to MP4 "
            "(H.264) and upload the result."
        )
    elif isinstance(error, ValueError):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"A file could not be read or written ({error.strerror}). Try again later."
    elif isinstance(error, torch.OutOfMemoryError | MemoryError):
        text = "This machine has too little memory for the request. Choose a smaller enlargement or a shorter part."
    else:
        traceback.print_exception(error)
        text = f"Unexpected error ({type(error).__name__}). Try again, or with another video."
    if video:
        text = text.replace(video, Path(video).name)
    return " ".join(text.split())


def count_people(number: int) -> str:
    """A number of people in words, such as "2 people"."""
    return "1 person" if number == 1 else f"{number} people"
