"""Faces that are not upright: the orientation of a scene is found, kept, saved, and decided again after a cut."""

import io

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from conftest import make_faces
from keep_hf import FaceDetector
from keep_hf.faces.detection import Faces
from keep_hf.faces.follower import HORIZONS, FaceFollower, FollowedFrame
from keep_hf.faces.orientation import CausalSceneDetector, SceneDetector, turn, turn_back
from keep_hf.restoration.state import pack, unpack
from paths import REPOSITORY


PACKAGED = REPOSITORY / "src" / "keep_hf" / "checkpoints" / "keep-small" / "detector"
PORTRAIT = cv2.resize(skimage.data.astronaut()[:300, 60:380], (160, 150), interpolation=cv2.INTER_AREA)
LANDMARKS = (np.array([(204.0, 104.2), (246.2, 105.3), (223.0, 128.2), (204.1, 142.6), (242.3, 144.3)]) - (60, 0)) / 2
EYE_DISTANCE = 21


class SeenFaces:
    """A detector that finds faces with given scores, none where it is 0, and records the shapes of the frames."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)
        self.calls: list[list[tuple[int, ...]]] = []

    def detect(self, frames: list[np.ndarray]) -> list[Faces]:
        self.calls.append([frame.shape for frame in frames])
        found = []
        for _ in frames:
            faces, score = make_faces((10, 10, 30)), self.scores.pop(0)
            found.append(Faces(faces.boxes, faces.landmarks, np.float32([score])) if score else make_faces())
        return found


@pytest.fixture(scope="module")
def detector():
    return FaceDetector.from_pretrained(PACKAGED)


def shaken(length: int, turns: int) -> list[np.ndarray]:
    """The portrait, moved by a pixel in every second frame, turned clockwise."""
    return [turn(np.roll(PORTRAIT, index % 2, axis=1), (4 - turns) % 4) for index in range(length)]


def follow(follower: FaceFollower, images: list[np.ndarray]) -> list[FollowedFrame]:
    return [frame for image in images for frame in follower.step(image)] + follower.flush()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_points_of_a_turned_frame_are_turned_back(turns):
    frame = np.zeros((5, 8, 3), np.uint8)
    frame[1, 6] = 255
    row, column = np.argwhere(turn(frame, turns)[..., 0])[0]
    point = np.array([column, row], np.float32)
    faces = Faces(np.concatenate([point, point + 1])[None], np.tile(point, (1, 5, 1)), np.ones(1, np.float32))
    back = turn_back(faces, turns, width=8, height=5)
    np.testing.assert_array_equal(back.landmarks, np.tile(np.float32([6, 1]), (1, 5, 1)))
    assert (back.boxes[0, 2:] - back.boxes[0, :2]).tolist() == [1, 1]
    assert back.boxes.dtype == back.landmarks.dtype == np.float32


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_face_is_found_with_its_landmarks(detector, turns):
    images = shaken(4, turns)
    scene = SceneDetector(detector)
    found = scene.detect(images)
    assert scene.turns == turns
    height, width = images[0].shape[:2]
    upright = Faces(np.zeros((1, 4), np.float32), LANDMARKS[None], np.ones(1))
    (expected,) = turn_back(upright, turns, width, height).landmarks
    for faces in found:
        assert len(faces) == 1
        assert np.linalg.norm(faces.landmarks[0] - expected, axis=1).mean() < 0.15 * EYE_DISTANCE


IMAGES = [np.zeros((40, 60, 3), np.uint8)] * 4
QUARTER = (60, 40, 3)


def test_the_orientation_is_searched_once_in_a_scene():
    detector = SeenFaces(*[0.9] * 4, 0, 0.7, 0, *[0] * 4)
    scene = SceneDetector(detector)
    assert [len(faces) for faces in scene.detect(IMAGES)] == [1] * 4
    assert scene.turns == 0
    scene.detect(IMAGES)  # no face, but the orientation is known
    assert detector.calls == [[(40, 60, 3)] * 4, [QUARTER, (40, 60, 3), QUARTER], [(40, 60, 3)] * 4]


def test_the_orientation_with_the_larger_sum_of_scores_is_that_of_the_scene():
    # Upside down, the detector finds the faces in more frames and is surer.
    detector = SeenFaces(0.8, 0.6, 0.7, 0, *(0.7, 0.9, 0.8), *(0.9, 0.8, 0.9, 0.9))
    scene = SceneDetector(detector)
    found = scene.detect(IMAGES)
    assert scene.turns == 2
    assert [len(faces) for faces in found] == [1] * 4
    # One frame with a better score is not enough.
    scene = SceneDetector(SeenFaces(*[0.8] * 4, *(0, 0.9, 0), *(0.9, 0.9, 0, 0)))
    assert [round(float(faces.scores[0]), 1) for faces in scene.detect(IMAGES)] == [0.8] * 4
    assert scene.turns == 0


def test_a_face_in_less_than_half_of_the_turned_frames_is_no_face():
    nothing, one_turned = [0] * 4, [0.9, 0, 0]
    detector = SeenFaces(*nothing, *one_turned, 0.9, 0, 0, 0)
    scene = SceneDetector(detector)
    assert [len(faces) for faces in scene.detect(IMAGES)] == [0] * 4
    assert scene.turns is None
    # The next batch is searched upright first; then the orientation is decided.
    detector.scores = [*nothing, *one_turned, 0.9, 0.9, 0, 0]
    assert [len(faces) for faces in scene.detect(IMAGES)] == [1, 1, 0, 0]
    assert scene.turns == 1


def test_frame_by_frame_three_frames_must_agree():
    # Every fourth frame is also searched in three orientations. An error of the detector in one decides nothing.
    searched = [0.8, *(0, 0.9, 0), 0.9]
    upright = [0.7, *(0, 0, 0.5)]
    detector = SeenFaces(*searched, *[0.8] * 3, *[*upright, *[0.8] * 3] * 3, 0, 0)
    scene = CausalSceneDetector(detector)
    for frame in range(4 * 4):
        assert (scene.turns is None) == (frame < 13), frame
        assert len(scene.detect(IMAGES[:1])[0]) == 1
    assert scene.turns == 0
    assert [len(faces) for faces in scene.detect(IMAGES[:2])] == [0, 0]
    # Upside down
    scene = CausalSceneDetector(SeenFaces(*[0, 0, 0.9, 0, 0.9, *[0] * 3] * 2, 0, 0, 0.9, 0, 0.9, 0.9))
    found = [len(scene.detect(IMAGES[:1])[0]) for _ in range(10)]
    assert found == [1, 0, 0, 0, 1, 0, 0, 0, 1, 1]
    assert scene.turns == 2


def test_every_scene_has_its_own_orientation(detector):
    images = shaken(10, 2) + [np.uint8(0.6 * image[:, ::-1]) for image in shaken(10, 0)]
    frames = follow(FaceFollower(detector, 25.0), images)
    starts = [frame.index for frame in frames if frame.starts_scene]
    assert starts == [0, 10]
    assert [len(frame.faces) for frame in frames] == [1] * 20
    eyes_above_mouth = [frame.faces[0].landmarks[0, 1] < frame.faces[0].landmarks[3, 1] for frame in frames]
    assert eyes_above_mouth == [False] * 10 + [True] * 10
    # A scene alone is the same as in the video.
    alone = follow(FaceFollower(detector, 25.0), images[10:])
    for frame, other in zip(frames[10:], alone, strict=True):
        np.testing.assert_array_equal(frame.faces[0].landmarks, other.faces[0].landmarks)


@pytest.mark.parametrize("latency", ["normal", "low"])
@pytest.mark.parametrize("stop", [5, 9])
def test_a_continued_scene_keeps_its_orientation(detector, stop, latency):
    images = shaken(20, 1)
    horizon = HORIZONS[latency]
    expected = follow(FaceFollower(detector, 25.0, horizon=horizon), images)
    first = FaceFollower(detector, 25.0, horizon=horizon)
    frames = [frame for image in images[:stop] for frame in first.step(image)]
    file = io.BytesIO()
    torch.save(pack(first.state_dict()), file)
    file.seek(0)
    second = FaceFollower(detector, 25.0, horizon=horizon)
    state = unpack(torch.load(file, weights_only=True), torch.device("cpu"))
    second.load_state_dict(state, {index: images[index] for index in range(first.num_out, stop)})
    assert second.scene_detector.state_dict() == first.scene_detector.state_dict()
    frames += follow(second, images[stop:])
    assert len(frames) == len(expected) == 20
    for frame, other in zip(frames, expected, strict=True):
        np.testing.assert_equal(frame.state_dict(), other.state_dict())
    assert len(frames[10].faces) == 1
