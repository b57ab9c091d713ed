"""Scenes, detection batches and trackers together; a follower that continues from a saved state."""

import io

import numpy as np
import pytest
import torch

from conftest import KnownFaces, make_clip, make_faces
from keep_hf import Faces
from keep_hf.faces.follower import HORIZONS, FaceFollower, FollowedFrame
from keep_hf.restoration.state import pack, unpack


LENGTHS = (11, 20, 9)
CUTS = [0, 11, 31]
IMAGES = np.concatenate([make_clip(length, 128, 96, seed) for seed, length in enumerate(LENGTHS)])
CLIP = [make_faces((20 + index % 7, 20, 48)) for index in range(len(IMAGES))]
CLIP[15:18] = [make_faces()] * 3


class RecordingDetector(KnownFaces):
    """Known faces; the sizes of the batches are recorded."""

    def __init__(self, clip: list[Faces]) -> None:
        super().__init__(clip)
        self.batches: list[int] = []

    def detect(self, frames: list[np.ndarray]) -> list[Faces]:
        self.batches.append(len(frames))
        return super().detect(frames)


def follow(follower: FaceFollower, images: np.ndarray = IMAGES) -> list[FollowedFrame]:
    return [frame for image in images for frame in follower.step(image)] + follower.flush()


def assert_equal(frames: list[FollowedFrame], others: list[FollowedFrame]) -> None:
    assert len(frames) == len(others)
    for frame, other in zip(frames, others, strict=True):
        np.testing.assert_equal(frame.state_dict(), other.state_dict())
        np.testing.assert_array_equal(frame.image, other.image)


def test_all_frames_come_out_in_order_with_their_scenes_and_faces():
    follower = FaceFollower(KnownFaces(CLIP), 25.0)
    frames = follow(follower)
    assert [frame.index for frame in frames] == list(range(40))
    assert [frame.index for frame in frames if frame.starts_scene] == CUTS
    assert follower.num_scenes == 3
    np.testing.assert_array_equal(np.array([frame.image for frame in frames]), IMAGES)
    # No face is followed across a cut: every scene starts with a new person and a new track segment.
    assert [frames[cut].faces[0].track_id for cut in CUTS] == [0, 1, 2]
    assert [frames[cut].faces[0].segment for cut in CUTS] == [0, 1, 2]


def test_batches_of_the_detector_start_again_in_every_scene():
    detector = RecordingDetector(CLIP)
    follow(FaceFollower(detector, 25.0))
    # In the first batch, one frame is also searched in three orientations.
    first = [8, 3]
    assert detector.batches == [*first, 3, *first, 8, 4, *first, 1]


def test_without_cuts_the_video_is_one_scene():
    frames = follow(FaceFollower(KnownFaces(CLIP), 25.0, find_cuts=False))
    assert [frame.index for frame in frames if frame.starts_scene] == [0]


@pytest.mark.parametrize("latency", ["normal", "low"])
def test_as_many_frames_are_held_as_the_look_ahead(latency):
    follower = FaceFollower(KnownFaces(CLIP), 10.0, find_cuts=False, horizon=HORIZONS[latency])
    held = []
    for image in IMAGES:
        follower.step(image)
        held.append(len(follower.images))
    assert max(held) == follower.look_ahead
    assert follower.num_out == len(IMAGES) - held[-1]


def test_the_low_horizon_is_three_frames():
    assert FaceFollower(KnownFaces(CLIP), 60.0, horizon=HORIZONS["low"]).look_ahead == 3
    assert FaceFollower(None, 60.0, horizon=HORIZONS["low"]).look_ahead == 1


def test_aligned_frames_are_one_person_with_a_segment_per_scene():
    frames = follow(FaceFollower(None, 25.0))
    assert [frame.index for frame in frames if frame.starts_scene] == CUTS
    assert [[face.track_id for face in frame.faces] for frame in frames] == [[0]] * 40
    assert [frames[cut].faces[0].segment for cut in CUTS] == CUTS
    assert frames[5].faces[0].box.tolist() == [0, 0, 128, 96]


@pytest.mark.parametrize("latency", ["normal", "low"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("stop", [0, 5, 12, 26, 39])
def test_a_follower_continues_from_a_saved_state(stop, aligned, latency):
    def new_follower() -> FaceFollower:
        detector = KnownFaces(CLIP)
        detector.num_seen = saved_detector
        return FaceFollower(None if aligned else detector, 25.0, horizon=HORIZONS[latency])

    saved_detector = 0
    expected = follow(new_follower())
    first = new_follower()
    frames = [frame for image in IMAGES[:stop] for frame in first.step(image)]
    file = io.BytesIO()
    torch.save(pack(first.state_dict()), file)
    file.seek(0)
    saved_detector = first.num_searched
    second = new_follower()
    state = unpack(torch.load(file, weights_only=True), torch.device("cpu"))
    second.load_state_dict(state, {index: IMAGES[index] for index in range(first.num_out, stop)})
    assert_equal(frames + follow(second, IMAGES[stop:]), expected)
    assert second.num_scenes == 3


def test_a_state_of_another_version_is_refused():
    follower = FaceFollower(None, 25.0)
    with pytest.raises(ValueError, match="FaceFollower has version 0"):
        follower.load_state_dict(follower.state_dict() | {"version": 0}, {})
