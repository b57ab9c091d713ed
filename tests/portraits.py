"""Clips of faces for tests of the page, from the portrait in scikit-image."""

from pathlib import Path

import cv2
import numpy as np
import skimage.data

from media import write_clip


FRAME_RATE = 10
SIDE = 144  # of the square that shows one person, in pixels
ZOOM = 0.8


def write_people(path: Path, num_frames: int, num_people: int = 2) -> Path:
    """Write a clip with people side by side and a tone: the portrait, and its darker mirror image.

    The detector finds both in every frame (scores from 0.90, its threshold is 0.86), whatever the encoding.
    """
    portrait = skimage.data.astronaut()
    variants = [portrait, np.uint8(portrait[:, ::-1] * 0.7)]
    images = []
    for index in range(num_frames):
        squares = []
        for number, variant in enumerate(variants[:num_people]):
            x, y = 4 * np.sin(0.6 * index + number), 3 * np.cos(0.4 * index)
            left = 227 if number == 0 else 511 - 227  # the middle of the face
            matrix = np.array([[ZOOM, 0, SIDE / 2 - ZOOM * left + x], [0, ZOOM, SIDE / 2 - ZOOM * 120 + y]])
            squares.append(
                cv2.warpAffine(variant, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
            )
        images.append(np.concatenate(squares, axis=1))
    return write_clip(path, images=images, frame_rate=FRAME_RATE, audio_codec="aac")
