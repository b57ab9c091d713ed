"""Writing of video files: frames at their true timestamps, and everything else taken over from the source.

`VideoWriter` encodes segments of frames into a folder beside the target, from which a killed run can be resumed. At
the end the packets of all segments are written, without encoding them again, into one file together with the audio,
subtitles, chapters and metadata of the source.

The output has 8 bits per colour, whatever the source has.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import av
import numpy as np

from ..state_version import check_state_version
from .animation import AnimationReader
from .colour import Colour
from .image_folder import ImageFolderReader
from .part_folder import PartFolder, Setting, describe_source, report_write_errors, sync
from .reader import VideoReader
from .segments.muxer import Muxer
from .segments.segment_encoder import PRESETS, Encoding, SegmentEncoder


class OutputFormat(NamedTuple):
    """FFmpeg's names of a container format and of the encoder that is used with it."""

    container: str
    encoder: str


OUTPUT_FORMATS = {
    ".mp4": OutputFormat("mp4", "libx264"),
    ".mov": OutputFormat("mov", "libx264"),
    ".mkv": OutputFormat("matroska", "libx264"),
    ".webm": OutputFormat("webm", "libvpx-vp9"),
}

Source = VideoReader | AnimationReader | ImageFolderReader

STATE_VERSION = 1


@dataclass(frozen=True)
class WriterState:
    """What a `VideoWriter` saves at the end of a segment.

    Args:
        num_segments (`int`): Number of finished segments.
        num_written (`int`): Number of frames in them.
        last_pts (`int`, *optional*): Timestamp of the last frame, in units of the time base.
        is_joined (`bool`): Whether the final file is complete.
        caller_state: What the caller passed to `end_segment`.
    """

    num_segments: int = 0
    num_written: int = 0
    last_pts: int | None = None
    is_joined: bool = False
    caller_state: Any = None

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values, with its version."""
        return {"version": STATE_VERSION, **vars(self)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "WriterState":
        """Restore a state that `state_dict` returned.

        Raises:
            ValueError: If another version of the package saved it.
        """
        check_state_version(state, STATE_VERSION, "VideoWriter")
        return cls(**{name: value for name, value in state.items() if name != "version"})


class VideoWriter:
    """Encodes frames into a new file, with the timestamps, audio and all other content of a source.

    Until the `with` block ends, everything is in the folder `name.part` beside the file, for example `out.mp4.part`.
    If the block ends without an exception, the file appears under its name, complete, and the folder is removed. After
    an exception or a kill the folder stays if `end_segment` was called, and another writer with `resume=True` can
    continue. The encoder is H.264 for mp4, mov and mkv, and VP9 for webm. The disk needs space for twice the result.

        with VideoReader("in.mp4") as reader, VideoWriter("out.mp4", reader, width=640, height=480) as writer:
            for frame in reader:
                writer.write(frame.image, frame.pts, frame.duration)

    Args:
        path (`str` or `os.PathLike`): The file to write: .mp4, .mov, .mkv or .webm. Matroska and WebM round times to
            milliseconds.
        source ([`VideoReader`], [`AnimationReader`] or [`ImageFolderReader`], *optional*): Its time base, frame rate,
            colour description and pixel aspect are kept; audio, subtitles, chapters and metadata are copied. What the
            new container does not support is converted or left out, with a warning that names it.
        width, height (`int`): Size of the frames in pixels.
        frame_rate (`Fraction` or `float`, *optional*): Frames per second; needed without `source`.
        crf (`int`, *optional*, defaults to 16): Constant rate factor, from 0 (lossless) to 51; 16 cannot be
            distinguished from the original by eye.
        preset (`str`, *optional*, defaults to `"medium"`): x264's trade-off between time and file size.
        resume (`bool`, *optional*, defaults to `False`): Continue an earlier run with the same arguments; without
            such a run, start from the beginning.

    Attributes:
        num_written (`int`): Number of frames so far, including those of the run that is resumed.
        resumed: State that the earlier run saved last, or `None`; the frames before it must not be written again.

    Raises:
        ValueError: If an argument is not valid or the parent folder does not exist; on entering, if another process
            writes the same file, or the work to be resumed is damaged or was started with other arguments.
        OSError: If the file cannot be written, for example because the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        source: Source | None = None,
        *,
        width: int,
        height: int,
        frame_rate: Fraction | float | None = None,
        crf: int = 16,
        preset: str = "medium",
        resume: bool = False,
    ) -> None:
        self.path, self.source, self.resume = Path(path), source, resume
        self.format = _check_target(self.path, source)
        if source is not None and frame_rate is None:
            frame_rate = source.frame_rate
        if frame_rate is None:
            raise ValueError("frame_rate is needed when there is no source to take it from (source=None).")
        if frame_rate <= 0:
            raise ValueError(f"frame_rate must be positive, got {frame_rate}.")
        if width < 1 or height < 1:
            raise ValueError(f"width and height must be positive, got {width} x {height}.")
        if not 0 <= crf <= 51:
            raise ValueError(f"crf must be from 0 to 51, got {crf}.")
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}.")
        self.frame_rate = Fraction(frame_rate).limit_denominator(100_000)
        self.time_base = source.time_base if source else 1 / self.frame_rate
        self._encoding = Encoding(
            encoder=self.format.encoder,
            width=width,
            height=height,
            frame_rate=self.frame_rate,
            time_base=self.time_base,
            crf=crf,
            preset=preset,
            colour=source.colour if source else Colour(),
            pixel_aspect=source.pixel_aspect if source else Fraction(1),
        )

    def __enter__(self) -> "VideoWriter":
        with contextlib.ExitStack() as resources, report_write_errors(self.path):
            video = self.source if isinstance(self.source, VideoReader) else None
            self._muxer = Muxer(self.format.container, self._encoding, video, self.path)
            self._folder = PartFolder(self.path, self._settings())
            self._folder.open(self.resume)
            self._segment: SegmentEncoder | None = None
            self._is_complete = False
            resources.callback(self._close_folder)
            saved = self._folder.saved
            self._restore(WriterState() if saved is None else WriterState.from_state_dict(saved))
            self._resources = resources.pop_all()
        return self

    def _settings(self) -> dict[str, Setting]:
        encoding = self._encoding
        settings: dict[str, Setting] = {
            "width": encoding.width,
            "height": encoding.height,
            "frame rate": str(encoding.frame_rate),
            "time base": str(encoding.time_base),
            "encoder": encoding.encoder,
            "crf": encoding.crf,
            "preset": encoding.preset,
            "PyAV": av.__version__,
        }
        return settings | (describe_source(self.source.path) if self.source else {})

    def _restore(self, state: WriterState) -> None:
        self.num_written, self.resumed = state.num_written, state.caller_state
        self._num_segments, self._last_pts = state.num_segments, state.last_pts
        if state.is_joined and self.path.exists():
            # Only the removal of the folder was interrupted; frames that are written again are in the file already.
            self._is_complete = True
            return
        segments = self._segment_paths()
        missing = [str(path) for path in segments if not path.exists()]
        if missing:
            raise ValueError(
                f"{missing[0]} is missing; start again without resume, which deletes {self._folder.path}."
            )
        self._folder.keep([path.name for path in segments])

    def _segment_paths(self) -> list[Path]:
        return [self._segment_path(index) for index in range(self._num_segments)]

    def _segment_path(self, index: int) -> Path:
        return self._folder.path / f"{index:05d}.packets"

    def write(self, image: np.ndarray, pts: int | None = None, duration: int | None = None) -> None:
        """Write the next frame. It is encoded in the background and must not be modified after the call.

        Args:
            image (`np.ndarray`): RGB uint8 of shape `(height, width, 3)`.
            pts (`int`, *optional*): When it appears, in units of `time_base` (the source's), later than the previous
                frame; by default frames follow each other at the frame rate.
            duration (`int`, *optional*): How long it is shown, in the same units; 1 / frame rate by default. It
                matters for the last frame only.

        Raises:
            ValueError: If the image has another size or type, or `pts` does not increase.
            OSError: If this frame or an earlier one cannot be written.
        """
        shape = (self._encoding.height, self._encoding.width, 3)
        if image.dtype != np.uint8 or image.shape != shape:
            raise ValueError(f"{self.path}: image must be uint8 of shape {shape}, got {image.dtype} {image.shape}.")
        if pts is None:
            pts = round(self.num_written / (self.frame_rate * self.time_base))
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"{self.path}: pts must increase from frame to frame, got {pts} after {self._last_pts}.")
        if not self._is_complete:
            with report_write_errors(self.path):
                if self._segment is None:
                    self._segment = SegmentEncoder(self._folder.path / "unfinished.packets", self._encoding)
                self._segment.write(image, pts, duration or self._encoding.frame_duration)
        self._last_pts = pts
        self.num_written += 1

    def end_segment(self, state: Any) -> None:
        """Finish a segment, from whose end a killed run can be resumed, and save the state of the caller there.

        When the method returns, all frames so far and the state are on the disk.

        Args:
            state: Tensors, numbers, strings, `None`, and lists, tuples and dictionaries of them.

        Raises:
            OSError: If a frame or the state cannot be written.
        """
        if not self._is_complete:
            with report_write_errors(self.path):
                self._finish_segment()
                self._save(state)

    def _save(self, caller_state: Any) -> None:
        state = WriterState(self._num_segments, self.num_written, self._last_pts, self._is_complete, caller_state)
        self._folder.save(state.state_dict())

    def _finish_segment(self) -> None:
        if self._segment is not None:
            self._segment.finish()
            os.replace(self._segment.path, self._segment_path(self._num_segments))
            self._segment = None
            self._num_segments += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._resources, report_write_errors(self.path):
            if kind is None and not self._is_complete:
                if self.num_written == 0:
                    raise ValueError(f"{self.path}: no frames were written to it.")
                self._finish_segment()
                self._join()

    def _join(self) -> None:
        joined = self._folder.path / f"joined{self.path.suffix}"
        self._muxer.join(self._segment_paths(), joined)
        sync(joined)
        os.replace(joined, self.path)
        sync(self.path.parent)
        self._is_complete = True
        if self._folder.saved is not None:
            self._save(WriterState.from_state_dict(self._folder.saved).caller_state)

    def _close_folder(self) -> None:
        if self._segment is not None:
            self._segment.abandon()
        self._folder.close(remove=self._is_complete or self._folder.saved is None)


def _check_target(path: Path, source: Source | None) -> OutputFormat:
    suffix = path.suffix.lower()
    if suffix not in OUTPUT_FORMATS:
        raise ValueError(f"{path}: the output must be one of {', '.join(OUTPUT_FORMATS)}.")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist; create it first.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; pass a file name.")
    if source is not None and path.exists() and path.samefile(source.path):
        raise ValueError(f"{path} is the source itself; choose another name.")
    if OUTPUT_FORMATS[suffix].encoder not in av.codecs_available:
        raise ValueError(f"{path}: this build of PyAV has no {OUTPUT_FORMATS[suffix].encoder}; write another format.")
    return OUTPUT_FORMATS[suffix]
