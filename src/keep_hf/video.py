"""Video files in and out: frames with their true timestamps, everything else carried across untouched.

`VideoReader` gives RGB frames as a player shows them (turned upright, colours converted by the file's own matrix and
range); `VideoWriter` encodes frames at the timestamps of the source and copies its sound, subtitles, chapters and
metadata without encoding them again. Frames are RGB uint8 of shape (h, w, 3); times are `pts * time_base` seconds.

The output has 8 bits per colour, whatever the source has.
"""

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.format import Flags as FormatFlags
from av.stream import Disposition, Stream
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream


# File name extension -> container format and encoder.
OUTPUTS = {
    ".mp4": ("mp4", "libx264"),
    ".mov": ("mov", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx-vp9"),
}
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")

# x264's AVX-512 code reads memory that was never written when the width is no multiple of 128, and so encodes the same
# frames differently each time; without it the result is that of plain C. (Found with x264 165 under MALLOC_PERTURB_.)
CPU_AVX512_SKX = 256  # OpenCV's number, which its Python module does not name
REPRODUCIBLE = {"x264-params": "asm=avx2"} if cv2.checkHardwareSupport(CPU_AVX512_SKX) else {}

# The numbers of ITU-T H.273 for the matrices that swscale can convert: BT.709, FCC, BT.601 (two numbers), SMPTE 240M
# and BT.2020. RGB and "unspecified" need a decision of ours.
MATRICES = (1, 4, 5, 6, 7, 9)
MATRIX_RGB, MATRIX_UNSPECIFIED, MATRIX_601 = 0, 2, 6

# swscale's defaults are off by a level or two on every pixel (47 dB from YUV to RGB and back; with these, 77 dB).
EXACT = (
    Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)

# swscale honours the range of YUV, but takes all grey for full range.
FULL_GREY = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class VideoFrame:
    """One frame as displayed.

    Args:
        image (`np.ndarray`): RGB uint8 of shape (h, w, 3).
        pts (`int`): When the frame appears, in units of `time_base`.
        time_base (`Fraction`): Seconds per unit.
        duration (`int`): How long it stays, in units of `time_base`.
    """

    image: np.ndarray
    pts: int
    time_base: Fraction
    duration: int


@dataclass(frozen=True)
class Colour:
    """What the YUV numbers of a file mean, in the numbers of ITU-T H.273."""

    matrix: int = int(Colorspace.ITU709)
    primaries: int = int(ColorPrimaries.BT709)
    transfer: int = int(ColorTrc.BT709)


class VideoReader:
    """A video file as a sequence of `VideoFrame`, which can be iterated over again and again.

    Every iteration opens the file anew and decodes as it goes; nothing is held in memory. Leaving the `with` block
    closes iterations that were not finished.

    Args:
        path (`str` or `os.PathLike`): A video file, in any format that FFmpeg decodes.

    Attributes:
        width, height (`int`): Of the frames as displayed, in pixels.
        rotation (`int`): Degrees, counterclockwise, by which the stored pictures are turned for display.
        frame_rate (`Fraction`): Average, in frames per second.
        time_base (`Fraction`): Seconds per unit of the timestamps.
        num_frames (`int`, *optional*): What the file says about itself; `None` if it says nothing.
        has_audio (`bool`): Whether the file has sound.

    Raises:
        ValueError: If the file is missing, not a video, or has no frame; while iterating, if it is damaged.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._unfinished: set[InputContainer] = set()
        with _open(self.path) as container:
            stream = _video_stream(container, self.path)
            try:
                first = next(container.decode(stream), None)
            except av.FFmpegError as error:
                raise ValueError(f"{self.path}: the first frame cannot be decoded ({error.strerror}).") from error
            if first is None:
                raise ValueError(f"{self.path} has a video stream, but no frame in it.")

            self.has_audio = bool(container.streams.audio)
            self.num_frames = stream.frames or None
            self.time_base = cast(Fraction, first.time_base)
            # Raw streams and AVI hold no presentation times (AVI's are in decoding order, wrong with B-frames).
            self._untimed = first.pts is None or container.format.name == "avi"
            rate = stream.guessed_rate if first.pts is None else stream.average_rate
            self.frame_rate = rate or stream.guessed_rate or 1 / (first.duration * self.time_base)
            # The clock of broadcast formats starts anywhere; players subtract where the file begins.
            discontinuous = container.format.flags & cast(int, FormatFlags.ts_discont.value)
            self.start = Fraction(container.start_time or 0, av.time_base) if discontinuous else Fraction(0)

            self._read_geometry(stream, first)
            self.colour = _colour(first, self.path)
            if any(component.is_alpha for component in first.format.components):
                warnings.warn(f"{self.path}: the transparency is ignored.", stacklevel=2)
            if first.interlaced_frame:
                warnings.warn(
                    f"{self.path} is interlaced and is read as it is; deinterlace it first for best results.",
                    stacklevel=2,
                )

    def _read_geometry(self, stream: VideoStream, first: av.VideoFrame) -> None:
        self._stored_size = (first.width, first.height)
        self.rotation = first.rotation
        # The display matrix sends (x, y) to (a x + c y, b x + d y), y downwards; files hold quarter turns and mirrors.
        a, b, c, d = 1, 0, 0, 1
        side_data: Any = first.side_data
        if "DISPLAYMATRIX" in side_data:
            a, b, _, c, d = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), dtype=np.int32)[:5]
        self._transposed = abs(b) > abs(a)
        self._mirrored_x, self._mirrored_y = (c < 0, b < 0) if self._transposed else (a < 0, d < 0)
        self.width, self.height = self._stored_size[::-1] if self._transposed else self._stored_size
        pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        self.pixel_aspect = 1 / pixel_aspect if self._transposed else pixel_aspect

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exception) -> None:
        for container in list(self._unfinished):
            container.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        index = previous = 0
        step = max(1, round(1 / (self.frame_rate * self.time_base)))
        start = round(self.start / self.time_base)
        with _open(self.path) as container:
            self._unfinished.add(container)
            stream = _video_stream(container, self.path)
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    if (frame.width, frame.height) != self._stored_size:
                        raise ValueError(
                            f"{self.path}: the picture size changes from {self._stored_size} to "
                            f"{(frame.width, frame.height)} at frame {index}; cut the file there."
                        )
                    if self._untimed or frame.pts is None:
                        pts = round(index / (self.frame_rate * self.time_base))
                    else:
                        pts = frame.pts - start
                    if index and pts <= previous:
                        pts = previous + step  # a file joined or repaired badly: time must go on
                    yield VideoFrame(self._picture(frame), pts, self.time_base, frame.duration or step)
                    previous = pts
                    index += 1
            except av.FFmpegError as error:
                raise ValueError(
                    f"{self.path}: frame {index} cannot be decoded ({error.strerror}); the file is damaged there."
                ) from error
            finally:
                self._unfinished.discard(container)

    def _picture(self, frame: av.VideoFrame) -> np.ndarray:
        rgb = frame.reformat(
            format="rgb24",
            src_colorspace=self.colour.matrix,
            dst_colorspace=self.colour.matrix,
            interpolation=EXACT,
        )
        image = rgb.to_ndarray()
        if frame.format.name.startswith("gray") and frame.color_range == ColorRange.MPEG:
            image = FULL_GREY[image]
        if self._transposed:
            image = image.transpose(1, 0, 2)
        if self._mirrored_x:
            image = image[:, ::-1]
        if self._mirrored_y:
            image = image[::-1]
        return np.ascontiguousarray(image)


class VideoWriter:
    """Encodes frames into a new file, with the timestamps, sound and everything else of a source.

    The file is written beside its final place as `name.part.ext` and gets its name only when the `with` block ends
    without an exception; otherwise it is deleted. H.264 for mp4, mov and mkv, VP9 for webm.

    Args:
        path (`str` or `os.PathLike`): The file to write: .mp4, .mov, .mkv or .webm. Matroska and webm round times to
            milliseconds.
        like (`VideoReader`, *optional*): The source. Its time base, frame rate, colour description and pixel aspect
            are kept; sound, subtitles, chapters and metadata are copied. What the new container cannot hold is named
            in a warning.
        width, height (`int`): Of the frames to come, in pixels.
        frame_rate (`Fraction` or `float`, *optional*): Frames per second; needed without `like`.
        crf (`int`): Quality, from 0 (lossless) to 51; 16 cannot be told from the original.
        preset (`str`): x264's trade of time for size.

    Raises:
        ValueError: If an argument cannot be used, or the folder does not exist.
        OSError: If the file cannot be written, for example because the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        like: VideoReader | None = None,
        *,
        width: int,
        height: int,
        frame_rate: Fraction | float | None = None,
        crf: int = 16,
        preset: str = "medium",
    ):
        self.path = Path(path)
        if self.path.suffix.lower() not in OUTPUTS:
            raise ValueError(f"{self.path}: the output must be one of {', '.join(OUTPUTS)}.")
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
        self.format, self.encoder = OUTPUTS[self.path.suffix.lower()]
        if self.encoder not in av.codecs_available:
            raise ValueError(f"{self.path}: this build of PyAV has no {self.encoder}; write another format.")
        self.like, self.width, self.height, self.crf, self.preset = like, width, height, crf, preset
        self.colour = like.colour if like else Colour()
        rate = like.frame_rate if like is not None and frame_rate is None else cast(Fraction, frame_rate)
        self.frame_rate = Fraction(rate).limit_denominator(100_000)
        self.time_base = like.time_base if like else 1 / self.frame_rate
        self.part = self.path.with_name(f"{self.path.stem}.part{self.path.suffix}")

    def __enter__(self) -> "VideoWriter":
        self._num_written = 0
        self._last_pts: int | None = None
        self._durations: dict[int, int] = {}
        self._resources = contextlib.ExitStack()
        with contextlib.ExitStack() as resources, self._errors_named():
            resources.callback(self.part.unlink, missing_ok=True)
            options = {"fflags": "+bitexact"}  # no random numbers and no dates in the file
            if self.format in ("mp4", "mov"):
                options["movflags"] = "faststart"  # plays while it is being downloaded
                # Pictures that start later than the sound do so in these units, 1/1000 by default.
                options["movie_timescale"] = str(min(math.lcm(1000, self.time_base.denominator), 2**31 - 1))
            else:
                # AAC starts a little before 0; Matroska would move the pictures with it.
                options["avoid_negative_ts"] = "disabled"
            self._container = av.open(
                str(self.part), "w", format=self.format, container_options=options, metadata_errors="replace"
            )
            resources.callback(self._close_quietly)
            self._stream = self._add_video_stream()
            self._other_packets = self._copy_streams(self.like, resources) if self.like else iter(())
            self._container.start_encoding()
            self._next_other = next(self._other_packets, None)
            self._resources = resources.pop_all()
        return self

    def _add_video_stream(self) -> VideoStream:
        options = {"crf": str(self.crf)}
        if self.encoder == "libx264":
            options |= {"preset": self.preset} | REPRODUCIBLE
        else:
            options |= {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
        stream = cast(VideoStream, self._container.add_stream(self.encoder, rate=self.frame_rate, options=options))
        context = stream.codec_context
        context.width, context.height, context.time_base = self.width, self.height, self.time_base
        # x264 takes odd sides only in 4:4:4; padding would show and cropping would lose a line.
        odd = self.width % 2 or self.height % 2
        context.pix_fmt = "yuv444p" if odd and self.encoder == "libx264" else "yuv420p"
        context.thread_type = "FRAME"  # PyAV's default cuts each picture into slices, which costs quality
        # Always limited range, which every player shows right: swscale's full range is off by a level.
        context.colorspace, context.color_range = self.colour.matrix, ColorRange.MPEG
        context.color_primaries, context.color_trc = self.colour.primaries, self.colour.transfer
        if self.like:
            context.sample_aspect_ratio = self.like.pixel_aspect
        return stream

    def _copy_streams(self, like: VideoReader, resources: contextlib.ExitStack) -> Iterator[av.Packet]:
        """Add what the source has besides its pictures; the packets come from a second, lazy pass over it."""
        source = resources.enter_context(_open(like.path))
        pictures = _video_stream(source, like.path)
        copies, left_out = {}, []
        for stream in source.streams:
            if stream is pictures:
                continue
            codec = stream.codec_context.codec.canonical_name if stream.codec_context else None
            if stream.type in ("audio", "subtitle") and codec in self._container.supported_codecs:
                copy = self._container.add_stream_from_template(stream)
                copy.metadata.update(stream.metadata)
                copy.disposition = stream.disposition
                copies[stream.index] = copy
            else:
                left_out.append(f"stream {stream.index} ({stream.type}, {codec or 'unknown codec'})")
        if left_out:
            warnings.warn(f"{self.path} does not get {', '.join(left_out)} of {like.path}.", stacklevel=3)

        about_the_file = {"major_brand", "minor_version", "compatible_brands", "encoder"}
        kept = {key: value for key, value in source.metadata.items() if key.lower() not in about_the_file}
        self._container.metadata.update(kept)
        self._container.set_chapters(source.chapters())
        for key in ("language", "title", "handler_name"):
            if key in pictures.metadata:
                self._stream.metadata[key] = pictures.metadata[key]
        return _read_packets(source, copies, like.start) if copies else iter(())

    def write(self, image: np.ndarray, pts: int | None = None, duration: int | None = None) -> None:
        """Write the next frame.

        Args:
            image (`np.ndarray`): RGB uint8 of shape (height, width, 3).
            pts (`int`, *optional*): When it appears, in units of `time_base` (the source's), later than the frame
                before; without it frames follow each other at the frame rate.
            duration (`int`, *optional*): How long it stays, in the same units; 1 / frame rate by default. Matters
                for the last frame only.

        Raises:
            ValueError: If the image has another size or type, or time runs backwards.
        """
        if image.dtype != np.uint8 or image.shape != (self.height, self.width, 3):
            raise ValueError(
                f"{self.path}: image must be uint8 of shape {(self.height, self.width, 3)}, "
                f"got {image.dtype} {image.shape}."
            )
        if pts is None:
            pts = round(self._num_written / (self.frame_rate * self.time_base))
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"{self.path}: pts must grow from frame to frame, got {pts} after {self._last_pts}.")
        self._num_written += 1
        self._last_pts = pts
        self._durations[pts] = duration or max(1, round(1 / (self.frame_rate * self.time_base)))

        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
            format=self._stream.codec_context.pix_fmt,
            dst_colorspace=self.colour.matrix,
            dst_color_range=ColorRange.MPEG,
            interpolation=EXACT,
        )
        picture.pts, picture.time_base = pts, self.time_base
        with self._errors_named():
            self._mux(self._stream.encode(picture))

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None and packet.dts is not None
            packet.duration = self._durations.pop(packet.pts)
            self._mux_others(until=packet.dts * packet.time_base)
            self._container.mux(packet)

    def _mux_others(self, until: Fraction | None = None) -> None:
        # Sound travels with the pictures of its time, so that no muxer has to hold minutes of it back.
        while self._next_other is not None:
            packet = self._next_other
            if until is not None and packet.dts is not None and packet.dts * packet.time_base > until:
                return
            self._container.mux(packet)
            self._next_other = next(self._other_packets, None)

    def __exit__(self, exception_type, *exception) -> None:
        with self._resources, self._errors_named():
            if exception_type is None:
                if self._num_written == 0:
                    raise ValueError(f"{self.path}: no frame was written to it.")
                self._mux(self._stream.encode(None))
                self._mux_others()
                self._container.close()
                os.replace(self.part, self.path)

    def _close_quietly(self) -> None:
        # On the way out of an error the file is thrown away; that it cannot be finished is no news.
        with contextlib.suppress(av.FFmpegError, OSError):
            self._container.close()

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            raise OSError(error.errno, f"{self.path} cannot be written: {error.strerror}") from error


def _read_packets(source: InputContainer, copies: dict[int, Stream], start: Fraction) -> Iterator[av.Packet]:
    for packet in source.demux([source.streams[index] for index in copies]):
        if packet.size == 0:  # the end of a stream
            continue
        shift = round(start / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = copies[packet.stream_index]
        yield packet


def _open(path: Path) -> InputContainer:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a video file.")
    if not path.is_file():
        raise ValueError(f"{path} does not exist.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty.")
    try:
        # Old files have titles in old encodings.
        return av.open(str(path), metadata_errors="replace")
    except av.FFmpegError as error:
        raise ValueError(f"{path} is not a video, or is cut off or damaged ({error.strerror}).") from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    # FFmpeg also "plays" single pictures and text (as a terminal would show it).
    name = container.format.name
    if name.startswith("image2") or name.endswith("_pipe") or name == "tty":
        raise ValueError(f"{path} is not a video, but a picture or text ({name}).")
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise ValueError(f"{path} has no video stream.")


def _colour(frame: av.VideoFrame, path: Path) -> Colour:
    matrix = frame.colorspace
    if matrix == MATRIX_RGB:
        matrix = int(Colorspace.ITU709)
    elif matrix == MATRIX_UNSPECIFIED:
        # What players assume.
        matrix = int(Colorspace.ITU709) if min(frame.width, frame.height) >= 720 else MATRIX_601
    if matrix not in MATRICES:
        raise ValueError(f"{path}: colour matrix {matrix} (ITU-T H.273) is not supported; convert the file first.")
    return Colour(matrix, frame.color_primaries, frame.color_trc)
