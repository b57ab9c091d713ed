"""The restoration of one scene of a video, into segments that are joined later.

The scene is restored as if it were a video. Its segments and its state are in the folder of an unfinished video, so
that another worker can continue after a crash.
"""

import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..options import RestorationOptions
from ..pipeline import KeepPipeline
from ..restoration.resumable import restore_file
from ..restoration.state import pack
from ..restoration.stream import FaceStream
from ..restoration.summary import peak_memory
from ..video.decoding.source import VideoFrame
from ..video.reader import VideoReader
from ..video.writer import VideoWriter
from .people import RecordedPeople
from .plan import Scene


class OtherFramesError(ValueError):
    """A scene that was read on its own has other frames than in its video."""


class SceneReader(VideoReader):
    """The frames of a scene, with their times in the video.

    Reading begins at the key frame before the scene where that is possible. Decoders may return other frames then, for
    example where an encoder refreshes the image gradually, so the frames are compared with those of the plan.

    Args:
        path (`Path`): The video.
        scene ([`Scene`]): Which frames.
        stream (`int`, *optional*), strict (`bool`): See [`VideoReader`].
    """

    def __init__(self, path: Path, scene: Scene, stream: int | None, strict: bool) -> None:
        super().__init__(path, stream, strict)
        self.scene = scene

    def read(self, start: int = 0, *, deep: bool = False, from_pts: int | None = None) -> Iterator[VideoFrame]:
        """Yield the frames of the scene from number `start` on.

        Raises:
            OtherFramesError: After the last frame, if the frames are not those of the plan.
        """
        scene, checksum = self.scene, 0
        if scene.can_seek:
            frames = super().read(deep=deep, from_pts=scene.pts)
        else:
            frames = super().read(scene.start, deep=deep)
        with closing(cast(Generator[VideoFrame, None, None], frames)):
            for index, frame in enumerate(islice(frames, len(scene))):
                checksum = zlib.crc32(np.ascontiguousarray(frame.image).data, checksum)
                if index >= start:
                    yield frame
        if checksum != scene.checksum:
            raise OtherFramesError(f"{self.path}: frames {scene.start} to {scene.end - 1} are not those of the plan.")


class SceneStream(FaceStream):
    """A stream whose report can be added to those of other scenes."""

    def report(self) -> dict[str, Any]:
        """Return the sums for all people of the scene, what numbered them, seconds, and peak memory."""
        known = self.follower.tracker.known
        assert isinstance(known, RecordedPeople)
        return pack(
            {
                "frames": self.num_out,
                "tracks": [track.state_dict() for track in self.tracks.values()],
                "people": known.record,
                "recognized_by": self.follower.recognized_by,
                "seconds": self.follower.watch.seconds | self.restorer.watch.seconds,
                "peak_memory_bytes": peak_memory(self.restorer.device),
            }
        )


def open_scene_stream(
    pipe: KeepPipeline, options: RestorationOptions, frame_rate: float, is_exact: bool
) -> SceneStream:
    """Connect the parts that restore one scene; they look for no cuts in it."""
    stream = pipe._open_stream(options, frame_rate, is_exact)
    stream.follower.finder = None
    stream.follower.tracker.known = RecordedPeople(pipe.identity)
    return SceneStream(stream.follower, stream.restorer, stream.identity, stream.close)


def scene_job(job: Mapping[str, Any], scene: Scene) -> dict[str, Any]:
    """What the result of a scene depends on, from that of its video."""
    return dict(job) | {"first frame": scene.start, "last frame": scene.end - 1}


def restore_scene(
    stream: SceneStream, reader: SceneReader, writer: VideoWriter, job: Mapping[str, Any], segment_frames: int
) -> int:
    """Restore a scene, or what another worker has left of it.

    Args:
        stream ([`SceneStream`]): A new stream.
        reader ([`SceneReader`]): The scene.
        writer ([`VideoWriter`]): Gets the segments; it is not entered yet, and it is left unfinished.
        job (`Mapping[str, Any]`), segment_frames (`int`): See [`restore_file`].

    Returns:
        `int`: Number of frames that this call has restored.
    """
    with writer, stream:
        num_before = writer.num_written
        for _ in restore_file(reader, writer, stream, scene_job(job, reader.scene), segment_frames):
            pass
        writer.leave_unfinished()
        return writer.num_written - num_before
