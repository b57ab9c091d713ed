"""The people of a clip as pictures, to choose from: one frame with boxes and numbers."""

import cv2
import numpy as np

from ..faces.tracking.tracks import FaceTrack


def best_frame(tracks: list[FaceTrack]) -> int:
    """The frame in which most people are seen; of those, where the faces are largest."""
    seen: dict[int, tuple[int, float]] = {}
    for track in tracks:
        for frame, box, score in zip(track.frames, track.boxes, track.scores, strict=True):
            if score > 0:  # not one that was filled in
                number, size = seen.get(int(frame), (0, 0.0))
                seen[int(frame)] = (number + 1, size + float(box[2] - box[0]))
    return max(seen, key=lambda frame: seen[frame])


def draw_boxes(image: np.ndarray, tracks: list[FaceTrack], index: int) -> np.ndarray:
    """Draw a box and a number around everybody in frame `index`.

    Args:
        image (`np.ndarray`): That frame, uint8 RGB `(h, w, 3)`.
        tracks (`list[FaceTrack]`): Everybody.
        index (`int`): Which frame it is.

    Returns:
        `np.ndarray`: a new picture of the same size.
    """
    image = image.copy()
    line = max(2, round(max(image.shape[:2]) / 300))
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4 * line
    for track in tracks:
        for place in np.flatnonzero(track.frames == index):
            left, top, right, bottom = (round(float(side)) for side in track.boxes[place])
            text = str(track.track_id)
            (_, tall), _ = cv2.getTextSize(text, font, scale, line)
            # The number inside the box, in its corner: above it, it could lie outside of the picture.
            corner = (max(left, 0) + 2 * line, max(top, 0) + tall + 2 * line)
            for colour, width in (((0, 0, 0), line + 3), ((255, 255, 255), line)):
                cv2.rectangle(image, (left, top), (right, bottom), colour, width, cv2.LINE_AA)
                cv2.putText(image, text, corner, font, scale, colour, width, cv2.LINE_AA)
    return image
