"""The tracker with a look-ahead of two frames, on drawn people: gaps, confirmation, fades and smoothing."""

import io

import numpy as np
import pytest
import torch

from keep_hf.faces.tracking.causal import CausalTracker
from keep_hf.faces.tracking.tracks import PlacedFace
from keep_hf.restoration.state import pack, unpack
from patterned_people import RATE, Clip, draw_frame, faces_at, still


def place(clip: Clip, **options) -> list[list[PlacedFace]]:
    return clip.place(tracker_class=CausalTracker, **options)


def weights(placed: list[list[PlacedFace]], track_id: int = 0) -> list[float]:
    """The weight of a person in every frame; 0 where they are not restored."""
    return [next((face.weight for face in faces if face.track_id == track_id), 0.0) for faces in placed]


def walk(length: int, lost: range, there: bool, at: int = 0) -> Clip:
    """A slow walk; in some of the frames the face is not detected, and perhaps not in the image either."""
    clip = Clip()
    for t in range(length):
        person = {at: (150 + 4 * t, 180 + 2 * t)}
        clip.add(person if there or t not in lost else {}, [] if t in lost else None)
    return clip


def test_a_frame_is_decided_two_frames_later():
    tracker = CausalTracker(60.0)
    assert tracker.look_ahead == 2
    clip = still(10, 0)
    images = dict(enumerate(clip.images))
    assert [len(tracker.step(found, images)) for found in clip.found] == [0, 0] + [1] * 8
    assert len(tracker.flush()) == 2


@pytest.mark.parametrize("stop", [3, 12, 16, 18, 27, 40])
def test_later_frames_do_not_change_a_frame(stop):
    """The same frames, followed by others, by none of the people, or by nothing but the look-ahead."""
    clip = walk(46, range(12, 17), there=True)
    other = Clip()
    other.images, other.found = clip.images[:stop], clip.found[:stop]
    for _ in range(20):
        other.add({1: (600, 100)})
    decided = place(clip)[: stop - 2]
    assert len(decided) == stop - 2
    for faces, same in zip(decided, place(other)[: stop - 2], strict=True):
        np.testing.assert_equal([face.state_dict() for face in faces], [face.state_dict() for face in same])


def test_a_new_face_is_restored_from_its_first_frame_on():
    clip = still(40, 0)
    for t in range(20):
        clip.images[t], clip.found[t] = draw_frame({}), faces_at()
    np.testing.assert_allclose(weights(place(clip))[18:28], [0, 0, *(np.arange(1, 7) / 6), 1, 1])


def test_faces_at_the_start_and_at_the_end_of_a_scene_do_not_fade():
    assert weights(place(still(30, 0))) == [1.0] * 30


def test_a_face_with_too_few_detections_is_never_shown():
    clip, both = still(20, 0), {0: (120, 200), 1: (600, 300)}
    for t in (4, 5):
        clip.images[t], clip.found[t] = draw_frame(both), faces_at(*both.values())
    assert all(len(faces) == 1 for faces in place(clip))


def test_a_lost_face_that_the_image_shows_stays_in_place():
    placed = place(walk(50, range(20, 27), there=True))
    assert weights(placed) == [1.0] * 50
    scores = np.array([faces[0].score for faces in placed])
    assert (scores[20:27] == 0).all()
    assert (np.delete(scores, np.arange(20, 27)) > 0).all()
    # It moves on as before, so that it is where the face is.
    np.testing.assert_allclose([faces[0].box[0] for faces in placed], 100 + 4 * np.arange(50), atol=0.1)
    assert {faces[0].segment for faces in placed} == {0}


def test_a_face_that_is_gone_is_not_pasted():
    placed = place(walk(50, range(20, 30), there=False))
    found = weights(placed)
    np.testing.assert_allclose(found[16:22], [1, 1, 2 / 3, 1 / 3, 0, 0])
    assert not any(placed[20:30])
    np.testing.assert_allclose(found[30:36], np.arange(1, 7) / 6)
    assert (placed[19][0].segment, placed[30][0].segment) == (0, 1)
    assert placed[30][0].track_id == 0


def test_a_face_that_stays_lost_fades_out():
    found = weights(place(walk(50, range(20, 50), there=True)))
    gap = 12  # half a second
    np.testing.assert_allclose(found[:27], 1)
    assert (np.diff(found[26 : 20 + gap]) < 0).all()
    assert found[20 + gap - 1] > 0
    assert not any(found[20 + gap :])


def test_no_face_is_held_where_another_person_is_detected():
    clip = Clip()
    for t in range(40):
        hidden = 15 <= t < 20
        people = {0: (200, 200)} | ({1: (200, 200)} if hidden else {})
        clip.add(people, [1] if hidden else [0])
    owners = [{face.track_id for face in faces} for faces in place(clip)]
    assert all(owners[t] == {0} for t in (*range(15), *range(20, 40)))
    assert all(0 not in owners[t] for t in range(15, 20))


def test_a_person_who_is_no_longer_the_largest_fades_out():
    clip, people = Clip(), {0: (150, 200), 1: (450, 200)}
    for t in range(60):
        sides = (100, 90 if t < 30 else 160)
        clip.images.append(draw_frame(people, *sides))
        first, second = (faces_at(where, side=side) for where, side in zip(people.values(), sides, strict=True))
        first.boxes = np.concatenate([first.boxes, second.boxes])
        first.landmarks = np.concatenate([first.landmarks, second.landmarks])
        first.scores = np.concatenate([first.scores, second.scores])
        clip.found.append(first)
    placed = place(clip, faces="largest")
    old, new = np.array(weights(placed, 0)), np.array(weights(placed, 1))
    switch = int(np.flatnonzero(new)[0])
    assert 30 <= switch <= 40
    np.testing.assert_allclose(new[switch : switch + 6], np.arange(1, 7) / 6)
    np.testing.assert_allclose(old[switch - 1 : switch + 6], np.arange(6, -1, -1) / 6)
    # A person who was not asked for is not shown at all.
    assert not any(weights(place(clip, faces=(1,)), 0))


def test_smoothing_steadies_a_still_face_and_follows_a_moving_one():
    random = np.random.default_rng(0)
    for speed in (0, 6):
        clip = Clip()
        for t in range(60):
            clip.add({0: (150.0 + speed * t, 200)})
        true = np.array([found.landmarks[0] for found in clip.found])
        for found in clip.found:
            found.landmarks += random.normal(0, 2, (1, 5, 2)).astype(np.float32)
        given = np.array([found.landmarks[0] for found in clip.found])
        smoothed = np.array([faces[0].landmarks for faces in place(clip)])
        jitter, given_jitter = (np.diff(points, 2, axis=0)[10:].std() for points in (smoothed, given))
        assert jitter < 0.25 * given_jitter
        # Two frames of the future are known, so a moving face lags behind by 1.5 frames at most.
        assert np.abs((smoothed - true)[10:-2].mean(axis=(0, 1))).max() <= 1.5 * speed + 0.5


def test_a_tracker_continues_from_a_saved_state():
    clip = walk(50, range(20, 27), there=True)
    expected = place(clip)
    images = dict(enumerate(clip.images))
    for stop in (0, 1, 3, 22, 30, 49):
        first, second = CausalTracker(RATE), CausalTracker(RATE)
        placed = [faces for found in clip.found[:stop] for faces in first.step(found, images)]
        file = io.BytesIO()
        torch.save(pack(first.state_dict()), file)
        file.seek(0)
        second.load_state_dict(unpack(torch.load(file, weights_only=True), torch.device("cpu")))
        placed += [faces for found in clip.found[stop:] for faces in second.step(found, images)] + second.flush()
        for faces, same in zip(placed, expected, strict=True):
            np.testing.assert_equal([face.state_dict() for face in faces], [face.state_dict() for face in same])


def test_memory_does_not_grow_with_the_scene():
    tracker, clip = CausalTracker(RATE), still(200, 0, 1)
    for t, found in enumerate(clip.found):
        tracker.step(found, {t: clip.images[t]})  # older images are not read
        assert sum(len(person.seen) for person in tracker.people) <= 2 * 20
        assert len(tracker.decided) == 0
