"""Which files are videos and which are images, decided by their suffixes, and how folders are searched for them.

Hidden files are left out: macOS puts a `._clip.mp4` beside a `clip.mp4` on foreign file systems.
"""

from pathlib import Path


VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts"}
    | {".vob", ".webm", ".wmv"}
)
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def is_video(path: Path) -> bool:
    """Whether a path is a visible file with the suffix of a video, in upper or lower case."""
    return _is_file_with(path, VIDEO_SUFFIXES)


def is_image(path: Path) -> bool:
    """Whether a path is a visible file with the suffix of an image, in upper or lower case."""
    return _is_file_with(path, IMAGE_SUFFIXES)


def find_videos(folder: Path) -> list[Path]:
    """All videos in a folder, at any depth, sorted by path."""
    return sorted(path for path in folder.rglob("*") if is_video(path))


def find_images(folder: Path) -> list[Path]:
    """All images in a folder, at any depth, sorted by path."""
    return sorted(path for path in folder.rglob("*") if is_image(path))


def contains_images(folder: Path) -> bool:
    """Whether images lie directly in a folder, as the frames of a video do."""
    return any(is_image(path) for path in folder.iterdir())


def _is_file_with(path: Path, suffixes: frozenset[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
