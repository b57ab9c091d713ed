"""Clips of faces for the tests of the page, made of the portrait that scikit-image ships."""

from pathlib import Path

import cv2
import numpy as np
import skimage.data

from media import write_clip


FRAME_RATE = 10
SIDE = 144  # of the place of one person
ZOOM = 0.8


def write_people(path: Path, num_frames: int, num_people: int = 2) -> Path:
    """Film so many people beside each other, with a tone: the portrait, and its mirror image in less light.

    The detector is sure of both in every frame (scores from 0.90, its threshold is 0.86), however the film is encoded.
    """
    portrait = skimage.data.astronaut()
    looks = [portrait, np.uint8(portrait[:, ::-1] * 0.7)]
    images = []
    for index in range(num_frames):
        places = []
        for number, look in enumerate(looks[:num_people]):
            x, y = 4 * np.sin(0.6 * index + number), 3 * np.cos(0.4 * index)
            left = 227 if number == 0 else 511 - 227  # the middle of the face
            matrix = np.array([[ZOOM, 0, SIDE / 2 - ZOOM * left + x], [0, ZOOM, SIDE / 2 - ZOOM * 120 + y]])
            places.append(
                cv2.warpAffine(look, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
            )
        images.append(np.concatenate(places, axis=1))
    return write_clip(path, images=images, frame_rate=FRAME_RATE, audio_codec="aac")
