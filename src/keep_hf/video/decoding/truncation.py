"""Whether a file was cut off, for example because a download was interrupted: it is shorter than its headers say."""

import contextlib
import re
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from ..containers import open_container


# What follows a box of ISO base media files (MP4, MOV, 3GP) that is cut off is lost; these hold frames or the index.
CONTENT_BOXES = (b"mdat", b"moof", b"moov")
# A video stops early if this much of it is missing.
MIN_MISSING_SECONDS, MIN_MISSING_PART = 1.0, 0.05
TAGGED_DURATION = re.compile(r"(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+(\.\d*)?)")
EBML_HEADER, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_cut_off(container: InputContainer, path: Path) -> bool:
    """Whether the file ends before the place that the header of its format names.

    MPEG-TS, MPEG-PS, Ogg and raw streams name no length, so that they never count as cut off.

    Args:
        container (`InputContainer`): The file, open.
        path (`Path`): The file.
    """
    names = container.format.name.split(",")
    size = path.stat().st_size
    with open(path, "rb") as file:
        if "mp4" in names:
            return _end_of_boxes(file, size) > size
        if "matroska" in names:
            return _end_of_segment(file) > size
        if "avi" in names:
            return _end_of_riff(file, size) > size
        if "flv" in names:
            return not _ends_with_tag(file, size)
        if "asf" in names:
            return _end_of_asf_data(file) > size
    return False


def announced_frames(container: InputContainer, stream: VideoStream, frame_rate: Fraction) -> int | None:
    """Number of frames that the headers of a file announce; `None` if they announce none.

    Args:
        container (`InputContainer`): The file, open.
        stream (`VideoStream`): Its video.
        frame_rate (`Fraction`): Frames per second, where the headers announce a duration only.
    """
    if stream.frames:
        return stream.frames
    seconds = _announced_seconds(stream) or (container.duration or 0) / av.time_base
    return round(seconds * frame_rate) or None


def stops_early(path: Path, index: int, end: float) -> bool:
    """Whether a part at the end of a video could not be read, although the file is complete.

    A long last frame may end after its time, so there must also be content that no packet was read from.

    Args:
        path (`Path`): The file.
        index (`int`): Index of its video stream.
        end (`float`): Seconds from the start of the video to the end of the last frame that was read.
    """
    with open_container(path) as container:
        announced = _announced_seconds(cast(VideoStream, container.streams[index]))
        if announced - end < max(MIN_MISSING_SECONDS, MIN_MISSING_PART * announced):
            return False
        last = 0
        with contextlib.suppress(av.FFmpegError):
            for packet in container.demux():
                last = max(last, (packet.pos or 0) + packet.size)
    return last < (1 - MIN_MISSING_PART) * path.stat().st_size


def _announced_seconds(stream: VideoStream) -> float:
    """Duration of a stream according to the header of its file; 0 if that contains none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska, where the duration of the container includes the other streams. Programs may write any text there.
    if match := TAGGED_DURATION.fullmatch(stream.metadata.get("DURATION", "")):
        return 3600 * int(match["hours"]) + 60 * int(match["minutes"]) + float(match["seconds"])
    return 0.0


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Where the last box with content ends, by its own header."""
    position = end = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: up to the end of the file
            break
        position += length
        if kind in CONTENT_BOXES:
            end = position
    return end


def _end_of_segment(file: BinaryIO) -> int:
    """Where the segment of a Matroska or WebM file ends; 0 if its length is not known, as in live recordings."""
    if file.read(4) != EBML_HEADER:
        return 0
    length, position = _read_length(file, 4)
    if length is None:
        return 0
    file.seek(position + length)
    if file.read(4) != SEGMENT:
        return 0
    length, position = _read_length(file, position + length + 4)
    return 0 if length is None else position + length


def _read_length(file: BinaryIO, position: int) -> tuple[int | None, int]:
    """Read a length of EBML, and return it with the position behind it.

    The number of leading zeros is that of the bytes that follow the first; all ones: the length is not known.
    """
    first = file.read(1)[0]
    num_bytes = 9 - first.bit_length()
    mask = (1 << (7 * num_bytes)) - 1
    value = int.from_bytes(bytes([first]) + file.read(num_bytes - 1), "big") & mask
    return None if value == mask else value, position + num_bytes


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk of an AVI ends; long files have several."""
    position = end = 0
    while position + 12 <= size:
        file.seek(position)
        header = file.read(8)
        length = int.from_bytes(header[4:], "little")
        if header[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # not known: the recording was interrupted
            break
        end = position + length  # some programs count the header of 8 bytes, too
        position += 8 + length + length % 2
    return end


def _ends_with_tag(file: BinaryIO, size: int) -> bool:
    """Whether an FLV ends with a whole tag. After each tag its length follows, the header of 11 bytes included."""
    if size < 28:
        return True
    file.seek(size - 4)
    length = int.from_bytes(file.read(4), "big")
    if not 11 <= length <= size - 17:
        return False
    file.seek(size - 4 - length)
    return int.from_bytes(file.read(4)[1:], "big") + 11 == length


def _end_of_asf_data(file: BinaryIO) -> int:
    """Where the data of a WMV file ends; they follow the header. Live recordings contain no length."""
    length = int.from_bytes(file.read(24)[16:], "little")
    file.seek(length)
    return length + int.from_bytes(file.read(24)[16:], "little")
