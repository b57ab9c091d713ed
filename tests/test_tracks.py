"""Linking of faces, gaps and smoothing."""

import numpy as np
import pytest

from keep_hf.align import TEMPLATE
from keep_hf.detector import Faces
from keep_hf.tracks import FaceTrack, largest, link_faces, smooth_landmarks


def faces(*places, side=100.0, score=0.9):
    """Faces of one frame with their middles at the given places."""
    shape = (TEMPLATE - TEMPLATE.mean(axis=0)) / 250 * side
    middles = np.array(places, np.float32).reshape(-1, 2)
    return Faces(
        np.concatenate([middles - side / 2, middles + side / 2], axis=1).astype(np.float32),
        (middles[:, None] + shape).astype(np.float32),
        np.full(len(middles), score, np.float32),
    )


NOBODY = faces()


def test_one_still_face_is_one_track():
    (track,) = link_faces([faces((200, 150))] * 10)
    assert track.track_id == 0
    assert track.frames.tolist() == list(range(10))
    assert track.landmarks.shape == (10, 5, 2) and track.boxes.shape == (10, 4)
    assert track.landmarks.dtype == track.boxes.dtype == np.float32


def test_no_face_gives_no_track():
    assert link_faces([NOBODY] * 5) == []
    assert link_faces([]) == []


def test_people_who_cross_keep_their_tracks():
    """Two people walk through each other; in the middle one hides the other for five frames."""
    clip = []
    for t in range(60):
        left, right = (100 + 10 * t, 200), (690 - 10 * t, 215)
        hidden = abs(left[0] - right[0]) < 60
        clip.append(faces(left) if hidden else faces(left, right) if t % 2 else faces(right, left))
    first, second = sorted(link_faces(clip), key=lambda track: track.boxes[0, 0])
    assert first.frames.tolist() == second.frames.tolist() == list(range(60))
    np.testing.assert_allclose(first.boxes[:, 0], 50 + 10 * np.arange(60), atol=1)
    np.testing.assert_allclose(second.boxes[:, 0], 640 - 10 * np.arange(60), atol=1)


def test_fast_face_is_followed_by_its_motion():
    """75 px a frame are more than half a face; the first steps are slower."""
    x = 100 + np.cumsum(np.minimum(np.arange(20) * 12, 75))
    (track,) = link_faces([faces((place, 200)) for place in x])
    assert len(track) == 20


def test_short_gap_is_filled_in_a_straight_line():
    clip = [faces((100 + 4 * t, 200 + 2 * t)) for t in range(30)]
    clip[10:18] = [NOBODY] * 8
    (track,) = link_faces(clip, max_gap=8)
    assert track.frames.tolist() == list(range(30))
    expected = np.concatenate([faces((100 + 4 * t, 200 + 2 * t)).landmarks for t in range(30)])
    np.testing.assert_allclose(track.landmarks, expected, atol=1e-3)
    assert (track.scores[10:18] == 0).all() and (track.scores[:10] > 0).all() and (track.scores[18:] > 0).all()


def test_long_gap_ends_the_track():
    clip = [faces((100, 200))] * 10 + [NOBODY] * 9 + [faces((100, 200))] * 10
    assert [track.frames.tolist() for track in link_faces(clip, max_gap=8)] == [list(range(10)), list(range(19, 29))]


def test_no_track_crosses_a_cut():
    clip = [faces((100, 200))] * 20
    assert [track.frames.tolist() for track in link_faces(clip, cuts=[7])] == [list(range(7)), list(range(7, 20))]
    with pytest.raises(ValueError, match="cuts"):
        link_faces(clip, cuts=[20])


def test_face_of_another_size_at_the_same_place_is_another_person():
    clip = [faces((300, 300), side=60)] * 5 + [faces((300, 300), side=200)] * 5
    assert len(link_faces(clip)) == 2


def test_flash_of_a_face_is_dropped():
    clip = [faces((100, 200))] * 10
    clip[4] = clip[5] = faces((100, 200), (400, 300))
    assert len(link_faces(clip)) == 1
    clip[6] = faces((100, 200), (400, 300))
    assert len(link_faces(clip)) == 2
    # A photograph is a scene of one frame.
    assert len(link_faces([faces((100, 200), score=0.6)])) == 1


def test_small_faces_are_dropped_as_whole_tracks():
    clip = [faces((100 + t, 200), side=20 + t) for t in range(20)]
    assert len(link_faces(clip, min_face_size=25)[0]) == 20
    assert link_faces(clip, min_face_size=35) == []


def test_smoothing_is_a_convolution_with_mirrored_ends():
    values = np.random.default_rng(0).normal(size=(9, 10))
    sigma, radius = 1.5, 6
    expected = np.zeros_like(values)
    for t in range(9):
        total = 0.0
        for offset in range(-radius, radius + 1):
            weight = np.exp(-(offset**2) / (2 * sigma**2))
            place = t + offset
            # ... 2 1 0 | 0 1 2 ... 7 8 | 8 7 6 ...
            place = -1 - place if place < 0 else 17 - place if place > 8 else place
            expected[t] += weight * values[place]
            total += weight
        expected[t] /= total
    np.testing.assert_allclose(smooth_landmarks(values, sigma), expected, atol=1e-12)
    np.testing.assert_allclose(smooth_landmarks(values.reshape(9, 5, 2), sigma).reshape(9, 10), expected, atol=1e-12)


def test_smoothing_of_a_step_has_the_published_values():
    """scipy.ndimage.gaussian_filter1d(step, 5) gives these."""
    expected = [0.0, 0.028490011931350746, 0.4601041715560248, 0.5398958284439753, 0.9823086145534988, 1.0]
    step = np.repeat([0.0, 1.0], 30)[:, None]
    smooth = smooth_landmarks(step, 5.0)[:, 0]
    np.testing.assert_allclose(smooth[[0, 20, 29, 30, 40, 59]], expected, atol=1e-12)


def test_smoothing_works_on_clips_shorter_than_the_filter_and_can_be_off():
    np.testing.assert_allclose(smooth_landmarks(np.full((1, 10), 3.0), 5.0), 3.0)
    np.testing.assert_allclose(smooth_landmarks(np.arange(20.0).reshape(2, 10), 0.0), np.arange(20.0).reshape(2, 10))
    with pytest.raises(ValueError, match="sigma"):
        smooth_landmarks(np.zeros((3, 10)), -1.0)


def test_largest_keeps_one_face_at_a_time():
    def track(track_id, start, end, side):
        n = end - start
        box = np.tile(np.array([0, 0, side, side], np.float32), (n, 1))
        return FaceTrack(track_id, np.arange(start, end), box, np.zeros((n, 5, 2), np.float32), np.ones(n, np.float32))

    main, beside, later = track(0, 0, 50, 100), track(1, 10, 40, 60), track(2, 48, 90, 60)
    assert [kept.track_id for kept in largest([main, beside, later])] == [0, 2]
    assert largest([]) == []
