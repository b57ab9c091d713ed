"""Whole videos: parts of them, degraded and enlarged to their size, and the face in them at its own size."""

import numpy as np
import pytest

from benchmarks.whole_videos import crop_faces, cut_video, degrade_and_enlarge, find_largest_face
from conftest import KnownFaces, make_clip, make_faces
from keep_hf.degrade import LEVELS
from keep_hf.evaluation.metrics import psnr
from keep_hf.video.reader import VideoReader
from media import write_lossless


FRAMES, WIDTH, HEIGHT = 6, 160, 120


@pytest.fixture
def clip(tmp_path):
    return write_lossless(tmp_path / "clip.mkv", make_clip(FRAMES, WIDTH, HEIGHT))


def read(path):
    with VideoReader(path) as reader:
        return [frame.image for frame in reader.read()]


def test_a_part_is_nearly_lossless(clip, tmp_path):
    cut_video(clip, tmp_path / "part/truth.mp4", 4)
    part = read(tmp_path / "part/truth.mp4")
    assert len(part) == 4
    # Noise of this strength in each colour is what 4:2:0 keeps least.
    luma = [np.dot(image, (0.2126, 0.7152, 0.0722)) for image in (part[3], read(clip)[3])]
    assert np.abs(luma[0] - luma[1]).mean() < 4


def test_degraded_videos_have_the_old_size_and_length(clip, tmp_path):
    degrade_and_enlarge(clip, tmp_path / "mild.mp4", LEVELS["mild"], seed=0)
    degrade_and_enlarge(clip, tmp_path / "heavy.mp4", LEVELS["heavy"], seed=0)
    sharp, mild, heavy = (read(path) for path in (clip, tmp_path / "mild.mp4", tmp_path / "heavy.mp4"))
    assert len(mild) == len(heavy) == FRAMES
    assert mild[0].shape == (HEIGHT, WIDTH, 3)
    assert psnr(heavy[2], sharp[2]) < psnr(mild[2], sharp[2]) < 35


def test_crops_follow_the_face_at_its_size(clip):
    detector = KnownFaces([make_faces((30 + 2 * index, 20, 50)) for index in range(FRAMES)])
    places = find_largest_face(clip, detector)
    assert list(places.matrices) == list(range(FRAMES))
    scales = [np.hypot(matrix[0, 0], matrix[1, 0]) for matrix in places.matrices.values()]
    assert scales == pytest.approx([1] * FRAMES, abs=0.02)
    crops = crop_faces(clip, places)
    assert crops.shape == (FRAMES, places.size, places.size, 3)
    # The crop is a part of the frame, moved by the translation of the matrix.
    left, top = -np.rint(places.matrices[3][:, 2]).astype(int)
    y, x = places.size // 2, places.size // 2
    part = read(clip)[3][top + y - 8 : top + y + 8, left + x - 8 : left + x + 8]
    moved = crops[3][y - 8 : y + 8, x - 8 : x + 8]
    assert np.abs(part.mean((0, 1)) - moved.mean((0, 1))).max() < 6


def test_videos_without_a_face_or_too_short_are_refused(clip, tmp_path):
    empty = KnownFaces([make_faces()] * FRAMES)
    with pytest.raises(ValueError, match="finds no face"):
        find_largest_face(clip, empty)
    places = find_largest_face(clip, KnownFaces([make_faces((30, 20, 50))] * FRAMES))
    cut_video(clip, tmp_path / "short.mp4", 3)
    with pytest.raises(ValueError, match="ends before frame 5"):
        crop_faces(tmp_path / "short.mp4", places)
