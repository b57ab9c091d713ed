"""Drawn people are found by the detector, and they move."""

import numpy as np
import pytest

from keep_hf import KeepPipeline
from keep_hf.drawn_people import draw_person, draw_video


@pytest.mark.parametrize("number", [1, 2, 3])
def test_all_people_are_found_in_every_frame(number):
    frames = list(draw_video(number, 40))
    assert frames[0].shape == (480, 640, 3)
    assert frames[0].dtype == np.uint8
    detector = KeepPipeline.from_pretrained("keep-tiny").detector
    found = detector.detect(frames[::8])
    assert [len(faces) for faces in found] == [number] * 5
    centres = np.array([sorted(faces.landmarks.mean(axis=1)[:, 0]) for faces in found])
    expected = (np.arange(number) + 0.5) * 640 / number
    assert np.abs(centres - expected).max() < 0.2 * 640 / number
    assert np.ptp(centres, axis=0).min() > 2


def test_people_differ_and_a_video_is_deterministic():
    assert len({draw_person(64, number).tobytes() for number in range(3)}) == 3
    np.testing.assert_array_equal(*(list(draw_video(2, 2, 96, 64)) for _ in range(2)))


def test_an_empty_video_is_refused():
    with pytest.raises(ValueError, match="0 people"):
        next(draw_video(0, 1))
