"""The benchmark of the face detector: what counts as found, and videos without a face."""

import numpy as np

from benchmarks.detector import Count, count_in_mosaics, count_sure, error_of, measure_turned
from benchmarks.faceless_videos import KINDS, draw_video
from conftest import make_faces


def test_a_face_counts_as_found_if_its_landmarks_are_close():
    count = Count()
    reference = make_faces((10, 10, 60), (100, 10, 60))
    count.add(make_faces((12, 10, 60)), reference)
    assert str(count) == "1 of 2 (50.0 %)"
    assert error_of(make_faces(), reference.landmarks[0]) == np.inf
    assert error_of(reference, reference.landmarks[1]) == 0


def test_a_detector_finds_what_it_finds_itself():
    class Corner:
        """A face in the left upper corner of every frame."""

        def detect(self, frames):
            return [make_faces((4, 4, 40)) for _ in frames]

    image = np.full((90, 120, 3), 90, np.uint8)
    count = count_in_mosaics([image] * 6, Corner(), Corner())
    assert (count.found, count.expected) == (2, 2)
    assert [(c.found, c.expected) for c in measure_turned([[image] * 3], Corner(), Corner())] == [(3, 3)] * 3


def test_faces_of_which_the_reference_is_not_sure_do_not_count():
    class Detector:
        """A face of half the frame, and another one with a low score."""

        def detect(self, frames):
            side = frames[0].shape[0] // 2
            faces = make_faces((0, 0, side), (side, side, side))
            faces.scores[:] = (0.9, 0.7)
            return [faces]

    counts = count_sure([np.full((160, 160, 3), 90, np.uint8)], Detector(), Detector())
    # The largest face has 80 pixels, and images are not enlarged.
    expected = {"own": 1, "32": 1, "64": 1, "128": 0}
    for kind in ("colour", "grey"):
        assert {size: counts[f"{kind}, {size}"].expected for size in expected} == expected
        assert {size: counts[f"{kind}, {size}"].found for size in expected} == expected


def test_the_videos_differ_and_move():
    videos = [draw_video(number, 3) for number in range(2 * len(KINDS))]
    assert len({frames[0].shape for frames in videos}) > 1
    firsts = {frames[0].tobytes() for frames in videos}
    assert len(firsts) == len(videos)
    assert sum((frames[0] != frames[2]).any() for frames in videos) > len(videos) / 2
