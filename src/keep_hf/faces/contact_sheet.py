"""A picture of everybody in a video with their number, to choose from."""

from collections.abc import Iterable

import cv2
import numpy as np

from .alignment import crop_face, estimate_alignment
from .tracking.tracks import FaceTrack


PORTRAIT = 160  # side in pixels
COLUMNS = 6


def draw_people(images: Iterable[np.ndarray], tracks: list[FaceTrack]) -> np.ndarray:
    """Draw the best look at each person.

    Args:
        images (`Iterable[np.ndarray]`): The frames of the video, uint8 RGB `(h, w, 3)`.
        tracks (`list[FaceTrack]`): From [`KeepPipeline.follow`].

    Returns:
        `np.ndarray`: uint8 RGB, a portrait of 160 x 160 for each track, with its number.
    """
    wanted: dict[int, list[tuple[int, np.ndarray]]] = {}  # by frame: place in the sheet and landmarks
    for place, track in enumerate(tracks):
        sizes = (track.boxes[:, 2:] - track.boxes[:, :2]).max(axis=1)
        best = int((sizes * track.scores).argmax())
        wanted.setdefault(int(track.frames[best]), []).append((place, track.landmarks[best]))
    rows = -(-len(tracks) // COLUMNS)
    sheet = np.full((max(rows, 1) * PORTRAIT, min(max(len(tracks), 1), COLUMNS) * PORTRAIT, 3), 255, np.uint8)
    for index, image in enumerate(images):
        for place, landmarks in wanted.pop(index, []):
            portrait = crop_face(image, estimate_alignment(landmarks, PORTRAIT), PORTRAIT)
            text, where, font = str(tracks[place].track_id), (6, PORTRAIT - 8), cv2.FONT_HERSHEY_SIMPLEX
            for colour, thickness in (((0, 0, 0), 6), ((255, 255, 255), 2)):
                portrait = cv2.putText(portrait, text, where, font, 1.0, colour, thickness, cv2.LINE_AA)
            top, left = place // COLUMNS * PORTRAIT, place % COLUMNS * PORTRAIT
            sheet[top : top + PORTRAIT, left : left + PORTRAIT] = portrait
        if not wanted:
            break
    return sheet
