"""Opening of media files, and the choice of the video stream in them."""

import errno
import os
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from .media_files import MAX_PIXELS, check_exists


# Old files have titles in old encodings. PyAV 19 reads them; older versions need the argument.
# A script or playlist that is passed to a server would make FFmpeg read or download other files there.
SCRIPTS = frozenset({"concat", "dash", "hls", "imf", "rtsp", "sdp"})
OPEN_OPTIONS = {"max_pixels": str(MAX_PIXELS), "protocol_whitelist": "file"}
METADATA_ERRORS: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}


def ffmpeg_name(path: Path) -> str:
    """The name of a file for FFmpeg, which would take `12:30.mp4` for a URL and `-` for an option or a pipe."""
    return os.path.join(os.curdir, path)


def open_container(path: Path) -> InputContainer:
    """Open a media file for reading.

    Raises:
        ValueError: If the path is not a file, FFmpeg cannot open it, or it is a playlist.
        OSError: If too many files are open.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; pass a video file.")
    check_exists(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty.")
    try:
        container = av.open(ffmpeg_name(path), options=dict(OPEN_OPTIONS), **METADATA_ERRORS)
    except av.FFmpegError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # says nothing about this file
            raise OSError(error.errno, f"{path} cannot be opened: {error.strerror}") from error
        raise ValueError(f"{path} is not a video, or is truncated or damaged ({error.strerror}).") from error
    if SCRIPTS.intersection(container.format.name.split(",")):
        container.close()
        raise ValueError(f"{path} is not a video, but a list of other files ({container.format.name}).")
    return container


def find_video_stream(container: InputContainer, path: Path, index: int | None = None) -> VideoStream:
    """Return the video stream of a container; cover images do not count.

    Args:
        container (`InputContainer`): The container.
        path (`Path`): Its file, for messages.
        index (`int`, *optional*): Index of the stream among all streams. By default the first video stream that is
            marked as the default, or else the first one.

    Raises:
        ValueError: If there is none, or FFmpeg cannot decode it.
    """
    # FFmpeg also "plays" single images, and text as a terminal would show it.
    name = container.format.name
    if name.startswith("image2") or name.endswith("_pipe") or name == "tty":
        raise ValueError(f"{path} is not a video, but an image or text ({name}).")
    streams = [stream for stream in container.streams.video if not is_cover(stream)]
    if not streams:
        raise ValueError(f"{path} has no video stream.")
    marked = [stream for stream in streams if stream.disposition & Disposition.default]
    stream = (marked or streams)[0]
    if index is not None:
        chosen = [stream for stream in streams if stream.index == index]
        if not chosen:
            available = ", ".join(str(stream.index) for stream in streams)
            raise ValueError(f"{path} has no video stream {index}; choose one of {available}.")
        stream = chosen[0]
    if stream.codec_context is None:
        raise ValueError(f"{path}: FFmpeg does not know the codec of video stream {stream.index}.")
    return stream


def is_cover(stream: Stream) -> bool:
    """Whether a stream is a single image, such as the cover of an album."""
    return bool(stream.disposition & Disposition.attached_pic)
