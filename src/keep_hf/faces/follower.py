"""Who is where in the frames of a film, told while it streams by: scenes, faces, people.

Frames go in one by one and come out in order, a fixed look-ahead later.  Everything is decided within a scene: a scene
gives the same whether it is followed alone or in the middle of a film, and however the frames arrive.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..state_version import check_state_version
from ..stopwatch import Stopwatch
from .detector import FaceDetector, YuNet
from .scene_cuts import CutFinder
from .tracker import FaceTrack, FaceTracker, PlacedFace, link_tracks


DETECTION_BATCH = 8
STATE_VERSION = 1


@dataclass
class FollowedFrame:
    """A frame in which everybody has been found.

    Attributes:
        index (`int`): Place in the film.
        image (`np.ndarray` of shape `(h, w, 3)`): RGB, uint8.
        faces (`list[PlacedFace]`): Who is there.
        starts_scene (`bool`): Whether a new scene begins here.
    """

    index: int
    image: np.ndarray
    faces: list[PlacedFace]
    starts_scene: bool

    def state_dict(self) -> dict[str, Any]:
        """Return all but the image, as numbers, arrays, lists and dictionaries."""
        return {
            "index": self.index,
            "faces": [face.state_dict() for face in self.faces],
            "starts_scene": self.starts_scene,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], image: np.ndarray) -> "FollowedFrame":
        """Rebuild a frame from its `state_dict` and its image."""
        faces = [PlacedFace.from_state_dict(face) for face in state["faces"]]
        return cls(state["index"], image, faces, state["starts_scene"])


class FaceFollower:
    """Scene cuts, detection in batches that begin anew in each scene, and a tracker for each scene.

    Args:
        detector ([`FaceDetector`] or [`YuNet`], *optional*): Finds faces; `None` for aligned crops, where every frame
            is one person's face.
        frame_rate (`float`): Frames per second.
        faces, min_face_size: See [`FaceTracker`].
        find_cuts (`bool`, defaults to `True`): Whether to look for scene cuts; without, all is one scene.
    """

    def __init__(
        self,
        detector: FaceDetector | YuNet | None,
        frame_rate: float,
        faces: str | Collection[int] = "all",
        min_face_size: float = 0.0,
        find_cuts: bool = True,
    ) -> None:
        self.detector = detector
        self.tracker = FaceTracker(frame_rate, faces, min_face_size)
        self.new_tracker = lambda **numbers: FaceTracker(frame_rate, faces, min_face_size, **numbers)
        self.finder = CutFinder() if find_cuts else None
        self.images: dict[int, np.ndarray] = {}  # of frames that have not come out
        # Of each, the next frame: to come in, to be searched for faces, to come out
        self.num_in = self.num_searched = self.num_out = 0
        self.num_kept = 0  # the next frame to be given to its scene: a cut is known a little late
        self.scene = 0  # first frame of the present scene
        self.num_scenes = 0
        self.watch = Stopwatch()

    @property
    def look_ahead(self) -> int:
        """The largest number of frames that are held."""
        tracking = 0 if self.detector is None else self.tracker.look_ahead
        return (self.finder.look_ahead if self.finder else 0) + DETECTION_BATCH + tracking

    def step(self, image: np.ndarray) -> list[FollowedFrame]:
        """Take the next frame `(h, w, 3)`; frames come out in order as they are decided."""
        self.images[self.num_in] = image
        self.num_in += 1
        with self.watch.time("cuts"):
            is_cut = False if self.finder is None else self.finder.step(image)
        return [] if is_cut is None else self._keep(is_cut)

    def flush(self) -> list[FollowedFrame]:
        """End the film: the frames that are left."""
        out = []
        for is_cut in self.finder.flush() if self.finder else []:
            out += self._keep(is_cut)
        return out + self._end_scene()

    def tracks(self, images: Iterable[np.ndarray]) -> list[FaceTrack]:
        """Follow a whole film and tell who is where."""
        followed = [frame.faces for image in images for frame in self.step(image)]
        return link_tracks(followed + [frame.faces for frame in self.flush()])

    def _keep(self, is_cut: bool) -> list[FollowedFrame]:
        out = self._end_scene() if is_cut else []
        self.num_kept += 1
        if self.num_kept - self.num_searched == DETECTION_BATCH:
            out += self._search()
        return out

    def _search(self) -> list[FollowedFrame]:
        """Look for faces in the frames of the scene that were not searched."""
        indices = range(self.num_searched, self.num_kept)
        self.num_searched = self.num_kept
        if self.detector is None:
            return self._let_out([[_whole(self.scene, self.images[index])] for index in indices])
        out = []
        if indices:
            with self.watch.time("detect"):
                found = self.detector.detect([self.images[index] for index in indices])
            with self.watch.time("track"):
                placed = [faces for seen in found for faces in self.tracker.step(seen, self.images)]
            out += self._let_out(placed)
        return out

    def _end_scene(self) -> list[FollowedFrame]:
        out = self._search() + self._let_out(self.tracker.flush())
        self.tracker = self.new_tracker(
            first_frame=self.num_kept, next_id=self.tracker.next_id, next_segment=self.tracker.next_segment
        )
        self.scene = self.num_kept
        return out

    def _let_out(self, placed: list[list[PlacedFace]]) -> list[FollowedFrame]:
        out = []
        for faces in placed:
            starts_scene = self.num_out == self.scene
            self.num_scenes += starts_scene
            out.append(FollowedFrame(self.num_out, self.images.pop(self.num_out), faces, starts_scene))
            self.num_out += 1
        return out

    def state_dict(self) -> dict[str, Any]:
        """Return all but the images, as numbers, arrays, lists and dictionaries."""
        return {
            "version": STATE_VERSION,
            "tracker": self.tracker.state_dict(),
            "finder": self.finder.state_dict() if self.finder else None,
            "num_in": self.num_in,
            "num_searched": self.num_searched,
            "num_out": self.num_out,
            "num_kept": self.num_kept,
            "scene": self.scene,
            "num_scenes": self.num_scenes,
            "seconds": dict(self.watch.seconds),
        }

    def load_state_dict(self, state: Mapping[str, Any], images: Mapping[int, np.ndarray]) -> None:
        """Continue from the state of a follower with the same arguments.

        Args:
            state (`Mapping[str, Any]`): From `state_dict`.
            images (`Mapping[int, np.ndarray]`): By index, at least the frames that follower held.

        Raises:
            ValueError: If the state has another version.
        """
        check_state_version(state, STATE_VERSION, "FaceFollower")
        self.tracker.load_state_dict(state["tracker"])
        if self.finder:
            self.finder.load_state_dict(state["finder"])
        self.num_in, self.num_searched, self.num_out = state["num_in"], state["num_searched"], state["num_out"]
        self.num_kept, self.scene, self.num_scenes = state["num_kept"], state["scene"], state["num_scenes"]
        self.watch.seconds = dict(state["seconds"])
        self.images = {index: image for index, image in images.items() if index >= self.num_out}


def _whole(segment: int, image: np.ndarray) -> PlacedFace:
    """The face that fills an aligned frame: one person, a new segment in each scene."""
    height, width = image.shape[:2]
    return PlacedFace(0, segment, np.array([0, 0, width, height], np.float32), np.zeros((5, 2)), 1.0)
