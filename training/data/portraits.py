"""Portraits with landmarks: images named in a `metadata.jsonl`."""

import json
from pathlib import Path

import numpy as np

from keep_hf.faces.alignment import crop_face, estimate_alignment

from .images import read_image


# A portrait is cut larger than the face by this factor, so that the crop can move.
MARGIN = 1.25


def read_portraits(path: Path) -> list[tuple[Path, np.ndarray]]:
    """Read the images and landmarks `(5, 2)` that a `metadata.jsonl` names."""
    portraits = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            image, landmarks = path.parent / entry["file_name"], np.array(entry["landmarks"], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}, has no file_name and landmarks: {error}") from error
        if landmarks.shape != (5, 2) or not np.isfinite(landmarks).all():
            raise ValueError(f"{path}, line {number}: landmarks must be five points [x, y], got {landmarks.tolist()}.")
        if not image.is_file():
            raise ValueError(f"{path}, line {number}: there is no file {image}.")
        portraits.append((image, landmarks))
    return portraits


def cut_portrait(path: Path, landmarks: np.ndarray, side: int) -> np.ndarray:
    """The face and its surroundings, `(side, side, 3)` in [0, 1]. The aligned face is `side / MARGIN` wide."""
    face = round(side / MARGIN)
    matrix = estimate_alignment(landmarks, face)
    matrix[:, 2] += (side - face) / 2
    return crop_face(read_image(path), matrix, side).astype(np.float32) / 255
