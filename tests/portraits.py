"""Faces for the tests, from the portrait that scikit-image includes."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import skimage.data

from media import write_clip


FRAME_RATE = 10
SIDE = 144  # pixels for one person
ZOOM = 0.8

# The portrait without most of the background, and the eyes, nose and corners of the mouth in it.
HEAD = (slice(0, 300), slice(80, 380))
HEAD_LANDMARKS = np.array([[124.6, 101.8], [168.5, 104.4], [144.3, 125.9], [123.7, 142.4], [162.5, 144.4]])
MIRRORED_ORDER = [1, 0, 2, 4, 3]


def write_labelled_portraits(folder: Path, scales: Sequence[float]) -> Path:
    """Write the portrait at several scales, every second one mirrored, with its landmarks in a `metadata.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, scale in enumerate(scales):
        image, landmarks = skimage.data.astronaut()[HEAD], HEAD_LANDMARKS
        if i % 2:
            image = image[:, ::-1]
            landmarks = (landmarks * (-1, 1) + (image.shape[1] - 1, 0))[MIRRORED_ORDER]
        resized = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), None, fx=scale, fy=scale)
        cv2.imwrite(str(folder / f"{i}.png"), resized)
        lines.append(json.dumps({"file_name": f"{i}.png", "landmarks": (landmarks * scale).tolist()}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def write_people(path: Path, num_frames: int, num_people: int = 2) -> Path:
    """Write a video of one or two people side by side, with a tone: the portrait, and its mirror image in less light.

    The detector finds both in every frame (scores from 0.90, the threshold is 0.86), however the video is encoded.
    """
    portrait = skimage.data.astronaut()
    people = [portrait, np.uint8(portrait[:, ::-1] * 0.7)]
    images = []
    for index in range(num_frames):
        places = []
        for number, person in enumerate(people[:num_people]):
            x, y = 4 * np.sin(0.6 * index + number), 3 * np.cos(0.4 * index)
            centre = 227 if number == 0 else 511 - 227  # of the face
            matrix = np.array([[ZOOM, 0, SIDE / 2 - ZOOM * centre + x], [0, ZOOM, SIDE / 2 - ZOOM * 120 + y]])
            places.append(
                cv2.warpAffine(person, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
            )
        images.append(np.concatenate(places, axis=1))
    return write_clip(path, images=images, frame_rate=FRAME_RATE, audio_codec="aac")
