"""Which files are videos and which are images, decided by their suffixes, and how folders are searched for them.

Hidden files and folders are left out: macOS puts a `._clip.mp4` beside a `clip.mp4` on foreign file systems, and
phones keep thumbnails in `.thumbnails`. So is the unfinished work of a restoration, in folders named `NAME.part`.
"""

import re
import struct
import zlib
from pathlib import Path

from PIL import Image


VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".amv", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".hevc", ".ivf", ".m1v", ".m2t"}
    | {".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts"}
    | {".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m"}
)
# These count as videos if they have several frames.
ANIMATION_SUFFIXES = frozenset({".apng", ".gif"})
ANIMATED_FORMATS = ("GIF", "PNG", "WEBP")
# A few kilobytes can announce gigabytes: larger frames are refused before they are decoded. 8K has half of this.
MAX_PIXELS = 2**26
# What Pillow raises on files that are damaged.
IMAGE_ERRORS = (
    IndexError,
    KeyError,
    OSError,
    OverflowError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# A scheme has two letters or more; one letter is a drive of Windows. Path turns "//" into "/".
URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/+(?P<rest>.*)")


def is_video(path: Path) -> bool:
    """Whether a path is a visible file with the suffix of a video, in upper or lower case."""
    return _is_file_with(path, VIDEO_SUFFIXES) or (_is_file_with(path, ANIMATION_SUFFIXES) and is_animation(path))


def is_image(path: Path) -> bool:
    """Whether a path is a visible file with the suffix of an image, in upper or lower case."""
    return _is_file_with(path, IMAGE_SUFFIXES)


def is_animated_format(path: Path) -> bool:
    """Whether a file is a GIF, PNG or WebP by its content, animated or not."""
    try:
        with Image.open(path, formats=ANIMATED_FORMATS):
            return True
    except Image.DecompressionBombError:
        return True
    except IMAGE_ERRORS:
        return False


def is_animation(path: Path) -> bool:
    """Whether a file is a GIF, PNG or WebP with several frames, or too large to find out."""
    try:
        with Image.open(path, formats=ANIMATED_FORMATS) as image:
            image.seek(1)
            return True
    except Image.DecompressionBombError:
        return True
    except (EOFError, *IMAGE_ERRORS):
        return False


def open_image(path: Path, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Open an image, whose pixels are not read yet.

    Args:
        path (`Path`): The file.
        formats (`tuple[str]`, *optional*): Pillow's names of the formats that are allowed; by default all.

    Raises:
        ValueError: If it has more than `MAX_PIXELS` pixels, or is not such an image.
    """
    try:
        image = Image.open(path, formats=formats)
        if image.width * image.height <= MAX_PIXELS:
            return image
        image.close()
    except Image.DecompressionBombError:
        pass
    except IMAGE_ERRORS as error:
        raise ValueError(f"{path} is damaged, or not an image that Pillow can read.") from error
    raise ValueError(f"{path} has more than {MAX_PIXELS:,} pixels, which is not supported; make it smaller first.")


def find_videos(folder: Path) -> list[Path]:
    """All videos in a folder, at any depth, sorted by path."""
    return sorted(path for path in folder.rglob("*") if is_video(path) and not _is_hidden(path, folder))


def find_images(folder: Path) -> list[Path]:
    """All images in a folder, at any depth, sorted by path."""
    return sorted(path for path in folder.rglob("*") if is_image(path) and not _is_hidden(path, folder))


def contains_images(folder: Path) -> bool:
    """Whether images lie directly in a folder, as the frames of a video do."""
    return any(is_image(path) for path in folder.iterdir())


def check_exists(path: Path) -> None:
    """Reject an input that is not there, or that is neither a file nor a folder: reading a pipe may never end.

    Raises:
        ValueError: If there is nothing of this name, or nothing that can be read; it explains URLs and `-`.
    """
    if path.exists():
        if not path.is_file() and not path.is_dir():
            raise ValueError(f"{path} is a pipe, socket or device; pass a video file, or a folder.")
        return
    check_is_local(path, "download the video first, and pass the file")
    if str(path) == "-":
        raise ValueError("- stands for standard input, which is not supported; pass a file.")
    raise ValueError(f"{path} does not exist.")


def check_output_size(path: Path, width: int, height: int) -> None:
    """Reject frames that cannot be written.

    Raises:
        ValueError: If a side is not positive, or there are more than `MAX_PIXELS` pixels.
    """
    if width < 1 or height < 1:
        raise ValueError(f"width and height must be positive, got {width} x {height}.")
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{path} would have {width} x {height} pixels; at most {MAX_PIXELS:,} are supported. Enlarge it less."
        )


def check_is_local(path: Path, advice: str) -> None:
    """Reject a URL.

    Raises:
        ValueError: If the path is one, with the advice.
    """
    if url := URL.fullmatch(path.as_posix()):
        raise ValueError(f"{url['scheme']}://{url['rest']} is a URL; {advice}.")


def _is_file_with(path: Path, suffixes: frozenset[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def _is_hidden(path: Path, folder: Path) -> bool:
    parents = path.relative_to(folder).parts[:-1]
    return any(parent.startswith((".", "@")) or parent.endswith(".part") for parent in parents)
