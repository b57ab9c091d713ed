"""Open a source and create a target: a video file or an image folder, by what the path is."""

import os
from pathlib import Path

from .image_folder import ImageFolderReader, ImageFolderWriter
from .reader import VideoReader
from .writer import VideoWriter


def open_video(path: str | os.PathLike, frame_rate: float) -> VideoReader | ImageFolderReader:
    """Open a video file, or a folder of pictures with so many of them in a second."""
    return ImageFolderReader(path, frame_rate) if Path(path).is_dir() else VideoReader(path)


def create_video(
    path: str | os.PathLike, like: VideoReader | ImageFolderReader, width: int, height: int, resume: bool
) -> VideoWriter | ImageFolderWriter:
    """Begin a video file or, under a name without suffix, a folder of pictures."""
    writer = VideoWriter if Path(path).suffix else ImageFolderWriter
    return writer(path, like, width=width, height=height, resume=resume)
