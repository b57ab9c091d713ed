"""The appearance of a face, by which the tracker recognizes people."""

import numpy as np

from keep_hf.faces.tracking.appearance import compute_appearance
from patterned_people import draw_frame, faces_at


def test_appearance_does_not_depend_on_brightness():
    image = draw_frame({0: (200, 200)})
    landmarks = faces_at((200, 200)).landmarks[0]
    appearance = compute_appearance(image, landmarks)
    np.testing.assert_allclose(np.linalg.norm(appearance), 1, atol=1e-6)
    assert appearance @ compute_appearance((0.8 * image).astype(np.uint8), landmarks) > 0.95
    assert appearance @ compute_appearance(draw_frame({1: (200, 200)}), landmarks) < 0.6
