"""What becomes of each stream of a source besides its video: copied, converted or left out, decided by trying it.

Everything is tried before the first frame is restored: all packets of all streams are converted and given to the muxer
of the new container, which writes them nowhere. What fails then would otherwise fail at the end of hours of work.
"""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
from av.container import InputContainer
from av.stream import Stream

from ..containers import METADATA_ERRORS, find_video_stream, is_cover, open_container
from ..reader import VideoReader
from .stream_writers import CONVERSIONS, COPY, Attachment, StreamPlan, open_stream_writer, read_packets


def plan_streams(reader: VideoReader, container_format: str, options: Mapping[str, str], target: Path) -> StreamPlan:
    """Decide for each stream of a source, except the video, whether it is copied, converted or left out.

    Args:
        reader ([`VideoReader`]): The source; the whole file is read.
        container_format (`str`): FFmpeg's name of the format to write.
        options (`Mapping[str, str]`): Options of the muxer.
        target (`Path`): The file to write, for the warnings.

    Returns:
        [`StreamPlan`]: What can be written.

    Raises:
        OSError: If a temporary file cannot be written, for example because the disk is full.
        MemoryError: If there is not enough memory.
    """
    with open_container(reader.path) as source:
        names = {stream.index: _describe(stream) for stream in source.streams}
        timecode = _find_timecode(source, reader)
        covers = _read_covers(source) if container_format == "matroska" else {}
        actions = {
            stream.index: _possible_actions(stream, container_format)
            for stream in source.streams
            if stream.index != reader.stream and stream.index not in covers and not _is_timecode(stream)
        }
    chosen, failures, damaged = _try_actions(reader, container_format, options, actions)
    converted = [
        f"{names[index]} to {action.removeprefix('lib')}" for index, action in chosen.items() if action != COPY
    ]
    if converted:
        warnings.warn(
            f"{target} does not support all streams of {reader.path}; converted: {', '.join(converted)}.",
            stacklevel=5,
        )
    if failures:
        left_out = ", ".join(names[index] for index in sorted(failures))
        warnings.warn(f"{target} does not include {left_out} of {reader.path}.", stacklevel=5)
    for index, times in damaged.items():
        warnings.warn(
            f"{names[index]} of {reader.path} is damaged in {len(times)} places, the first at {times[0]:.2f} seconds; "
            f"they are missing in {target}.",
            stacklevel=5,
        )
    return StreamPlan(chosen, list(covers.values()), timecode)


def _describe(stream: Stream) -> str:
    if stream.type == "attachment":
        return f"stream {stream.index} (attachment, {stream.metadata.get('filename', 'without a name')})"
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown codec"
    return f"stream {stream.index} ({'cover image' if is_cover(stream) else stream.type}, {codec})"


def _possible_actions(stream: Stream, container_format: str) -> list[str]:
    """The actions to try, the best first."""
    if stream.type == "attachment" and container_format != "matroska":
        return []  # the muxer of WebM accepts attachments and does not write them
    codec = stream.codec_context.codec if stream.codec_context else None
    is_convertible = codec is not None and (stream.type == "audio" or codec.text_sub)
    return [COPY, CONVERSIONS[container_format][stream.type]] if is_convertible else [COPY]


def _is_timecode(stream: Stream) -> bool:
    """Whether a stream holds the timecode, which muxers write from metadata."""
    return stream.type == "data" and "timecode" in stream.metadata


def _find_timecode(source: InputContainer, reader: VideoReader) -> str | None:
    video = find_video_stream(source, reader.path, reader.stream)
    data = [stream.metadata for stream in source.streams if stream.type == "data"]
    for metadata in (video.metadata, source.metadata, *data):
        for key, value in metadata.items():
            if key.lower() == "timecode":
                return value
    return None


def _read_covers(source: InputContainer) -> dict[int, Attachment]:
    """Cover images by the indices of their streams; in Matroska, they are attachments."""
    streams = [stream for stream in source.streams if is_cover(stream)]
    covers: dict[int, Attachment] = {}
    for packet in source.demux(streams) if streams else ():
        stream = packet.stream
        if stream.index not in covers and packet.size:
            codec = stream.codec_context.codec.canonical_name
            kind = {"mjpeg": "jpg"}.get(codec, codec)
            name = stream.metadata.get("filename", f"cover.{kind}")
            mime_type = stream.metadata.get("mimetype", f"image/{'jpeg' if kind == 'jpg' else kind}")
            covers[stream.index] = Attachment(name, mime_type, bytes(packet))
        if len(covers) == len(streams):
            break
    return covers


def _try_actions(
    reader: VideoReader, container_format: str, options: Mapping[str, str], actions: Mapping[int, list[str]]
) -> tuple[dict[int, str], list[int], dict[int, list[float]]]:
    """The first action that works for each stream, the streams for which none does, and times of damage."""
    chosen: dict[int, str] = {}
    failures = [index for index, possible in actions.items() if not possible]
    damaged: dict[int, list[float]] = {}
    waiting = {index: list(possible) for index, possible in actions.items() if possible}
    while waiting:
        with open_container(reader.path) as source:
            trials = {
                index: _Trial(source.streams[index], possible[0], container_format, options, reader.start)
                for index, possible in waiting.items()
            }
            for packet in read_packets(source, trials, reader):
                trials[packet.stream.index].write(packet)
            for index, trial in trials.items():
                trial.close()
                if trial.is_empty:
                    del waiting[index]
                elif trial.error is None:
                    chosen[index] = waiting[index][0]
                    if trial.damaged:
                        damaged[index] = trial.damaged
                    del waiting[index]
                elif len(waiting[index]) > 1:
                    waiting[index].pop(0)
                else:
                    failures.append(index)
                    del waiting[index]
    return dict(sorted(chosen.items())), failures, damaged


class _Trial:
    """One stream, written nowhere."""

    def __init__(
        self, stream: Stream, action: str, container_format: str, options: Mapping[str, str], start: Fraction
    ) -> None:
        self.type = stream.type
        self.is_empty = stream.type == "data"  # the chapters of MP4, for example, are in a stream without packets
        self.error: Exception | None = None
        # Muxers accept some of these and do not write them, so they are read again.
        self._file: IO[bytes] | _Nowhere
        is_read_again = is_cover(stream) or stream.type == "data"
        self._file = tempfile.TemporaryFile() if is_read_again else _Nowhere()  # noqa: SIM115
        options = {name: value for name, value in options.items() if name != "movflags"}  # reads the file again
        self._output = av.open(self._file, "w", format=container_format, container_options=options, **METADATA_ERRORS)
        with self._catch():
            self._writer = open_stream_writer(stream, self._output, action, start)
            self._output.start_encoding()

    @property
    def damaged(self) -> list[float]:
        return self._writer.damaged

    def write(self, packet: av.Packet) -> None:
        self.is_empty &= packet.size == 0
        with self._catch():
            if self.error is None:
                self._output.mux(self._writer.convert(packet))

    def close(self) -> None:
        with self._catch():
            self._output.close()
            if not isinstance(self._file, _Nowhere):
                with self._file:
                    self._check_content(self._file)

    def _check_content(self, file: IO[bytes]) -> None:
        if self.error is None and not self.is_empty:
            file.seek(0)
            with av.open(file) as written:
                if not any(stream.type == self.type for stream in written.streams):
                    raise ValueError("the stream is missing in the file")

    @contextlib.contextmanager
    def _catch(self) -> Iterator[None]:
        # Whatever is raised here would be raised again at the end of the work, unless it is a fault of the machine:
        # the temporary file or the memory.
        try:
            yield
        except Exception as error:
            is_of_a_file = isinstance(error, OSError) and not isinstance(error, av.FFmpegError)
            if is_of_a_file or isinstance(error, MemoryError):
                raise
            self.error = self.error or error


class _Nowhere(io.RawIOBase):
    """A file that forgets what is written to it."""

    def __init__(self) -> None:
        self._position = self._size = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self._position += len(content)
        self._size = max(self._size, self._position)
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position
