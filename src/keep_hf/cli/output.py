"""Output of the program besides its results: one-line messages on stderr, and report files."""

import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def print_message(message: object) -> None:
    """Print a message on one line of stderr, after the name of the program."""
    print(f"keep-hf: {' '.join(str(message).split())}", file=sys.stderr)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Print Python warnings as one line each, without the source line that raised them."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print_message(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the text of Python warnings, which are still shown."""
    messages: list[str] = []
    show = warnings.showwarning

    def collect(message: Warning | str, *args: Any, **options: Any) -> None:
        messages.append(" ".join(str(message).split()))
        show(message, *args, **options)

    warnings.showwarning = collect
    try:
        yield messages
    finally:
        warnings.showwarning = show


def resume_hint(target: Path, error: Exception | None = None) -> str:
    """The end of an error message: how to resume a restoration, or nothing if no finished work is kept.

    Args:
        target (`Path`): The output.
        error (`Exception`, *optional*): Why it failed; if it is the finished work itself, there is no hint.
    """
    if "without resume" in str(error):
        return ""
    from ..video.part_folder import has_saved_work  # imports torch; this module must not, so that --help is fast

    return "; the finished segments are kept: --resume continues from there" if has_saved_work(target) else ""


def name_file(error: Exception, path: Path) -> str:
    """The message of an error, with the file that caused it."""
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def check_output_path(path: Path, content: str, others: Sequence[Path] = ()) -> None:
    """Reject a file that could not be written, before any work is done.

    Args:
        path (`Path`): The file.
        content (`str`): What it is to contain, for the message: "report".
        others (`Sequence[Path]`, *optional*): Inputs and outputs, which it must not replace.

    Raises:
        ValueError: If the path is a folder, its folder does not exist, or it is one of the others.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"The {content} {path} must be a file in an existing folder.")
    for other in others:
        if path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other)):
            raise ValueError(f"The {content} {path} would replace {other}; choose another name.")


def write_report(path: Path, content: Any) -> None:
    """Write a JSON file; see [`write_text`]."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file in one step: an interrupted run leaves the old file or the new one."""
    part = path.with_name(f"{path.stem[:40]}-{os.getpid()}.part")
    try:
        # Names of files may have bytes that are no UTF-8.
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from error
