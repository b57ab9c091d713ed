"""A film restored frame by frame, in bounded memory: find everybody, restore them, tell what was done."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..faces.follower import FaceFollower
from ..faces.identity import FaceIdentity
from ..video.clip_formats import read_frames
from .face_restorer import FaceRestorer, RestoredFrame
from .state import pack, unpack


class FaceStream:
    """Restores a film of any length, frame by frame; made by [`KeepPipeline.stream`].

    What comes out does not depend on how the frames are cut into steps, and neither host nor device memory grows with
    their number.

    Attributes:
        num_in (`int`): Frames taken so far.
        num_out (`int`): Frames given so far.
        look_ahead (`int`): The largest number of frames that are held before one comes out.
    """

    def __init__(
        self,
        follower: FaceFollower,
        restorer: FaceRestorer,
        identity: FaceIdentity | None,
        close: Callable[[], None],
    ) -> None:
        self.follower, self.restorer, self.identity, self.close = follower, restorer, identity, close
        self.device = restorer.device
        self.look_ahead = follower.look_ahead + restorer.latency
        self.frame_size: tuple[int, ...] | None = None
        self.gives_pil = False
        self.num_in = self.num_out = 0
        self.scenes: list[int] = []
        self.people: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> "FaceStream":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def step(self, frames: Any) -> list[Any]:
        """Take the next frame, or some of them.

        Args:
            frames: A `PIL.Image`, an array `(h, w, 3)`, or several in any form that [`KeepPipeline`] takes; all frames
                of a stream have one size.

        Returns:
            `list`: the frames that are done, in order; empty while the look-ahead fills. As `PIL.Image` if such came
            in, otherwise as uint8 arrays `(h, w, 3)`.

        Raises:
            ValueError: If the frames cannot be used.
        """
        single = isinstance(frames, Image.Image) or (isinstance(frames, np.ndarray) and frames.ndim == 3)
        frames = [frames] if single else frames
        if isinstance(frames, list | tuple):
            self.gives_pil = any(isinstance(frame, Image.Image) for frame in frames)
        return [self._form(done.image) for image in read_frames(frames) for done in self.advance(image)]

    def flush(self) -> list[Any]:
        """End the film: the frames that are left."""
        return [self._form(done.image) for done in self.finish()]

    def _form(self, image: np.ndarray) -> Any:
        return Image.fromarray(image) if self.gives_pil else image

    @torch.no_grad()
    def advance(self, image: np.ndarray) -> Iterator[RestoredFrame]:
        """`step` for one uint8 RGB frame, with all that is known of the frames that are done."""
        if self.frame_size is None:
            self.frame_size = image.shape
        if image.shape != self.frame_size:
            raise ValueError(
                f"Frame {self.num_in} is {image.shape[1]} x {image.shape[0]}, the first one was "
                f"{self.frame_size[1]} x {self.frame_size[0]}: the frames of a stream must have one size."
            )
        self.num_in += 1
        for followed in self.follower.step(image):
            yield from self._tell(self.restorer.step(followed))

    @torch.no_grad()
    def finish(self) -> Iterator[RestoredFrame]:
        """`flush`, with all that is known of the frames that are done."""
        for followed in self.follower.flush():
            yield from self._tell(self.restorer.step(followed))
        yield from self._tell(self.restorer.flush())

    def restore(self, images: Iterable[np.ndarray]) -> Iterator[RestoredFrame]:
        """Restore a whole film of uint8 RGB frames."""
        for image in images:
            yield from self.advance(image)
        yield from self.finish()

    # What was done

    def _tell(self, done: Iterable[RestoredFrame]) -> Iterator[RestoredFrame]:
        for frame in done:
            index = frame.followed.index
            if frame.followed.starts_scene:
                self.scenes.append(index)
            for face in frame.followed.faces:
                size = float((face.box[2:] - face.box[:2]).max())
                person = self.people.setdefault(
                    face.track_id,
                    {"first": index, "last": index, "frames": 0, "filled": 0, "least": size, "most": size, "sum": 0.0}
                    | {"likeness": 0.0},
                )
                person["last"] = index
                person["frames"] += 1
                person["filled"] += face.score == 0
                person["least"], person["most"] = min(person["least"], size), max(person["most"], size)
                person["sum"] += size
                if self.identity is not None:
                    before, after = self.identity.embed(list(frame.pairs[face.track_id]))
                    person["likeness"] += float(before @ after)
            self.num_out += 1
            yield frame

    def report(self) -> dict[str, Any]:
        """Scenes, people, seconds and memory so far, as plain numbers and text."""
        tracks = []
        for track_id, person in sorted(self.people.items()):
            track = {
                "id": track_id,
                "first_frame": person["first"],
                "last_frame": person["last"],
                "frames": person["frames"],
                "filled_frames": person["filled"],
                "face_size": round(person["sum"] / person["frames"], 1),
                "face_size_range": [round(person["least"], 1), round(person["most"], 1)],
            }
            if self.identity is not None:
                track["identity"] = round(person["likeness"] / person["frames"], 4)
            tracks.append(track)
        return {
            "frames": self.num_out,
            "scenes": self.scenes,
            "tracks": tracks,
            "seconds": {
                name: round(value, 3)
                for part in (self.follower, self.restorer)
                for name, value in part.watch.seconds.items()
            },
            "peak_memory_bytes": peak_memory(self.device),
        }

    # Stop and go on

    def state_dict(self) -> dict[str, Any]:
        """All but the frames that are held, in a form for `torch.save`; to be called between two steps."""
        return pack(
            {
                "follower": self.follower.state_dict(),
                "restorer": self.restorer.state_dict(),
                "num_in": self.num_in,
                "num_out": self.num_out,
                "scenes": self.scenes,
                "people": self.people,
            }
        )

    def load_state_dict(self, state: dict[str, Any], images: list[np.ndarray]) -> None:
        """Go on where another stream, of the same arguments, was.

        Args:
            state (`dict`): From `state_dict`.
            images (`list[np.ndarray]`): The frames that it held, uint8 RGB: from `num_out` on, up to `num_in`.
        """
        state = unpack(state, self.device)
        held = dict(zip(range(state["num_out"], state["num_in"]), images, strict=True))
        self.follower.load_state_dict(state.pop("follower"), held)
        with torch.no_grad():
            self.restorer.load_state_dict(state.pop("restorer"), held)
        vars(self).update(state)
        self.frame_size = images[0].shape if images else None


def peak_memory(device: torch.device) -> dict[str, int]:
    """Largest memory so far: of this process and, if it is a GPU, of the device."""
    if sys.platform == "win32":
        import psutil

        memory = {"host": psutil.Process().memory_info().peak_wset}
    else:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        memory = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        memory["device"] = torch.cuda.max_memory_allocated(device)
    return memory
