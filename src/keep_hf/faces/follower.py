"""The people in every frame of a video, found while the frames stream in: scene cuts, detection, tracking.

Frames are passed in one by one and come out in order, a fixed look-ahead later.  Every decision is made within a
scene: a scene gives the same result alone as in the middle of a video, and however its frames arrive.  Only the
numbers of the people depend on the scenes before, because a person who returns keeps their number.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..state_version import check_state_version
from ..stopwatch import Stopwatch
from .detector import FaceDetector
from .identity import FaceIdentity
from .orientation import CausalSceneDetector, SceneDetector
from .scene_cuts import CutFinder
from .tracking.causal import CausalTracker
from .tracking.known_people import KnownPeople
from .tracking.tracker import FaceTracker
from .tracking.tracks import FaceTrack, PlacedFace, link_tracks
from .yunet import YuNet


STATE_VERSION = 4


@dataclass(frozen=True)
class Horizon:
    """How far a follower looks ahead.

    Args:
        cuts (`int`): Number of frames after a frame that are seen before a scene cut is decided.
        detection_batch (`int`): Number of frames that the detector gets at once.
        scene_detector (`type[SceneDetector]`): Decides the orientation of the faces of a scene.
        tracker (`type[FaceTracker]`): Decides who is in a frame; has a look-ahead of its own.
    """

    cuts: int
    detection_batch: int
    scene_detector: type[SceneDetector]
    tracker: type[FaceTracker]


# By the option `latency`. The sum for "low" is three frames: one for the cuts, two for the tracker.
HORIZONS = {
    "normal": Horizon(2, 8, SceneDetector, FaceTracker),
    "low": Horizon(1, 1, CausalSceneDetector, CausalTracker),
}


@dataclass
class FollowedFrame:
    """A frame whose people are known.

    Args:
        index (`int`): Index of the frame in the video.
        image (`np.ndarray` of shape `(h, w, 3)`): RGB, uint8.
        faces (`list[PlacedFace]`): The people in the frame.
        starts_scene (`bool`): Whether the frame is the first of a scene.
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
    """Find the people in every frame of a video.

    Scene cuts are found first.  Faces are detected in batches that start again in every scene, and each scene has an
    orientation and a tracker of its own.

    Args:
        detector ([`FaceDetector`] or [`YuNet`], *optional*):
            Detector of faces; `None` for aligned crops, where every frame is the face of one person.
        frame_rate (`float`):
            Frames per second.
        faces (`"all"`, `"largest"` or a collection of `int`, defaults to `"all"`):
            The people to follow, see [`FaceTracker`].
        min_face_size (`float`, defaults to 0):
            Longer side of the box in pixels from which a face counts.
        find_cuts (`bool`, defaults to `True`):
            Whether to look for scene cuts; otherwise the whole video is one scene.
        horizon ([`Horizon`], defaults to `HORIZONS["normal"]`):
            How far to look ahead.
        identity ([`FaceIdentity`], *optional*):
            Recognizes people after a cut; without it, only people of almost the same appearance are recognized.
    """

    def __init__(
        self,
        detector: FaceDetector | YuNet | None,
        frame_rate: float,
        faces: str | Collection[int] = "all",
        min_face_size: float = 0.0,
        find_cuts: bool = True,
        horizon: Horizon = HORIZONS["normal"],
        identity: FaceIdentity | None = None,
    ) -> None:
        self.detector, self.horizon = detector, horizon
        self.scene_detector = horizon.scene_detector(detector) if detector is not None else None
        self.frame_rate, self.faces, self.min_face_size = frame_rate, faces, min_face_size
        self.tracker = horizon.tracker(frame_rate, faces, min_face_size, known=KnownPeople(identity))
        self.finder = CutFinder(horizon.cuts) if find_cuts else None
        self.images: dict[int, np.ndarray] = {}  # frames that were not returned yet
        # The next frame to be passed in, to be assigned to a scene, to be searched for faces, and to be returned
        self.num_in = self.num_assigned = self.num_searched = self.num_out = 0
        self.scene = 0  # first frame of the present scene
        self.num_scenes = 0
        self.watch = Stopwatch()

    @property
    def look_ahead(self) -> int:
        """The largest number of frames that are held after a step."""
        tracking = 0 if self.detector is None else self.tracker.look_ahead
        return (self.finder.look_ahead if self.finder else 0) + self.horizon.detection_batch - 1 + tracking

    @property
    def recognized_by(self) -> str | None:
        """By what people are recognized after a cut: `"identity"` or `"appearance"`; `None` for aligned crops."""
        return None if self.detector is None else self.tracker.known.criterion

    def step(self, image: np.ndarray) -> list[FollowedFrame]:
        """Take the next frame.

        Args:
            image (`np.ndarray` of shape `(h, w, 3)`):
                RGB, uint8; all frames of a video have one size.

        Returns:
            `list[FollowedFrame]`: the frames that are decided, in order; empty while the look-ahead fills.

        Raises:
            ValueError: If the image is no RGB frame or has another size than the frames before it.
        """
        self.images[self.num_in] = image
        self.num_in += 1
        with self.watch.time("cuts"):
            is_cut = False if self.finder is None else self.finder.step(image)
        return [] if is_cut is None else self._assign(is_cut)

    def flush(self) -> list[FollowedFrame]:
        """End the video and return the remaining frames."""
        out = []
        for is_cut in self.finder.flush() if self.finder else []:
            out += self._assign(is_cut)
        return out + self._end_scene()

    def tracks(self, images: Iterable[np.ndarray]) -> list[FaceTrack]:
        """Follow the people of a whole video.

        Args:
            images (`Iterable[np.ndarray]`): All frames, see `step`.

        Returns:
            `list[FaceTrack]`: one track per person.
        """
        followed = [frame.faces for image in images for frame in self.step(image)]
        return link_tracks(followed + [frame.faces for frame in self.flush()])

    def _assign(self, is_cut: bool) -> list[FollowedFrame]:
        """Assign the next frame to a scene: to a new one after a cut."""
        out = self._end_scene() if is_cut else []
        self.num_assigned += 1
        if self.num_assigned - self.num_searched == self.horizon.detection_batch:
            out += self._search()
        return out

    def _search(self) -> list[FollowedFrame]:
        """Detect and track the faces in the frames of the scene that were not searched yet."""
        indices = range(self.num_searched, self.num_assigned)
        self.num_searched = self.num_assigned
        if self.scene_detector is None:
            return self._release([[_whole_frame(self.scene, self.images[index])] for index in indices])
        out = []
        if indices:
            with self.watch.time("detect"):
                detected = self.scene_detector.detect([self.images[index] for index in indices])
            with self.watch.time("track"):
                placed = [faces for found in detected for faces in self.tracker.step(found, self.images)]
            out += self._release(placed)
        return out

    def _end_scene(self) -> list[FollowedFrame]:
        out = self._search() + self._release(self.tracker.flush())
        self.scene = self.num_assigned
        self.scene_detector = self.horizon.scene_detector(self.detector) if self.detector is not None else None
        self.tracker = self.horizon.tracker(
            self.frame_rate,
            self.faces,
            self.min_face_size,
            first_frame=self.scene,
            next_segment=self.tracker.next_segment,
            known=self.tracker.known,
        )
        return out

    def _release(self, placed: list[list[PlacedFace]]) -> list[FollowedFrame]:
        """Return the next frames with their faces."""
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
            "scene_detector": self.scene_detector.state_dict() if self.scene_detector else None,
            "tracker": self.tracker.state_dict(),
            "finder": self.finder.state_dict() if self.finder else None,
            "num_in": self.num_in,
            "num_assigned": self.num_assigned,
            "num_searched": self.num_searched,
            "num_out": self.num_out,
            "scene": self.scene,
            "num_scenes": self.num_scenes,
            "seconds": dict(self.watch.seconds),
        }

    def load_state_dict(self, state: Mapping[str, Any], images: Mapping[int, np.ndarray]) -> None:
        """Continue from the state of a follower with the same arguments.

        Args:
            state (`Mapping[str, Any]`):
                From `state_dict`.
            images (`Mapping[int, np.ndarray]`):
                By index, at least the frames that the follower held: from `num_out` on, up to `num_in`.

        Raises:
            ValueError: If the state has another version.
        """
        check_state_version(state, STATE_VERSION, "FaceFollower")
        self.tracker.load_state_dict(state["tracker"])
        if self.scene_detector:
            self.scene_detector.load_state_dict(state["scene_detector"])
        if self.finder:
            self.finder.load_state_dict(state["finder"])
        self.num_in, self.num_assigned = state["num_in"], state["num_assigned"]
        self.num_searched, self.num_out = state["num_searched"], state["num_out"]
        self.scene, self.num_scenes = state["scene"], state["num_scenes"]
        self.watch.seconds = dict(state["seconds"])
        self.images = {index: image for index, image in images.items() if index >= self.num_out}


def _whole_frame(segment: int, image: np.ndarray) -> PlacedFace:
    """Return the face that fills an aligned frame: one person, with a new track segment in each scene."""
    height, width = image.shape[:2]
    return PlacedFace(0, segment, np.array([0, 0, width, height], np.float32), np.zeros((5, 2)), 1.0)
