"""Download of one file by its URL, with the machinery of huggingface_hub: progress, retries and resume.

A download that was interrupted is in a file beside the target, `NAME.incomplete`, and goes on from there. The target
appears under its name only when it has the length that the server announced.
"""

import errno
import os
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import HTTPError
from huggingface_hub.file_download import http_get


RANGE_NOT_SATISFIABLE = 416


def download_file(url: str, path: Path, advice: str) -> None:
    """Download a file, or the rest of it.

    Args:
        url (`str`): Its address; redirects are followed.
        path (`Path`): The file to write.
        advice (`str`): What to do if the download fails, for the message.

    Raises:
        OSError: If the file cannot be downloaded or written; what was downloaded so far is kept.
    """
    part = path.with_name(f"{path.name}.incomplete")
    try:
        _download(url, part, path.name)
    except (HTTPError, OSError) as error:
        # The errors of the HTTP client are no OSErrors, except for those that huggingface_hub derives from them.
        raise OSError(f"{url} cannot be downloaded to {path.parent}: {_reason(error)}. {advice}") from error
    os.replace(part, path)


def _download(url: str, part: Path, name: str) -> None:
    try:
        with part.open("ab") as file:
            http_get(url, file, resume_size=part.stat().st_size, displayed_filename=name)
    except HTTPError as error:
        response = getattr(error, "response", None)
        if getattr(response, "status_code", None) != RANGE_NOT_SATISFIABLE:
            raise
        # There is nothing after the part: it is the whole file, from a process that stopped before the file was
        # renamed, or it belongs to another one.
        part.unlink()
        with part.open("ab") as file:
            http_get(url, file, displayed_filename=name)


def _reason(error: Exception) -> str:
    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "there is no space left on the disk"
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
