"""Restore a video frame by frame in bounded memory, and report what was done."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..faces.follower import FaceFollower, FollowedFrame
from ..faces.identity import FaceIdentity
from ..faces.tracking.tracks import PlacedFace
from ..state_version import check_state_version
from ..video.clip_formats import read_frames
from .face_restorer import FaceRestorer, RestoredFrame
from .state import pack, unpack
from .summary import TrackSummary, peak_memory


STATE_VERSION = 4


class Boundary(Enum):
    """A place between two frames where the state of a stream can be saved."""

    BLOCK = "block"  # inside a scene, at the same frames of the scene wherever it is in a video
    SCENE = "scene"  # a scene has ended


class FaceStream:
    """Restores a video of any length, frame by frame; [`KeepPipeline.stream`] creates it.

    The result does not depend on how the frames are divided into steps. Memory, of the host and of the device, does
    not grow with the number of frames.

    Args:
        follower ([`FaceFollower`]): Finds and tracks the faces.
        restorer ([`FaceRestorer`]): Restores them.
        identity ([`FaceIdentity`], *optional*): Measures the similarity of faces before and after for the report.
        close (`Callable[[], None]`): Called at the end of the `with` block, also after an exception.

    Attributes:
        num_in (`int`): Number of frames taken so far.
        num_out (`int`): Number of frames returned so far.
        faces (`list[PlacedFace]`): The restored faces in the last of these.
        look_ahead (`int`): The largest number of frames that are held before one is returned.
    """

    def __init__(
        self,
        follower: FaceFollower,
        restorer: FaceRestorer,
        identity: FaceIdentity | None,
        close: Callable[[], None],
    ) -> None:
        self.follower, self.restorer, self.identity, self.close = follower, restorer, identity, close
        self.look_ahead = follower.look_ahead + restorer.latency
        self.num_in = self.num_out = 0
        self.faces: list[PlacedFace] = []
        self.scenes: list[int] = []  # first frame of each
        self.tracks: dict[int, TrackSummary] = {}
        self._waiting: deque[FollowedFrame] = deque()  # followed, but not taken by the restorer
        self._frame_shape: tuple[int, ...] | None = None
        self._returns_pil = False

    def __enter__(self) -> "FaceStream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def step(self, frames: Any) -> list[Any]:
        """Take the next frame or frames.

        Args:
            frames: A `PIL.Image`, an array `(h, w, 3)`, or several frames in any form that [`KeepPipeline`] takes. All
                frames of a stream have the same size.

        Returns:
            `list`: The frames that are restored by then, in order; empty while the look-ahead fills. `PIL.Image` if
            the input was, otherwise uint8 arrays `(h, w, 3)`.

        Raises:
            ValueError: If the frames have a form, type, range or size that is not supported.
        """
        single = isinstance(frames, Image.Image) or (isinstance(frames, np.ndarray) and frames.ndim == 3)
        if single or isinstance(frames, Iterator):
            frames = [frames] if single else list(frames)
        if isinstance(frames, list | tuple):
            self._returns_pil = any(isinstance(frame, Image.Image) for frame in frames)
        return [self._convert(done.image) for image in read_frames(frames) for done in self.advance(image)]

    def flush(self) -> list[Any]:
        """End the video and return the frames that are left, in the form of `step`."""
        try:
            return [self._convert(done.image) for done in self.finish()]
        finally:
            self.close()  # also for a stream without a `with` block

    def _convert(self, image: np.ndarray) -> Any:
        return Image.fromarray(image) if self._returns_pil else image

    def advance(self, image: np.ndarray) -> Iterator[RestoredFrame]:
        """Take one uint8 RGB frame, and yield the frames that are restored by then with all that is known of them."""
        return (event for event in self.run(image) if isinstance(event, RestoredFrame))

    def finish(self) -> Iterator[RestoredFrame]:
        """End the video, and yield the frames that are left with all that is known of them."""
        return (event for event in self.run(None) if isinstance(event, RestoredFrame))

    @torch.no_grad()
    def run(self, image: np.ndarray | None) -> Iterator[RestoredFrame | Boundary]:
        """As `advance`, or with `None` as `finish`; also yields the boundaries between the frames.

        At a boundary, all frames before it have been yielded, and `state_dict` is the state there.
        """
        if image is None:
            self._waiting.extend(self.follower.flush())
        else:
            self._check_shape(image)
            self.num_in += 1
            self._waiting.extend(self.follower.step(image))
        while self._waiting:
            if self._waiting[0].starts_scene:
                yield from self._end_scene()
            before = self.num_out
            yield from self._record(self.restorer.step(self._waiting.popleft()))
            if self.num_out > before:
                yield Boundary.BLOCK
        if image is None:
            yield from self._end_scene()

    def restore(self, images: Iterable[np.ndarray]) -> Iterator[RestoredFrame]:
        """Restore a whole video of uint8 RGB frames."""
        for image in images:
            yield from self.advance(image)
        yield from self.finish()

    def _check_shape(self, image: np.ndarray) -> None:
        if self._frame_shape is None:
            self._frame_shape = image.shape
        if image.shape != self._frame_shape:
            raise ValueError(
                f"Frame {self.num_in} is {image.shape[1]} x {image.shape[0]}, but the first one was "
                f"{self._frame_shape[1]} x {self._frame_shape[0]}: all frames of a stream must have the same size."
            )

    def _end_scene(self) -> Iterator[RestoredFrame | Boundary]:
        yield from self._record(self.restorer.flush())
        if self.num_out > 0:
            yield Boundary.SCENE

    # Report

    def _record(self, restored: Iterable[RestoredFrame]) -> Iterator[RestoredFrame]:
        for frame in restored:
            index = frame.followed.index
            if frame.followed.starts_scene:
                self.scenes.append(index)
            for face in frame.followed.faces:
                track = self.tracks.setdefault(face.track_id, TrackSummary(face.track_id, index, index))
                track.add(index, face, self._similarity(frame, face.track_id), frame.judgements[face.track_id])
            self.num_out, self.faces = self.num_out + 1, frame.followed.faces
            yield frame

    def _similarity(self, frame: RestoredFrame, track_id: int) -> float | None:
        """Cosine similarity of a face before and after; `None` without a face recognition network."""
        if self.identity is None:
            return None
        pair = frame.pairs[track_id]
        before, after = self.identity.embed([pair.crop, pair.restored])
        return float(before @ after)

    def report(self) -> dict[str, Any]:
        """Return scenes, people, seconds by stage and peak memory so far, as plain numbers and text."""
        seconds = self.follower.watch.seconds | self.restorer.watch.seconds
        return {
            "frames": self.num_out,
            "scenes": self.scenes,
            "tracks": [track.to_dict() for _, track in sorted(self.tracks.items())],
            "recognized_by": self.follower.recognized_by,
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
            "peak_memory_bytes": peak_memory(self.restorer.device),
        }

    # Save and resume

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps or at a boundary, without the frames that are held.

        Returns:
            `dict`: Numbers, text and tensors, for `torch.save` and `torch.load(weights_only=True)`.
        """
        return pack(
            {
                "version": STATE_VERSION,
                "num_in": self.num_in,
                "num_out": self.num_out,
                "scenes": self.scenes,
                "tracks": [track.state_dict() for track in self.tracks.values()],
                "waiting": [frame.state_dict() for frame in self._waiting],
                "follower": self.follower.state_dict(),
                "restorer": self.restorer.state_dict(),
            }
        )

    def load_state_dict(self, state: Mapping[str, Any], images: Iterable[np.ndarray]) -> None:
        """Continue from the state of a stream with the same arguments.

        Args:
            state (`Mapping[str, Any]`): From `state_dict`.
            images (`Iterable[np.ndarray]`): The uint8 RGB frames of the video from number `num_out` on. The frames
                that the stream held, up to number `num_in`, are taken from it; the next step takes the one after them.

        Raises:
            ValueError: If another version of the package has saved the state, or `images` ends too early.
        """
        check_state_version(state, STATE_VERSION, "FaceStream")
        state = unpack(dict(state), self.restorer.device)
        self.num_in, self.num_out, self.scenes = state["num_in"], state["num_out"], state["scenes"]
        self.tracks = {track["track_id"]: TrackSummary.from_state_dict(track) for track in state["tracks"]}
        indices = range(self.num_out, self.num_in)
        held = dict(zip(indices, islice(images, len(indices)), strict=True))
        self._frame_shape = next((image.shape for image in held.values()), None)
        self._waiting.extend(FollowedFrame.from_state_dict(frame, held[frame["index"]]) for frame in state["waiting"])
        self.follower.load_state_dict(state["follower"], held)
        with torch.no_grad():
            self.restorer.load_state_dict(state["restorer"], held)
