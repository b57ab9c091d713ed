"""The format of an output: container by the suffix, codec and bits per colour by the source and the options."""

from pathlib import Path
from typing import NamedTuple

import av

from ..animation import AnimationReader
from ..colour import Colour
from ..deep.deep_format import DeepFormat, warn_of_eight_bits
from ..image_folder import ImageFolderReader
from ..reader import VideoReader
from .encoding import Encoding


Source = VideoReader | AnimationReader | ImageFolderReader


class MissingEncoderError(ValueError):
    """This installation cannot encode a video that another one can."""


class OutputFormat(NamedTuple):
    """FFmpeg's name of a container format, and the codecs that it is written with, the default first."""

    container: str
    codecs: tuple[str, ...]


OUTPUT_FORMATS = {
    ".mp4": OutputFormat("mp4", ("h264", "hevc")),
    ".mov": OutputFormat("mov", ("h264", "hevc")),
    ".mkv": OutputFormat("matroska", ("h264", "hevc")),
    ".webm": OutputFormat("webm", ("vp9",)),
}
DEEP_CODECS = ("h264", "hevc")


def check_target(path: Path, source: Source | None) -> OutputFormat:
    """Return the format of a file to write.

    Raises:
        ValueError: If no such file can be written.
    """
    suffix = path.suffix.lower()
    if suffix not in OUTPUT_FORMATS:
        raise ValueError(f"{path}: the output must be one of {', '.join(OUTPUT_FORMATS)}.")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist; create it first.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; pass a file name.")
    if source is not None and path.exists() and path.samefile(source.path):
        raise ValueError(f"{path} is the source itself; choose another name.")
    return OUTPUT_FORMATS[suffix]


def choose_codec(
    path: Path, source: Source | None, codec: str | None, bits: int | None
) -> tuple[str, DeepFormat | None]:
    """Choose the codec of an output, and whether it has 10 bits.

    Args:
        path (`Path`): The file to write.
        source (`Source`, *optional*): Where the frames come from.
        codec (`str`, *optional*): The codec that was asked for.
        bits (`int`, *optional*): 8 or 10; by default 10 if the source is deeper than 8 and the container allows it.

    Returns:
        `tuple[str, DeepFormat | None]`: The codec, and the meaning of 10-bit frames; `None` for 8 bits.

    Raises:
        ValueError: If the container is not written with the codec, or the codec with 10 bits.
    """
    codecs = OUTPUT_FORMATS[path.suffix.lower()].codecs
    if codec is not None and codec not in codecs:
        raise ValueError(f"{path} can be written with the codec {' or '.join(codecs)}, not {codec}.")
    if bits not in (None, 8, 10):
        raise ValueError(f"bits must be 8 or 10, got {bits}.")
    deep = source.deep if isinstance(source, VideoReader) else None
    if bits == 10 and codecs[0] not in DEEP_CODECS:
        raise ValueError(f"{path} is written with 8 bits per colour only; for 10, write .mp4, .mov or .mkv.")
    if source and deep and bits is None and codecs[0] not in DEEP_CODECS:
        warn_of_eight_bits(deep, source.path, path)
    if bits == 8 or codecs[0] not in DEEP_CODECS or (bits is None and deep is None):
        return codec or codecs[0], None
    is_h264 = isinstance(source, VideoReader) and source.codec == "h264"
    default = "h264" if deep is None or (is_h264 and deep.tone_mapping is None) else "hevc"
    return codec or default, deep or DeepFormat(source.colour if source else Colour())


def check_encoder(path: Path, codec: str, encoding: Encoding) -> None:
    """Check that this build of PyAV has the encoder, for these pixels.

    Raises:
        MissingEncoderError: If it has not.
    """
    encoder = encoding.encoder
    formats = av.Codec(encoder, "w").video_formats or [] if encoder in av.codecs_available else []
    if encoding.pixel_format not in [format.name for format in formats]:
        others = [other for other in OUTPUT_FORMATS[path.suffix.lower()].codecs if other != codec]
        remedy = f"pass codec={others[0]!r}" if others else "write another format"
        raise MissingEncoderError(
            f"{path}: this build of PyAV cannot encode {encoding.pixel_format} with {encoder}, which {codec} needs; "
            f"{remedy}, or install PyAV from PyPI."
        )
