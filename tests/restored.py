"""Faces in known places of frames of 168 x 112, and restored videos as arrays."""

from pathlib import Path

import numpy as np

from conftest import SIZE, make_clip, make_faces
from keep_hf import KeepPipeline
from media import write_clip


ONE = make_faces((40, 24, SIZE))
TWO = make_faces((8, 16, SIZE), (96, 40, SIZE))
NO_FACES = make_faces()


def to_uint8(video: np.ndarray) -> np.ndarray:
    """The output of a pipeline, float `(1, t, h, w, 3)`, as uint8 `(t, h, w, 3)`."""
    return np.rint(video[0] * 255).astype(np.uint8)


def restore(pipe: KeepPipeline, video, **options) -> np.ndarray:
    """Restored frames, uint8 `(t, h, w, 3)`; at full strength by default."""
    options = {"strength": 1.0} | options
    return to_uint8(pipe(video, output_type="np", **options).frames)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which pixels differ in any channel."""
    return (before != after).any(axis=-1)


def make_source(path: Path, num_frames: int = 9, **options) -> Path:
    """A video file with sound."""
    return write_clip(path, images=list(make_clip(num_frames, 168, 112)), audio_codec="aac", **options)


class Identity:
    """Stands in for a face recognition network: the cosine of the pixels."""

    def embed(self, faces: list[np.ndarray]) -> np.ndarray:
        rows = np.stack(faces).reshape(len(faces), -1).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
