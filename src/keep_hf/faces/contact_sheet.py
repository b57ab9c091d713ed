"""A contact sheet: one portrait of every person in a video with their number, to choose from."""

from collections.abc import Iterable

import cv2
import numpy as np

from .alignment import crop_face, estimate_alignment
from .tracking.tracks import FaceTrack


PORTRAIT_SIZE = 160  # pixels
NUM_COLUMNS = 6


def draw_people(images: Iterable[np.ndarray], tracks: list[FaceTrack]) -> np.ndarray:
    """Draw a portrait of each person, from the frame where the face is large and clearly detected.

    Args:
        images (`Iterable[np.ndarray]`, each of shape `(h, w, 3)`):
            The frames of the video in order, RGB, uint8; read no further than needed.
        tracks (`list[FaceTrack]`):
            From [`KeepPipeline.follow`].

    Returns:
        `np.ndarray` of shape `(160 * rows, 160 * columns, 3)`, uint8: RGB portraits with the numbers of the people, at
        most six in a row, in the order of the tracks.
    """
    waiting: dict[int, list[tuple[int, np.ndarray]]] = {}  # by frame: position in the sheet, and landmarks
    for position, track in enumerate(tracks):
        sizes = (track.boxes[:, 2:] - track.boxes[:, :2]).max(axis=1)
        best = int((sizes * track.scores).argmax())
        waiting.setdefault(int(track.frames[best]), []).append((position, track.landmarks[best]))
    num_rows, num_columns = max(-(-len(tracks) // NUM_COLUMNS), 1), min(max(len(tracks), 1), NUM_COLUMNS)
    sheet = np.full((num_rows * PORTRAIT_SIZE, num_columns * PORTRAIT_SIZE, 3), 255, np.uint8)
    for index, image in enumerate(images):
        for position, landmarks in waiting.pop(index, []):
            top, left = position // NUM_COLUMNS * PORTRAIT_SIZE, position % NUM_COLUMNS * PORTRAIT_SIZE
            portrait = _draw_portrait(image, landmarks, str(tracks[position].track_id))
            sheet[top : top + PORTRAIT_SIZE, left : left + PORTRAIT_SIZE] = portrait
        if not waiting:
            break
    return sheet


def _draw_portrait(image: np.ndarray, landmarks: np.ndarray, text: str) -> np.ndarray:
    portrait = crop_face(image, estimate_alignment(landmarks, PORTRAIT_SIZE), PORTRAIT_SIZE)
    corner, font = (6, PORTRAIT_SIZE - 8), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(portrait, text, corner, font, 1.0, (0, 0, 0), 6, cv2.LINE_AA)
    cv2.putText(portrait, text, corner, font, 1.0, (255, 255, 255), 2, cv2.LINE_AA)
    return portrait
