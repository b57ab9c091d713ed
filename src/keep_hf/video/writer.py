"""Writing of video files: frames at their true timestamps, and everything else taken over from the source.

`VideoWriter` encodes segments of frames into a folder beside the target, from which a killed run can be resumed. At
the end the packets of all segments are written, without encoding them again, into one file together with the audio,
subtitles, chapters and metadata of the source.

Sources of 8 bits per colour are written with 8 bits, deeper ones with 10 and the metadata of HDR.
"""

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from ..options import EncodingOptions
from ..state_version import SavedStateError, check_state_version
from .colour import Colour
from .deep.deep_image import DeepImage
from .media_files import check_output_size
from .part_folder import PartFolder, Setting, describe_source, report_write_errors, sync
from .reader import VideoReader
from .segments.encoding import ENCODERS, Encoding
from .segments.muxer import Muxer
from .segments.output_format import Source, check_encoder, check_target, choose_codec
from .segments.segment_encoder import SegmentEncoder, checksum


DEFAULT_CRF, DEFAULT_PRESET = 16, "medium"
# Longest time that a frame may be shown, in units of the time base. MP4 has 31 bits for the difference of two decoding
# times, which may be twice as long.
MAX_DURATION = 2**30
MAX_SECONDS = 1_000_000
# Frames have times of their own; the rate of a file of hours between frames only must not become 0.
MIN_FRAME_RATE = Fraction(1, 100_000)

STATE_VERSION = 2


@dataclass(frozen=True)
class WriterState:
    """What a `VideoWriter` saves at the end of a segment.

    Args:
        checksums (`list[int]`): CRC-32 of each finished segment.
        num_written (`int`): Number of frames in them.
        last_pts (`int`, *optional*): Timestamp of the last frame, in units of the time base.
        is_joined (`bool`): Whether the final file is complete.
        caller_state: What the caller passed to `end_segment`.
    """

    checksums: Sequence[int] = ()
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
            SavedStateError: If another version of the package saved it, or it is damaged.
        """
        check_state_version(state, STATE_VERSION, "VideoWriter")
        content = {name: value for name, value in state.items() if name != "version"}
        checksums, num_written = content.get("checksums"), content.get("num_written")
        is_valid = (
            content.keys() == vars(cls()).keys()
            and isinstance(checksums, list)
            and all(isinstance(number, int) for number in checksums)
            and isinstance(num_written, int)
            and num_written >= len(checksums)  # a segment has a frame or more
            and (num_written > 0) == (len(checksums) > 0)
            and isinstance(content["last_pts"], int | None)
        )
        if not is_valid:
            raise SavedStateError("The saved state of VideoWriter is damaged; start again without resume.")
        return cls(**content)


class VideoWriter:
    """Encodes frames into a new file, with the timestamps, audio and all other content of a source.

    Until the `with` block ends, everything is in the folder `name.part` beside the file, for example `out.mp4.part`.
    If the block ends without an exception, the file appears under its name, complete, and the folder is removed. After
    an exception or a kill the folder stays if `end_segment` was called, and another writer with `resume=True` can
    continue. The disk needs space for twice the result.

    A source with more than 8 bits per colour becomes a video of 10 bits, H.264 High 10 or HEVC Main 10, with the
    colour description, the range and the static HDR metadata of the source; WebM has 8. Chroma is subsampled to 4:2:0.
    Frames from `VideoReader.read(deep=True)` are written as they are; RGB frames are converted.

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
        codec, crf, preset: See [`EncodingOptions`].
        bits (`int`, *optional*): 8 or 10 bits per colour; by default those of the source, as described above.
        takes_streams (`bool`, *optional*, defaults to `True`): Whether the audio and all other content of the source
            is taken over; `False` for a part of a video, whose segments another writer takes.
        resume (`bool`, *optional*, defaults to `False`): Continue an earlier run with the same arguments; without
            such a run, start from the beginning.

    Attributes:
        bits (`int`): Bits per colour of the file.
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
        codec: str | None = None,
        crf: int | None = None,
        preset: str | None = None,
        bits: int | None = None,
        takes_streams: bool = True,
        resume: bool = False,
    ) -> None:
        self.path, self.source, self.takes_streams, self.resume = Path(path), source, takes_streams, resume
        options = EncodingOptions(codec=codec, crf=crf, preset=preset)
        self.format = check_target(self.path, source)
        if source is not None and frame_rate is None:
            frame_rate = source.frame_rate
        if frame_rate is None:
            raise ValueError("frame_rate is needed when there is no source to take it from (source=None).")
        if frame_rate <= 0:
            raise ValueError(f"frame_rate must be positive, got {frame_rate}.")
        check_output_size(self.path, width, height)
        codec, deep = choose_codec(self.path, source, options.codec, bits)
        if codec == "vp9" and preset is not None:
            raise ValueError(f"{self.path} is written with VP9, which has no presets; leave out preset={preset!r}.")
        self.frame_rate = max(Fraction(frame_rate).limit_denominator(100_000), MIN_FRAME_RATE)
        self.time_base = source.time_base if source else 1 / self.frame_rate
        self._encoding = Encoding(
            encoder=ENCODERS[codec],
            width=width,
            height=height,
            frame_rate=self.frame_rate,
            time_base=self.time_base,
            crf=DEFAULT_CRF if options.crf is None else options.crf,
            preset=options.preset or DEFAULT_PRESET,
            colour=source.colour if source else Colour(),
            pixel_aspect=source.pixel_aspect if source else Fraction(1),
            deep=deep,
        )
        check_encoder(self.path, codec, self._encoding)
        self.bits = 8 if deep is None else 10
        # Of the parts of a video, the writer that takes their segments warns.
        if takes_streams and deep is not None and deep.metadata.dynamic:
            warnings.warn(
                f"{self.path} does not include the {', '.join(deep.metadata.dynamic)} metadata of its source; what "
                "does not need them is kept.",
                stacklevel=2,
            )

    def __enter__(self) -> "VideoWriter":
        with contextlib.ExitStack() as resources, report_write_errors(self.path):
            video = self.source if isinstance(self.source, VideoReader) and self.takes_streams else None
            self._muxer = Muxer(self.format.container, self._encoding, video, self.path)
            self._folder = PartFolder(self.path, self._settings())
            self._folder.open(self.resume)
            self._segment: SegmentEncoder | None = None
            self._is_complete = self._is_left_unfinished = False
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
            "pixel format": encoding.pixel_format,
            "PyAV": av.__version__,
        }
        if isinstance(self.source, VideoReader):
            settings["video stream"] = self.source.stream
        return settings | (describe_source(self.source.path) if self.source else {})

    def _restore(self, state: WriterState) -> None:
        self.num_written, self.resumed = state.num_written, state.caller_state
        self._checksums, self._last_pts = list(state.checksums), state.last_pts
        self._taken: list[Path] = []
        if state.is_joined and self.path.exists():
            # Only the removal of the folder was interrupted; frames that are written again are in the file already.
            self._is_complete = True
            return
        segments = self.segment_paths
        for path, expected in zip(segments, self._checksums, strict=True):
            if not path.is_file() or checksum(path) != expected:
                problem = "damaged" if path.exists() else "missing"
                raise SavedStateError(
                    f"{path} is {problem}; start again without resume, which deletes {self._folder.path}."
                )
        self._folder.keep([path.name for path in segments])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames in pixels."""
        return self._encoding.width, self._encoding.height

    @property
    def segment_paths(self) -> list[Path]:
        """The files of the finished segments."""
        return [*self._taken, *(self._segment_path(index) for index in range(len(self._checksums)))]

    def _segment_path(self, index: int) -> Path:
        return self._folder.path / f"{index:05d}.packets"

    def write(self, image: np.ndarray | DeepImage, pts: int | None = None, duration: int | None = None) -> None:
        """Write the next frame. It is encoded in the background and must not be modified after the call.

        Args:
            image (`np.ndarray` or [`DeepImage`]): RGB uint8 of shape `(height, width, 3)`, or 10-bit YUV of this size
                for a file of 10 bits.
            pts (`int`, *optional*): When it appears, in units of `time_base` (the source's), later than the previous
                frame; by default frames follow each other at the frame rate.
            duration (`int`, *optional*): How long it is shown, in the same units; 1 / frame rate by default. It
                matters for the last frame only.

        Raises:
            ValueError: If the image has another size or type, or `pts` does not increase.
            OSError: If this frame or an earlier one cannot be written.
        """
        self._check_image(image)
        if pts is None:
            pts = round(self.num_written / (self.frame_rate * self.time_base))
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"{self.path}: pts must increase from frame to frame, got {pts} after {self._last_pts}.")
        duration = duration or self._encoding.frame_duration
        shown = max(duration, 0 if self._last_pts is None else pts - self._last_pts)
        if shown > MAX_DURATION or shown * self.time_base > MAX_SECONDS:
            raise ValueError(
                f"{self.path}: a frame would be shown for {float(shown * self.time_base):.0f} seconds, which no "
                "container format can express; the timestamps of the source may be damaged."
            )
        if not self._is_complete:
            with report_write_errors(self.path):
                if self._segment is None:
                    self._segment = SegmentEncoder(self._folder.path / "unfinished.packets", self._encoding)
                self._segment.write(image, pts, duration)
        self._last_pts = pts
        self.num_written += 1

    def _check_image(self, image: np.ndarray | DeepImage) -> None:
        width, height = self._encoding.width, self._encoding.height
        if isinstance(image, DeepImage):
            if self.bits == 8 or image.size != (width, height):
                raise ValueError(
                    f"{self.path} has {self.bits} bits per colour and {width} x {height} pixels, got a frame of 10 "
                    f"bits and {image.size[0]} x {image.size[1]} pixels."
                )
        elif image.dtype != np.uint8 or image.shape != (height, width, 3):
            raise ValueError(
                f"{self.path}: image must be uint8 of shape {(height, width, 3)}, got {image.dtype} {image.shape}."
            )

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

    def take_segments(self, paths: Sequence[Path], num_frames: int) -> None:
        """Take the segments of other writers with the same settings, which stay where they are, as the beginning.

        Args:
            paths (`Sequence[Path]`): The segments in order.
            num_frames (`int`): Number of frames in them.

        Raises:
            ValueError: If frames were written before.
        """
        if self.num_written > 0:
            raise ValueError(f"{self.path} has {self.num_written} frames; segments are taken before the first frame.")
        self._taken, self.num_written = list(paths), num_frames

    def leave_unfinished(self) -> None:
        """End the `with` block without the file; another writer with `resume=True` continues from here."""
        self._is_left_unfinished = True

    def _save(self, caller_state: Any) -> None:
        state = WriterState(list(self._checksums), self.num_written, self._last_pts, self._is_complete, caller_state)
        self._folder.save(state.state_dict())

    def _finish_segment(self) -> None:
        if self._segment is not None:
            self._segment.finish()
            os.replace(self._segment.path, self._segment_path(len(self._checksums)))
            self._checksums.append(self._segment.checksum)
            self._segment = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._resources, report_write_errors(self.path):
            if kind is None and not self._is_complete and not self._is_left_unfinished:
                if self.num_written == 0:
                    raise ValueError(f"{self.path}: no frames were written to it.")
                self._finish_segment()
                self._join()

    def _join(self) -> None:
        joined = self._folder.path / f"joined{self.path.suffix}"
        self._muxer.join(self.segment_paths, joined)
        sync(joined)
        os.replace(joined, self.path)
        sync(self.path.parent)
        self._is_complete = True
        if self._folder.saved is not None:
            # The file is complete; the state is used if the process is killed before the folder is removed.
            with contextlib.suppress(OSError):
                self._save(WriterState.from_state_dict(self._folder.saved).caller_state)

    def _close_folder(self) -> None:
        if self._segment is not None:
            self._segment.abandon()
        self._folder.close(remove=self._is_complete or self._folder.saved is None)
