"""Drawn people: detectors take them for real, and they move."""

import numpy as np
import pytest

from keep_hf import KeepPipeline
from keep_hf.drawn_people import draw_film, draw_person


@pytest.mark.parametrize("number", [1, 2, 3])
def test_everybody_is_found_in_every_frame(number):
    frames = list(draw_film(number, 40))
    assert frames[0].shape == (480, 640, 3) and frames[0].dtype == np.uint8
    detector = KeepPipeline.from_pretrained("keep-tiny").detector
    found = detector.detect(frames[::8])
    assert [len(faces) for faces in found] == [number] * 5
    middles = np.array([sorted(faces.landmarks.mean(axis=1)[:, 0]) for faces in found])
    places = (np.arange(number) + 0.5) * 640 / number
    assert np.abs(middles - places).max() < 0.2 * 640 / number
    assert np.ptp(middles, axis=0).min() > 2


def test_people_differ_and_films_do_not():
    assert len({draw_person(64, who).tobytes() for who in range(3)}) == 3
    np.testing.assert_array_equal(*(list(draw_film(2, 2, 96, 64)) for _ in range(2)))


def test_a_film_of_nothing_is_refused():
    with pytest.raises(ValueError, match="0 people"):
        next(draw_film(0, 1))
