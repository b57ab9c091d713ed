"""Why an upload cannot be read as a video, and what to do, in words for people who know nothing of decoders.

The file itself is examined, because a decoder says "invalid data" of all of these.
"""

import re
from pathlib import Path

import av
from PIL import Image, UnidentifiedImageError

from ..video.containers import open_container


# In an MP4, the list of the codecs (stsd) then names one of these instead of a codec. The first is the standard for
# encryption, the second one Apple's.
ENCRYPTED = re.compile(rb"stsd.{12}(encv|drmi)", re.DOTALL)
# Files of MP4's family start with a box of one of these kinds; the index of all frames is the box moov.
MP4_BOXES = (b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip")
ARCHIVES = (b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b")
WEB_PAGE = re.compile(rb"\s*<(!doctype html|html|\?xml)", re.IGNORECASE)
END = 1 << 22  # bytes at the start and at the end that are examined

CONVERT = "Convert it to MP4 (H.264) with any video program, and upload the result."
COPY_AGAIN = "Download or copy it again, or export it once more, and upload that file."


def explain_unreadable(path: Path, error: Exception) -> str:
    """Say why a file cannot be read, and what to do.

    Args:
        path (`Path`): The file.
        error (`Exception`): What [`VideoReader`] has raised.

    Returns:
        `str`: Two sentences or three, with the name of the file, without its folder.
    """
    name, data = path.name, read_ends(path)
    if not data:
        return f"{name} is empty: the file has 0 bytes. {COPY_AGAIN}"
    if WEB_PAGE.match(data):
        return f"{name} is a web page, not a video. Download the video itself, and upload that file."
    if data.startswith(ARCHIVES):
        return f"{name} is an archive, not a video. Unpack it, and upload the video that is in it."
    if is_image(path):
        return f"{name} is an image, not a video. Upload a video."
    if ENCRYPTED.search(data):
        return f"{name} is encrypted (copy protection, DRM), so it cannot be read. Upload a video without protection."
    try:
        with open_container(path) as container:
            if not container.streams.video:
                content = "only sound" if container.streams.audio else "no video"
                return f"{name} contains {content}. Upload a file that has a video in it."
            if all(stream.codec_context is None for stream in container.streams.video):
                return f"{name} was made with a codec that is not known here. {CONVERT}"
    except ValueError as opening:
        if isinstance(opening.__cause__, av.EOFError):
            return f"{name} contains no frames; its recording was probably interrupted. Upload another file."
        if data[4:8] in MP4_BOXES and b"moov" not in data:
            return f"{name} is incomplete: its end is missing, and with it the list of all frames. {COPY_AGAIN}"
        return f"{name} is not a video, or is damaged. If it plays elsewhere: {CONVERT[0].lower()}{CONVERT[1:]}"
    if "no frame" in str(error):
        return f"{name} is damaged: no frame of it can be decoded. {COPY_AGAIN}"
    return str(error).replace(str(path), name)


def read_ends(path: Path) -> bytes:
    """The first and the last 4 MB of a file."""
    with path.open("rb") as file:
        start = file.read(END)
        file.seek(max(END, path.stat().st_size - END))
        return start + file.read(END)


def is_image(path: Path) -> bool:
    """Whether a file is an image of any kind."""
    try:
        with Image.open(path):
            return True
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
