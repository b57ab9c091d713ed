"""Opening of a source and creation of a target: a video file, an animated image, or a folder of images."""

import os
from pathlib import Path

from .animation import AnimationReader
from .image_folder import ImageFolderReader, ImageFolderWriter
from .media_files import is_animated_format
from .reader import VideoReader
from .writer import Source, VideoWriter


def open_video(
    path: str | os.PathLike, frame_rate: float, strict: bool = False, video_stream: int | None = None
) -> Source:
    """Open a video file, an animated image, or a folder of images.

    Args:
        path (`str` or `os.PathLike`): Video file, animated GIF, PNG or WebP, or folder.
        frame_rate (`float`): Images per second of a folder; not used for a video file.
        strict (`bool`, *optional*, defaults to `False`): Raise an error where the source is damaged.
        video_stream (`int`, *optional*): Index of the stream of a video file; see [`VideoReader`].

    Raises:
        ValueError: If the path cannot be read as a video, or a stream of a folder or an animated image is asked for.
    """
    path = Path(path)
    is_folder = path.is_dir()
    if not is_folder and not is_animated_format(path):
        return VideoReader(path, video_stream, strict)
    if video_stream is not None:
        kind = "a folder" if is_folder else "an animated image"
        raise ValueError(f"{path} is {kind}, which has no streams; leave out the video stream {video_stream}.")
    return ImageFolderReader(path, frame_rate, strict) if is_folder else AnimationReader(path, strict)


def create_video(
    path: str | os.PathLike, source: Source, width: int, height: int, resume: bool
) -> VideoWriter | ImageFolderWriter:
    """Create a video file or, if the path has no suffix, a folder of images.

    Args:
        path (`str` or `os.PathLike`): Video file or folder to write.
        source ([`VideoReader`], [`AnimationReader`] or [`ImageFolderReader`]): The source; [`VideoWriter`] explains
            what is taken over.
        width, height (`int`): Size of the frames in pixels.
        resume (`bool`): Whether to continue an earlier run.

    Raises:
        ValueError: If the target cannot be written or resumed.
    """
    writer = VideoWriter if Path(path).suffix else ImageFolderWriter
    return writer(path, source, width=width, height=height, resume=resume)
