"""Restore a video file in segments, so that an interrupted run can be resumed with the result of an uninterrupted one.

A segment ends with its scene, and inside a scene after the block that completes it, so that the segments of a scene
do not depend on the rest of the video. After every segment the writer saves the state of the stream. A run that is
resumed decodes again the frames that the stream held, and goes on from there. It must be the same job: `check_job`
compares what the result depends on.
"""

import contextlib
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..state_version import SavedStateError
from ..video.decoding.source import VideoFrame
from ..video.image_folder import ImageFolderWriter
from ..video.reader import VideoReader, prefetch
from ..video.segments.output_format import Source
from ..video.writer import VideoWriter
from .deep_frames import restore_deep
from .state import pack
from .stream import Boundary, FaceStream


def restore_file(
    reader: Source,
    writer: VideoWriter | ImageFolderWriter,
    stream: FaceStream,
    job: Mapping[str, Any],
    segment_frames: int,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[int | dict[str, Any]]:
    """Restore all frames of a source, or those that an earlier run has left.

    Args:
        reader ([`VideoReader`], [`AnimationReader`] or [`ImageFolderReader`]): The source.
        writer ([`VideoWriter`] or [`ImageFolderWriter`]): The target; its `resumed` is the state of the earlier run.
        stream ([`FaceStream`]): A new stream.
        job (`Mapping[str, Any]`): What the result depends on: names with numbers, text or `None`.
        segment_frames (`int`): Number of frames after which a segment ends inside a scene.
        stop (`Callable[[], bool]`, *optional*): Called after every segment that is not the last. If it returns `True`,
            the iterator ends there, without a report; another run with `resume` continues.

    Returns:
        `Iterator`: The number of frames written so far, after every frame that is taken or written. At the end the
        report of the stream, and what was damaged in the source.

    Raises:
        SavedStateError: If the earlier run was another job or saved another version of the state.
    """
    job = pack(dict(job))  # as it is saved
    earlier = writer.resumed
    if earlier is None and writer.num_written:
        raise SavedStateError(f"The saved state of {writer.path} is damaged; start again without resume.")
    if earlier is not None:
        with report_damage(writer.path):
            check_job(earlier["job"], job, writer.path)
            report = earlier["report"]
            messages = [] if report is None else list(report["warnings"])
        if report is not None:
            # Every frame is restored; the run was interrupted while it joined the segments.
            for message in messages:
                warnings.warn(message, stacklevel=2)
            yield report
            return

    held: deque[VideoFrame] = deque()  # what the writer needs of the frames that the stream holds

    def read_images() -> Iterator[np.ndarray]:
        start = writer.num_written
        is_deep = writer.bits > 8
        frames = reader.read(start, deep=is_deep) if isinstance(reader, VideoReader) else reader.read(start)
        for frame in prefetch(frames):
            held.append(frame)
            yield frame.image

    images = read_images()
    if earlier is not None:
        with report_damage(writer.path):
            if earlier["stream"]["num_out"] != writer.num_written:
                raise LookupError("the number of frames is another one")
            stream.load_state_dict(earlier["stream"], images)
    yield stream.num_out
    start_of_segment = stream.num_out
    image: np.ndarray | None
    for image in chain(images, [None]):  # None ends the video
        for event in stream.run(image):
            if not isinstance(event, Boundary):
                frame = held.popleft()
                restored = event.image if frame.deep is None else restore_deep(frame.deep, event)
                writer.write(restored, frame.pts, frame.duration)
                yield stream.num_out
            elif stream.num_out - start_of_segment >= (1 if event is Boundary.SCENE else segment_frames):
                start_of_segment = stream.num_out
                writer.end_segment({"job": job, "stream": stream.state_dict(), "report": None})
                if stream.num_out < stream.num_in and stop():
                    return
        yield stream.num_out
    report = stream.report() | reader.damage.to_dict(reader.path)
    writer.end_segment({"job": job, "stream": None, "report": report})
    yield report


@contextlib.contextmanager
def report_damage(path: Path) -> Iterator[None]:
    """Re-raise what a saved state of the wrong structure causes, as a `SavedStateError` that says what to do.

    Args:
        path (`Path`): The target, for the message.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError) as error:
        raise SavedStateError(
            f"The saved state of {path} is damaged ({type(error).__name__}: {error}); start again without resume."
        ) from error


def check_job(earlier: Mapping[str, Any], job: Mapping[str, Any], path: Path) -> None:
    """Reject a job that differs from the one that an earlier run has started.

    Args:
        earlier (`Mapping[str, Any]`): The job of the earlier run.
        job (`Mapping[str, Any]`): The job of this run.
        path (`Path`): The target, for the message.

    Raises:
        SavedStateError: With the name and both values of everything that differs.
    """
    changes = [
        f"{name} was {earlier.get(name)} and is {job.get(name)}"
        for name in sorted(earlier.keys() | job.keys())
        if earlier.get(name) != job.get(name)
    ]
    if changes:
        raise SavedStateError(
            f"{path} was started as another job: {', '.join(changes)}. Use the same settings, or start again without "
            "resume."
        )
