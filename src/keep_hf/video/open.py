"""Opening of a source and creation of a target: a video file or a folder of images, depending on the path."""

import os
from pathlib import Path

from .image_folder import ImageFolderReader, ImageFolderWriter
from .reader import VideoReader
from .writer import VideoWriter


def open_video(
    path: str | os.PathLike, frame_rate: float, strict: bool = False, video_stream: int | None = None
) -> VideoReader | ImageFolderReader:
    """Open a video file, or a folder of images.

    Args:
        path (`str` or `os.PathLike`): Video file or folder.
        frame_rate (`float`): Images per second of a folder; not used for a video file.
        strict (`bool`, *optional*, defaults to `False`): Raise an error where the source is damaged.
        video_stream (`int`, *optional*): Index of the stream of a video file; see [`VideoReader`].

    Raises:
        ValueError: If the path cannot be read as a video, or a stream of a folder is asked for.
    """
    if not Path(path).is_dir():
        return VideoReader(path, video_stream, strict)
    if video_stream is not None:
        raise ValueError(f"{path} is a folder, which has no streams; leave out the video stream {video_stream}.")
    return ImageFolderReader(path, frame_rate, strict)


def create_video(
    path: str | os.PathLike, source: VideoReader | ImageFolderReader, width: int, height: int, resume: bool
) -> VideoWriter | ImageFolderWriter:
    """Create a video file or, if the path has no suffix, a folder of images.

    Args:
        path (`str` or `os.PathLike`): Video file or folder to write.
        source ([`VideoReader`] or [`ImageFolderReader`]): The source; see [`VideoWriter`] for what is taken over.
        width, height (`int`): Size of the frames in pixels.
        resume (`bool`): Whether to continue an earlier run.

    Raises:
        ValueError: If the target cannot be written or resumed.
    """
    writer = VideoWriter if Path(path).suffix else ImageFolderWriter
    return writer(path, source, width=width, height=height, resume=resume)
