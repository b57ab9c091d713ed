"""Opening of a source and creation of a target: a video file, an animated image, or a folder of images."""

import os
from pathlib import Path

from ..options import EncodingOptions
from .animation import AnimationReader
from .image_folder import ImageFolderReader, ImageFolderWriter
from .media_files import check_exists, is_animated_format
from .reader import VideoReader
from .segments.output_format import Source
from .writer import VideoWriter


DEFAULT_ENCODING = EncodingOptions()


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
    check_exists(path)
    is_folder = path.is_dir()
    if not is_folder and not is_animated_format(path):
        return VideoReader(path, video_stream, strict)
    if video_stream is not None:
        kind = "a folder" if is_folder else "an animated image"
        raise ValueError(f"{path} is {kind}, which has no streams; leave out the video stream {video_stream}.")
    return ImageFolderReader(path, frame_rate, strict) if is_folder else AnimationReader(path, strict)


def create_video(
    path: str | os.PathLike,
    source: Source,
    width: int,
    height: int,
    resume: bool,
    encoding: EncodingOptions = DEFAULT_ENCODING,
) -> VideoWriter | ImageFolderWriter:
    """Create a video file or, if the path has no suffix, a folder of images.

    Args:
        path (`str` or `os.PathLike`): Video file or folder to write.
        source ([`VideoReader`], [`AnimationReader`] or [`ImageFolderReader`]): The source; [`VideoWriter`] explains
            what is taken over.
        width, height (`int`): Size of the frames in pixels.
        resume (`bool`): Whether to continue an earlier run.
        encoding ([`EncodingOptions`], *optional*): How a file is encoded; a folder of images takes no such options.

    Raises:
        ValueError: If the target cannot be written or resumed, or an option is not for it.
    """
    if Path(path).suffix:
        return VideoWriter(
            path,
            source,
            width=width,
            height=height,
            codec=encoding.codec,
            crf=encoding.crf,
            preset=encoding.preset,
            resume=resume,
        )
    given = [f"{name}={value}" for name, value in vars(encoding).items() if value is not None]
    if given:
        raise ValueError(f"{path} is a folder of PNG images; leave out {', '.join(given)}, or write a video file.")
    return ImageFolderWriter(path, source, width=width, height=height, resume=resume)
