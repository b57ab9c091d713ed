"""Close-ups of faces: where they lie in the frame, and what they show."""

import cv2
import numpy as np
import pytest

from keep_hf.faces.detector_parts.close_ups import MARGIN, MEAN_FACE, cut_aligned, cut_square, from_frame, to_frame


SIZE = 96
CUTS = (cut_square, cut_aligned)


def place_face(side: float, angle: float, centre: tuple[float, float]) -> np.ndarray:
    """The landmarks of the mean face in a box of a given side, rotated, in pixels."""
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return ((MEAN_FACE * side) @ turn.T + centre).astype(np.float32)


def draw_dots(points: np.ndarray, sigma: float) -> np.ndarray:
    """A frame `(400, 500, 3)` with a smooth red dot at the first point, and green ones at the others."""
    y, x = np.mgrid[:400, :500]
    frame = np.zeros((400, 500, 3))
    for number, point in enumerate(points):
        distance = (x - point[0]) ** 2 + (y - point[1]) ** 2
        frame[..., min(number, 1)] += 255 * np.exp(-distance / (2 * sigma**2))
    return frame.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("side", [24, 90, 220])
def test_landmarks_are_where_the_matrix_says(cut, side):
    landmarks = place_face(side, 0.3, (240.3, 190.8))
    close_up, matrix = cut(draw_dots(landmarks, 0.05 * side + 0.5), landmarks, SIZE)
    assert close_up.shape == (SIZE, SIZE, 3)
    relative = from_frame(landmarks, matrix, SIZE)
    expected = (relative[0] + 0.5) * SIZE - 0.5
    weight = close_up[..., 0].astype(float) ** 2
    y, x = np.mgrid[:SIZE, :SIZE]
    found = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
    np.testing.assert_allclose(found, expected, atol=0.3)
    np.testing.assert_allclose(to_frame(relative, matrix, SIZE), landmarks, atol=1e-3)


@pytest.mark.parametrize("angle", [-2.5, 0, 0.7])
def test_an_aligned_close_up_shows_the_face_upright_and_at_the_same_size(angle):
    landmarks = place_face(150, angle, (250, 200))
    _, matrix = cut_aligned(np.zeros((400, 500, 3), np.uint8), landmarks, SIZE)
    spread = np.sqrt(MEAN_FACE.var(axis=0).sum())
    expected = (MEAN_FACE - MEAN_FACE.mean(axis=0)) / (2 * MARGIN * spread)
    np.testing.assert_allclose(from_frame(landmarks, matrix, SIZE), expected, atol=1e-4)


def test_the_fit_is_the_one_with_the_least_squares():
    """OpenCV's own fit of all points minimizes the same sum; it is only found by iterations."""
    rng = np.random.default_rng(0)
    frame = np.zeros((400, 500, 3), np.uint8)
    for _ in range(5):
        landmarks = place_face(100, rng.uniform(-1, 1), (250, 200)) + rng.normal(0, 5, (5, 2)).astype(np.float32)
        _, matrix = cut_aligned(frame, landmarks, SIZE)
        spread = np.sqrt(MEAN_FACE.var(axis=0).sum())
        target = ((MEAN_FACE - MEAN_FACE.mean(axis=0)) / (2 * MARGIN * spread) + 0.5) * SIZE - 0.5
        best = ((landmarks @ matrix[:, :2].T + matrix[:, 2] - target) ** 2).sum()
        for change in rng.normal(0, 1, (50, 2, 3)) * (0.005, 0.005, 0.5):
            a, b = change[0, :2]
            other = matrix + np.array([(a, -b, change[0, 2]), (b, a, change[1, 2])])
            assert ((landmarks @ other[:, :2].T + other[:, 2] - target) ** 2).sum() >= best


@pytest.mark.parametrize("cut", CUTS)
def test_landmarks_that_coincide_or_lie_outside_have_a_close_up(cut):
    frame = np.full((60, 80, 3), 90, np.uint8)
    for landmarks in (np.full((5, 2), 7, np.float32), place_face(50, 0, (-500, 900))):
        close_up, matrix = cut(frame, landmarks, SIZE)
        assert close_up.shape == (SIZE, SIZE, 3)
        assert np.isfinite(to_frame(np.zeros((5, 2)), matrix, SIZE)).all()


def test_the_edges_of_the_frame_are_repeated_in_an_upright_close_up():
    frame = cv2.resize(np.arange(60, dtype=np.uint8)[:, None, None].repeat(3, 2), (80, 60))
    close_up, _ = cut_square(frame, place_face(40, 0, (4, 4)), SIZE)
    assert (close_up[0] == frame[0, 0]).all()
    assert (close_up[:, 0] == close_up[:, 10]).all()
