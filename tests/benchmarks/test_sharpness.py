"""Sharpness falls with blur, is 1 for equal faces, and does not depend on what surrounds the face."""

import cv2
import numpy as np
import pytest

from benchmarks.sharpness import measure_sharpness, sharpness_kept
from conftest import make_clip


FACES = make_clip(3, 100, 100)


def test_equal_faces_keep_all_sharpness():
    assert sharpness_kept(FACES, FACES).values == [1, 1, 1]


def test_blur_loses_sharpness():
    blurred = np.stack([cv2.GaussianBlur(face, (0, 0), 1) for face in FACES])
    assert 0 < sharpness_kept(blurred, FACES).mean < 0.2


def test_only_the_face_counts():
    changed = FACES.copy()
    changed[:, :28] = changed[:, :, :20] = 0
    assert sharpness_kept(changed, FACES).mean == pytest.approx(1)


def test_energy_of_a_checkerboard():
    board = np.indices((50, 50)).sum(axis=0) % 2 * 10
    face = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    # A pixel differs by 10 from each of its four neighbours.
    assert measure_sharpness(face) == pytest.approx(40**2)


def test_a_flat_reference_has_no_ratio():
    flat = np.zeros((2, 40, 40, 3), np.uint8)
    assert np.isnan(sharpness_kept(flat, flat).values).all()
