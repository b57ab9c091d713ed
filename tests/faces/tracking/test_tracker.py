"""Linking of faces, gaps, absences, fades and smoothing, on drawn people, each with a pattern of their own."""

import io

import numpy as np
import pytest
import torch

from keep_hf.faces.alignment import estimate_alignment
from keep_hf.faces.detection import Faces
from keep_hf.faces.orientation import turn_back
from keep_hf.faces.tracking.appearance import compute_appearance
from keep_hf.faces.tracking.causal import CausalTracker
from keep_hf.faces.tracking.person import Person, Sighting
from keep_hf.faces.tracking.smoothing import smooth_landmarks
from keep_hf.faces.tracking.tracker import FaceTracker
from keep_hf.faces.tracking.tracks import link_tracks
from keep_hf.restoration.state import pack, unpack
from patterned_people import HEIGHT, RATE, WIDTH, Clip, draw_frame, faces_at, still


def test_one_still_face_is_one_track():
    (track,) = still(80, 0).track()
    assert track.track_id == 0
    assert track.frames.tolist() == list(range(80))
    assert track.landmarks.shape == (80, 5, 2)
    assert track.boxes.shape == (80, 4)


def test_no_face_gives_no_track():
    assert still(5).track() == []
    assert FaceTracker(RATE).flush() == []


def test_people_who_cross_keep_their_numbers():
    """Two people cross; in the middle one hides the other."""
    clip = Clip()
    for t in range(60):
        left, right = (100 + 10 * t, 200), (690 - 10 * t, 215)
        hidden = abs(left[0] - right[0]) < 60
        seen = [0] if hidden else [0, 1] if t % 2 else [1, 0]
        clip.add({1: right, 0: left}, seen)
    placed = clip.place()
    (first,) = {face.track_id for t in range(60) for face in placed[t] if face.box[0] == 50 + 10 * t}
    (second,) = {face.track_id for t in range(60) for face in placed[t] if face.box[0] == 640 - 10 * t}
    assert first != second
    tracks = {track.track_id: track for track in link_tracks(placed)}
    assert sorted(tracks) == [0, 1]
    assert tracks[first].frames.tolist() == list(range(60))
    # Where the person in front hides the other one, the person behind is away.
    away = sorted(set(range(60)) - set(tracks[second].frames.tolist()))
    assert away == [t for t in range(60) if abs(590 - 20 * t) < 60]


def test_a_fast_face_is_followed_by_its_motion():
    """75 px per frame are more than half a face; the first steps are slower."""
    clip = Clip()
    for x in 100 + np.cumsum(np.minimum(np.arange(12) * 12, 75)):
        clip.add({0: (float(x), 200)})
    (track,) = clip.track()
    assert len(track) == 12


def lost_for(length: int, there: bool) -> Clip:
    """A walk of 50 frames; from frame 20 on, the face is not detected for `length` frames, or not in the image."""
    clip = Clip()
    for t in range(50):
        is_lost = 20 <= t < 20 + length
        person = {0: (150 + 4 * t, 180 + 2 * t)}
        clip.add(person if there or not is_lost else {}, [] if is_lost else None)
    return clip


def test_a_face_that_is_lost_for_a_moment_is_interpolated():
    (track,) = lost_for(8, there=True).track()
    assert track.frames.tolist() == list(range(50))
    assert (track.scores[20:28] == 0).all()
    assert (track.scores[:20] > 0).all()
    assert (track.scores[28:] > 0).all()
    np.testing.assert_allclose(track.boxes[:, 0], 100 + 4 * np.arange(50), atol=1e-3)


def test_a_face_that_the_images_do_not_show_is_not_interpolated():
    (track,) = lost_for(8, there=False).track()
    assert track.frames.tolist() == [*range(20), *range(28, 50)]


def test_a_long_absence_starts_a_new_segment_of_the_same_person():
    placed = lost_for(14, there=True).place()
    (track,) = link_tracks(placed)
    assert track.frames.tolist() == [*range(20), *range(34, 50)]
    segments = [{face.segment for face in faces} for faces in placed]
    assert segments[0] == segments[19] == {0}
    assert segments[34] == segments[49] == {1}


def test_no_face_is_interpolated_where_another_person_is_detected():
    clip = Clip()
    for t in range(40):
        hidden = 15 <= t < 20
        people = {0: (200, 200)} | ({1: (200, 200)} if hidden else {})
        clip.add(people, [1] if hidden else [0])
    owners = {t: {face.track_id for face in faces} for t, faces in enumerate(clip.place())}
    assert all(owners[t] == {0} for t in (*range(15), *range(20, 40)))
    assert all(0 not in owners[t] for t in range(15, 20))


@pytest.mark.parametrize("twin", [False, True])
def test_no_face_is_interpolated_where_a_twin_is_detected(twin):
    place = faces_at((400, 200))
    images = dict.fromkeys(range(3), draw_frame({0: (400, 200)}))
    tracker = FaceTracker(RATE)
    tracker.step(place, images)
    tracker.step(faces_at(), images)
    if twin:
        face = compute_appearance(images[1], place.landmarks[0])
        tracker.people.append(Person(face, face, {1: Sighting(place.boxes[0], place.landmarks[0], 0.9)}, last=1))
    tracker.step(place, images)
    assert (1 in tracker.people[0].seen) != twin
    assert 2 in tracker.people[0].seen


def test_a_person_who_returns_elsewhere_is_recognized_by_appearance():
    clip = Clip()
    for t in range(120):
        clip.add({0: (150, 200), 1: (600, 200)} if t < 30 else {1: (600, 200)} if t < 70 else {0: (350, 150)})
    first, second = clip.track()
    assert first.frames.tolist() == [*range(30), *range(70, 120)]
    assert second.frames.tolist() == list(range(70))
    # A new person gets a new number.
    for t in range(70, 120):
        clip.images[t], clip.found[t] = draw_frame({2: (350, 150)}), faces_at((350, 150))
    assert [len(track) for track in clip.track()] == [30, 70, 50]


def test_a_face_of_another_size_at_the_same_place_is_another_person():
    clip = Clip()
    for t in range(30):
        clip.add({0: (300, 200)} if t < 15 else {1: (300, 200)}, side=60 if t < 15 else 150)
    assert len(clip.track()) == 2


def test_a_face_with_too_few_detections_is_dropped():
    clip, both = still(40, 0), {0: (120, 200), 1: (600, 300)}
    for t in (4, 5):
        clip.images[t], clip.found[t] = draw_frame(both), faces_at(*both.values())
    assert len(clip.track()) == 1
    clip.images[6], clip.found[6] = draw_frame(both), faces_at(*both.values())
    assert len(clip.track()) == 2
    # A single image is a scene of one frame.
    assert len(still(1, 0).track()) == 1


def test_faces_fade_in_and_out_except_at_the_ends_of_the_scene():
    clip = still(80, 0)
    for t in (*range(20), *range(60, 80)):
        clip.images[t], clip.found[t] = draw_frame({}), faces_at()
    weights = [faces[0].weight if faces else 0.0 for faces in clip.place()]
    np.testing.assert_allclose(weights[18:27], [0, 0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1])
    np.testing.assert_allclose(weights[53:62], [1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0])
    assert {face.weight for faces in still(80, 0).place() for face in faces} == {1.0}


def test_small_faces_do_not_count_and_do_not_alternate():
    clip = Clip()
    for t in range(60):
        clip.add({0: (300, 200)}, side=64 - 4 * (t % 2))  # a size that varies around the limit
    assert [len(track) for track in clip.track(min_face_size=62)] == [60]
    assert clip.track(min_face_size=70) == []
    assert [len(track) for track in clip.track(min_face_size=50)] == [60]


def test_only_the_largest_person_is_followed():
    clip = Clip()
    people = {0: (150, 200), 1: (450, 200)}
    for t in range(120):
        # Both sizes vary; the second person is larger from frame 60 on.
        sides = (100 + 3 * ((t + 1) % 2), 100 + 3 * (t % 2) if t < 60 else 160)
        found = [faces_at(place, side=side) for place, side in zip(people.values(), sides, strict=True)]
        clip.images.append(draw_frame(people, *sides))
        clip.found.append(
            Faces(*(np.concatenate([getattr(f, name) for f in found]) for name in ("boxes", "landmarks", "scores")))
        )
    placed = clip.place(faces="largest")
    assert all(len(faces) == 1 for faces in placed)
    who = [faces[0].track_id for faces in placed]
    assert set(who[:50]) == {0}
    assert set(who[70:]) == {1}
    assert who == sorted(who)


def test_people_are_selected_by_their_numbers():
    clip = still(60, 0, 1, 3)
    all_tracks = clip.track()
    assert [track.track_id for track in all_tracks] == [0, 1, 2]
    chosen = clip.track(faces=(0, 2))
    assert [track.track_id for track in chosen] == [0, 2]
    for track, same in zip(chosen, (all_tracks[0], all_tracks[2]), strict=True):
        np.testing.assert_array_equal(track.landmarks, same.landmarks)


@pytest.mark.parametrize("length", [1, 2, 7, 30, 90])
def test_landmarks_are_smoothed_as_if_all_frames_were_known(length):
    clip, random = Clip(), np.random.default_rng(0)
    for t in range(length):
        clip.add({0: (300 + t, 200)})
        clip.found[t].landmarks += random.normal(0, 2, (1, 5, 2)).astype(np.float32)
    (track,) = clip.track()
    given = np.array([found.landmarks[0] for found in clip.found])
    np.testing.assert_allclose(track.landmarks, smooth_landmarks(given, 5.0), atol=1e-9)


def test_smoothing_does_not_cross_an_absence():
    clip = lost_for(14, there=True)
    for t in range(34, 50):
        x = 250.0 + 4 * t
        clip.images[t], clip.found[t] = draw_frame({0: (x, 100)}), faces_at((x, 100))
    (track,) = clip.track()
    after = np.array([found.landmarks[0] for found in clip.found[34:]])
    np.testing.assert_allclose(track.landmarks[20:], smooth_landmarks(after, 5.0), atol=1e-9)


def test_faces_too_small_to_be_aligned_are_ignored():
    clip = Clip()
    for _ in range(10):
        clip.add({0: (300, 200)}, side=4)
    assert clip.track() == []


def test_memory_does_not_grow_with_the_scene():
    tracker = FaceTracker(RATE)
    image = draw_frame({0: (200, 200), 1: (500, 200)})
    images = {}
    for t in range(300):
        images[t] = image
        images.pop(t - tracker.look_ahead - 1, None)
        tracker.step(faces_at((200, 200), (500, 200)), images)
    assert sum(len(person.seen) for person in tracker.people) <= 4 * tracker.look_ahead
    assert len(tracker.decided) <= 2 * tracker.fade + 1


def test_more_people_than_are_remembered():
    """The person who was not seen for longest is forgotten, wherever they are in the list."""
    tracker = FaceTracker(RATE)
    image = draw_frame({0: (200, 200)})
    for t in range(6):
        tracker.step(faces_at((200, 200)) if t < 3 else faces_at(), {t: image})
    vectors = np.eye(70, 768, dtype=np.float32)
    for number, vector in enumerate(vectors):
        tracker.people.append(Person(vector, vector, last=number + 10, track_id=number + 1))
    tracker.people[0].last = 1000
    for t in range(6, 9):
        tracker.step(faces_at(), {t: image})
    assert tracker.people[0].track_id in (-1, 0)
    assert tracker.people[0].last == 1000
    assert [person.track_id for person in tracker.people[1:]] == list(range(4, 71))


def test_a_tracker_continues_from_a_saved_state():
    clip = lost_for(8, there=True)
    expected = clip.place()
    for stop in (0, 3, 22, 30, 49):
        first, second = FaceTracker(RATE), FaceTracker(RATE)
        images = dict(enumerate(clip.images))
        placed = [frame for found in clip.found[:stop] for frame in first.step(found, images)]
        saved = io.BytesIO()
        torch.save(pack(first.state_dict()), saved)
        saved.seek(0)
        second.load_state_dict(unpack(torch.load(saved, weights_only=True), torch.device("cpu")))
        placed += [frame for found in clip.found[stop:] for frame in second.step(found, images)]
        placed += second.flush()
        assert [[face.track_id for face in frame] for frame in placed] == [[0]] * 50
        for frame, others in zip(placed, expected, strict=True):
            for face, other in zip(frame, others, strict=True):
                np.testing.assert_equal(vars(face), vars(other))


def test_a_state_of_another_version_is_rejected():
    state = FaceTracker(RATE).state_dict() | {"version": 0}
    with pytest.raises(ValueError, match=r"FaceTracker has version 0, .* start the job again"):
        FaceTracker(RATE).load_state_dict(state)


@pytest.mark.parametrize("tracker_class", [FaceTracker, CausalTracker])
@pytest.mark.parametrize("num_lost", [0, 1])
def test_landmarks_that_turn_around_are_no_error(tracker_class, num_lost):
    """The detector finds a small face upside down from frame 20 on: the mean of its landmarks is a point."""
    clip, centre = Clip(), ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    for t in range(40):
        found = faces_at(*[centre] * (not 20 <= t < 20 + num_lost), side=14.0)
        found.boxes += np.array([-4, -4, 4, 4], np.float32)  # a wide box, so that the turned face is near enough
        is_turned = t >= 20
        clip.images.append(np.rot90(draw_frame({0: centre}), 2 * is_turned))
        clip.found.append(turn_back(found, 2, WIDTH, HEIGHT) if is_turned else found)
    placed = clip.place(tracker_class=tracker_class)
    assert [len(faces) for faces in placed[:15] + placed[25:]] == [1] * 30
    for faces in placed:
        for face in faces:
            estimate_alignment(face.landmarks)
