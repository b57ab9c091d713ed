"""Suppression of overlapping faces, and the search at two scales."""

import numpy as np

from keep_hf.faces.detection import Faces, drop_parts_of_people, search_near_and_far, suppress


def test_suppress_keeps_the_best_of_overlapping_faces():
    boxes = np.array([(0, 0, 100, 100), (5, 5, 105, 105), (40, 40, 60, 60), (90, 0, 190, 100)], np.float32)
    faces = Faces(boxes, np.zeros((4, 5, 2), np.float32), np.array([0.8, 0.9, 0.7, 0.6], np.float32))
    kept = suppress(faces)
    np.testing.assert_allclose(kept.scores, [0.9, 0.6])
    np.testing.assert_allclose(kept.boxes, boxes[[1, 3]])
    assert len(suppress(faces[np.zeros(4, bool)])) == 0


def test_an_uncertain_small_face_beside_a_large_one_is_a_part_of_that_person():
    large, ear, far, child = (100, 100, 300, 300), (80, 180, 120, 220), (500, 180, 540, 220), (60, 150, 160, 250)
    boxes = np.array([large, ear, ear, far, child], np.float32)
    scores = np.array([0.99, 0.97, 0.985, 0.93, 0.93], np.float32)
    kept = drop_parts_of_people(Faces(boxes, np.zeros((5, 5, 2), np.float32), scores))
    np.testing.assert_array_equal(kept.boxes, boxes[[0, 2, 3, 4]])


def test_faces_of_the_small_and_the_large_copy_are_joined():
    """The search returns the bounds of the bright pixels: they are in pixels of the frame at both scales."""
    sizes = []

    def search(images):
        sizes.append([image.shape[:2] for image in images])
        found = []
        for image in images:
            rows, columns = np.nonzero(image[..., 0] > 127)
            box = np.array(
                [[columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]], np.float32
            )
            found.append(Faces(box, np.repeat(box[:, None, :2], 5, axis=1), np.ones(1, np.float32)))
        return found

    frame = np.zeros((400, 1600, 3), np.uint8)
    frame[80:160, 320:480] = 255
    near, far = search_near_and_far(
        [frame[:100, :200].copy() + 200, frame], search, near_sides=(320, 400), far_side=800
    )
    assert sizes == [[(160, 320), (100, 400)], [(200, 800)]]
    np.testing.assert_allclose(near.boxes, [(-0.5, -0.5, 199.5, 99.5)], atol=1e-4)
    np.testing.assert_allclose(far.boxes, [(319.5, 79.5, 479.5, 159.5)], atol=1e-4)
