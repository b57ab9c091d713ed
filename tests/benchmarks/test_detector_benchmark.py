"""The benchmark of the face detector: what counts as found, and videos without a face."""

import numpy as np

from benchmarks.detector import Count, count_in_mosaics, error_of, measure_turned
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


def test_the_videos_differ_and_move():
    videos = [draw_video(number, 3) for number in range(2 * len(KINDS))]
    assert len({frames[0].shape for frames in videos}) > 1
    firsts = {frames[0].tobytes() for frames in videos}
    assert len(firsts) == len(videos)
    assert sum((frames[0] != frames[2]).any() for frames in videos) > len(videos) / 2
