"""Video files out: frames at their true timestamps, everything else carried across from the source.

`VideoWriter` encodes segments of frames into a folder beside the target, from which a killed run can be resumed; at
the end their packets go, without being encoded again, into one file together with the sound, subtitles, chapters and
metadata of the source.

The output has 8 bits per colour, whatever the source has.
"""

import contextlib
import heapq
import io
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from .image_folder import ImageFolderReader
from .other_streams import carry_streams, plan_streams
from .part_folder import PartFolder, describe_source, sync
from .reader import Colour, VideoReader, open_container
from .segment_encoder import PRESETS, Encoding, SegmentEncoder, read_segment


# File name extension -> container format and encoder.
OUTPUT_FORMATS = {
    ".mp4": ("mp4", "libx264"),
    ".mov": ("mov", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx-vp9"),
}

NOTHING = {"num_segments": 0, "num_written": 0, "last_pts": None, "state": None, "complete": False}


class VideoWriter:
    """Encodes frames into a new file, with the timestamps, sound and everything else of a source.

    Until the `with` block ends, all work lies in the folder `name.part` beside the file, for example `out.mp4.part`.
    If it ends without an exception, the file appears under its name, complete, and the folder is removed. After an
    exception or a kill the folder stays if `end_segment` was called, and another writer with `resume=True` can go on.
    H.264 for mp4, mov and mkv, VP9 for webm. The disk must have room for the result twice.

        with VideoReader("in.mp4") as reader, VideoWriter("out.mp4", reader, width=640, height=480) as writer:
            for frame in reader:
                writer.write(frame.image, frame.pts, frame.duration)

    Args:
        path (`str` or `os.PathLike`): The file to write: .mp4, .mov, .mkv or .webm. Matroska and webm round times to
            milliseconds.
        like ([`VideoReader`] or [`ImageFolderReader`], *optional*): The source. Its time base, frame rate, colour
            description and pixel aspect are kept; sound, subtitles, chapters and metadata are copied. What the new
            container cannot hold is converted or left out, with a warning that names it.
        width, height (`int`): Of the frames to come, in pixels.
        frame_rate (`Fraction` or `float`, *optional*): Frames per second; needed without `like`.
        crf (`int`): Quality, from 0 (lossless) to 51; 16 cannot be told from the original.
        preset (`str`): x264's trade of time for size.
        resume (`bool`): Go on where an earlier run with the same arguments ended; if there was none, begin.

    Attributes:
        num_written (`int`): Frames so far, with those of the run that is resumed.
        resumed (`dict`, *optional*): The state that the earlier run saved last; its frames need not come again.

    Raises:
        ValueError: If an argument cannot be used, or the folder does not exist; on entering, if another process writes
            the same file, or what lies there to be resumed is damaged or was begun with other arguments.
        OSError: If the file cannot be written, for example because the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        like: VideoReader | ImageFolderReader | None = None,
        *,
        width: int,
        height: int,
        frame_rate: Fraction | float | None = None,
        crf: int = 16,
        preset: str = "medium",
        resume: bool = False,
    ):
        self.path = Path(path)
        if self.path.suffix.lower() not in OUTPUT_FORMATS:
            raise ValueError(f"{self.path}: the output must be one of {', '.join(OUTPUT_FORMATS)}.")
        if not self.path.parent.is_dir():
            raise ValueError(f"{self.path}: the folder {self.path.parent} does not exist; create it first.")
        if self.path.is_dir():
            raise ValueError(f"{self.path} is a folder; name a file.")
        if like is not None and self.path.exists() and self.path.samefile(like.path):
            raise ValueError(f"{self.path} is the source itself; name another file.")
        if width < 1 or height < 1:
            raise ValueError(f"width and height must be positive, got {width} x {height}.")
        if frame_rate is None and like is None:
            raise ValueError("frame_rate is needed when there is no source to take it from (like=None).")
        if frame_rate is not None and frame_rate <= 0:
            raise ValueError(f"frame_rate must be positive, got {frame_rate}.")
        if not 0 <= crf <= 51:
            raise ValueError(f"crf must be from 0 to 51, got {crf}.")
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}.")
        self.format, encoder = OUTPUT_FORMATS[self.path.suffix.lower()]
        if encoder not in av.codecs_available:
            raise ValueError(f"{self.path}: this build of PyAV has no {encoder}; write another format.")
        self.like, self.resume = like, resume
        rate = like.frame_rate if like is not None and frame_rate is None else cast(Fraction, frame_rate)
        self.frame_rate = Fraction(rate).limit_denominator(100_000)
        self.time_base = like.time_base if like else 1 / self.frame_rate
        self._encoding = Encoding(
            encoder,
            width,
            height,
            self.frame_rate,
            self.time_base,
            crf,
            preset,
            like.colour if like else Colour(),
            like.pixel_aspect if like else Fraction(1),
        )
        # The duration of a frame at the frame rate.
        self._step = max(1, round(1 / (self.frame_rate * self.time_base)))

    def __enter__(self) -> "VideoWriter":
        with contextlib.ExitStack() as resources, self._errors_named():
            self._plan = self._plan_streams()
            self._folder = PartFolder(self.path, self._settings())
            self._folder.open(self.resume)
            self._segment: SegmentEncoder | None = None
            self._complete = False
            resources.callback(self._leave_folder)
            self._take_up(self._folder.saved or NOTHING)
            self._resources = resources.pop_all()
        return self

    def _plan_streams(self) -> dict[int, str]:
        # What the container refuses must be known now, not after hours of work, so one is laid out in memory.
        trial = av.open(io.BytesIO(), "w", format=self.format, metadata_errors="replace")
        plan: dict[int, str] = {}
        if isinstance(self.like, VideoReader):
            with open_container(self.like.path) as source:
                plan = plan_streams(source, trial, self.path)
        with contextlib.ExitStack() as sources, trial:
            self._add_streams(trial, plan, sources)
        return plan

    def _settings(self) -> dict[str, Any]:
        encoding = self._encoding
        return {
            "width": encoding.width,
            "height": encoding.height,
            "frame rate": str(encoding.frame_rate),
            "time base": str(encoding.time_base),
            "encoder": encoding.encoder,
            "crf": encoding.crf,
            "preset": encoding.preset,
            "PyAV": av.__version__,
        } | (describe_source(self.like.path) if self.like else {})

    def _take_up(self, saved: dict[str, Any]) -> None:
        self.num_written, self.resumed = saved["num_written"], saved["state"]
        self._num_segments, self._last_pts = saved["num_segments"], saved["last_pts"]
        if saved["complete"] and self.path.exists():
            # Only the removal of the folder was cut short; frames that come again are in the file already.
            self._complete = True
            return
        segments = [self._segment_path(index) for index in range(self._num_segments)]
        missing = [str(path) for path in segments if not path.exists()]
        if missing:
            raise ValueError(f"{missing[0]} is missing; start anew without resume, which deletes {self._folder.path}.")
        self._folder.keep([path.name for path in segments])

    def _segment_path(self, index: int) -> Path:
        return self._folder.path / f"{index:05d}.packets"

    def write(self, image: np.ndarray, pts: int | None = None, duration: int | None = None) -> None:
        """Write the next frame; it is encoded in the background and must not be changed after the call.

        Args:
            image (`np.ndarray`): RGB uint8 of shape (height, width, 3).
            pts (`int`, *optional*): When it appears, in units of `time_base` (the source's), later than the frame
                before; without it frames follow each other at the frame rate.
            duration (`int`, *optional*): How long it stays, in the same units; 1 / frame rate by default. Matters
                for the last frame only.

        Raises:
            ValueError: If the image has another size or type, or time runs backwards.
            OSError: If this frame or one before cannot be written.
        """
        shape = (self._encoding.height, self._encoding.width, 3)
        if image.dtype != np.uint8 or image.shape != shape:
            raise ValueError(f"{self.path}: image must be uint8 of shape {shape}, got {image.dtype} {image.shape}.")
        if pts is None:
            pts = round(self.num_written / (self.frame_rate * self.time_base))
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"{self.path}: pts must grow from frame to frame, got {pts} after {self._last_pts}.")
        if not self._complete:
            with self._errors_named():
                self._encode(image, pts, duration or self._step)
        self._last_pts = pts
        self.num_written += 1

    def _encode(self, image: np.ndarray, pts: int, duration: int) -> None:
        if self._segment is None:
            self._segment = SegmentEncoder(self._folder.path / "unfinished.packets", self._encoding)
        self._segment.write(image, pts, duration)

    def end_segment(self, state: Any) -> None:
        """Finish a part from which a killed run can be resumed, and save what the caller needs to go on.

        When it returns, all frames so far and the state are on the disk.

        Args:
            state: Tensors, numbers, strings, `None`, and lists, tuples and dictionaries of them.

        Raises:
            OSError: If a frame or the state cannot be written.
        """
        if not self._complete:
            with self._errors_named():
                self._finish_segment()
                self._save(state, complete=False)

    def _save(self, state: Any, complete: bool) -> None:
        self._folder.save(
            {
                "num_segments": self._num_segments,
                "num_written": self.num_written,
                "last_pts": self._last_pts,
                "state": state,
                "complete": complete,
            }
        )

    def _finish_segment(self) -> None:
        if self._segment is not None:
            self._segment.finish()
            os.replace(self._segment.path, self._segment_path(self._num_segments))
            self._segment = None
            self._num_segments += 1

    def __exit__(self, exception_type, *exception) -> None:
        with self._resources, self._errors_named():
            if exception_type is None and not self._complete:
                if self.num_written == 0:
                    raise ValueError(f"{self.path}: no frame was written to it.")
                self._finish_segment()
                joined = self._folder.path / f"joined{self.path.suffix}"
                self._join(joined)
                sync(joined)
                os.replace(joined, self.path)
                sync(self.path.parent)
                self._complete = True
                if self._folder.saved is not None:
                    self._save(self._folder.saved["state"], complete=True)

    def _leave_folder(self) -> None:
        if self._segment is not None:
            self._segment.abandon()
        self._folder.close(remove=self._complete or self._folder.saved is None)

    def _join(self, path: Path) -> None:
        options = {"fflags": "+bitexact"}  # no random numbers and no dates in the file
        if self.format in ("mp4", "mov"):
            options["movflags"] = "faststart"  # plays while it is being downloaded
            # Pictures that start later than the sound do so in these units, 1/1000 by default.
            options["movie_timescale"] = str(min(math.lcm(1000, self.time_base.denominator), 2**31 - 1))
        else:
            # AAC starts a little before 0; Matroska would move the pictures with it.
            options["avoid_negative_ts"] = "disabled"
        with contextlib.ExitStack() as resources:
            container = av.open(
                str(path), "w", format=self.format, container_options=options, metadata_errors="replace"
            )
            resources.callback(_close_quietly, container)
            stream, others = self._add_streams(container, self._plan, resources)
            # Sound travels with the pictures of its time, so that no muxer has to hold minutes of it back.
            for packet in heapq.merge(self._pictures(stream), others, key=_decoding_time):
                container.mux(packet)
            container.close()

    def _add_streams(
        self, container: OutputContainer, plan: dict[int, str], resources: contextlib.ExitStack
    ) -> tuple[VideoStream, Iterator[av.Packet]]:
        stream = cast(VideoStream, container.add_stream(self._encoding.encoder, rate=self.frame_rate))
        self._encoding.configure(stream.codec_context)
        others: Iterator[av.Packet] = iter(())
        if isinstance(self.like, VideoReader):
            source = resources.enter_context(open_container(self.like.path))
            others = carry_streams(source, container, stream, plan, self.like.start)
        container.start_encoding()
        return stream, others

    def _pictures(self, stream: VideoStream) -> Iterator[av.Packet]:
        """The packets of all segments, with decoding times that grow over their borders.

        Packets come at most `delay` places before their turn to be shown, so the k-th in the order of decoding can be
        decoded when the (k - delay)-th in the order of showing appears; that one is the least of those not yet used.
        """
        delay = 2 if stream.codec_context.has_b_frames else 0  # x264's pyramid
        beginning = islice(read_segment(self._segment_path(0), self.time_base), 2 * delay + 1)
        shown = sorted(cast(int, packet.pts) for packet in beginning)
        shown += [shown[-1] + k * self._step for k in range(1, delay + 1)]  # the video may be shorter
        # The steps before the first picture are those after it; then the average rate that MP4 tells comes out right.
        times = [shown[k] - (shown[delay] - shown[0]) for k in range(delay)]
        for index in range(self._num_segments):
            for packet in read_segment(self._segment_path(index), self.time_base):
                packet.dts = heapq.heappushpop(times, cast(int, packet.pts))
                packet.stream = stream
                yield packet

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise OSError(error.errno, f"{self.path} cannot be written: {error.strerror}") from error


def _decoding_time(packet: av.Packet) -> Fraction:
    return Fraction(0) if packet.dts is None else packet.dts * packet.time_base


def _close_quietly(container: OutputContainer) -> None:
    # On the way out of an error the file is thrown away; that it cannot be finished is no news.
    with contextlib.suppress(av.FFmpegError, OSError):
        container.close()
