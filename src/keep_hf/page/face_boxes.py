"""Numbered boxes around the faces of one frame, from which a user selects faces."""

import cv2
import numpy as np

from ..faces.tracking.tracks import FaceTrack


def best_frame(tracks: list[FaceTrack]) -> int:
    """The number of the frame with the most detected faces; among those, the one with the largest faces."""
    detected: dict[int, tuple[int, float]] = {}
    for track in tracks:
        for frame, box, score in zip(track.frames, track.boxes, track.scores, strict=True):
            if score > 0:  # interpolated faces have score 0
                count, width = detected.get(int(frame), (0, 0.0))
                detected[int(frame)] = (count + 1, width + float(box[2] - box[0]))
    return max(detected, key=lambda frame: detected[frame])


def draw_boxes(image: np.ndarray, tracks: list[FaceTrack], index: int) -> np.ndarray:
    """Draw a box with the track number around every face of one frame.

    Args:
        image (`np.ndarray`): The frame, uint8 RGB `(h, w, 3)`.
        tracks (`list[FaceTrack]`): All tracks of the video.
        index (`int`): Number of the frame.

    Returns:
        `np.ndarray`: A new image of the same size.
    """
    image = image.copy()
    line = max(2, round(max(image.shape[:2]) / 300))
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4 * line
    for track in tracks:
        for position in np.flatnonzero(track.frames == index):
            left, top, right, bottom = (round(float(side)) for side in track.boxes[position])
            text = str(track.track_id)
            (_, text_height), _ = cv2.getTextSize(text, font, scale, line)
            # The number is inside the box: above it, it could lie outside the image.
            corner = (max(left, 0) + 2 * line, max(top, 0) + text_height + 2 * line)
            for colour, width in (((0, 0, 0), line + 3), ((255, 255, 255), line)):
                cv2.rectangle(image, (left, top), (right, bottom), colour, width, cv2.LINE_AA)
                cv2.putText(image, text, corner, font, scale, colour, width, cv2.LINE_AA)
    return image
