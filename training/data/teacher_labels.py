"""Portraits labelled by another face detector, the teacher."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from keep_hf.drawn_people import draw_person
from keep_hf.faces.detector import FaceDetector
from keep_hf.faces.detector_parts.close_ups import MIRRORED_ORDER
from keep_hf.faces.yunet import YuNet
from keep_hf.video.media_files import is_image, is_video
from keep_hf.video.reader import VideoReader

from .images import read_image


# Sides of the images in which the teacher searches, in pixels.
TEACHER_SIDES = (320, 400, 480)
MAX_SIDE = 400
NUM_DRAWN, REPEATED = 3, 12  # colours of the drawn people, and copies of each: they are few among all portraits


@dataclass(frozen=True)
class Portrait:
    """An image with one face.

    Attributes:
        image (`np.ndarray` of shape `(h, w, 3)`): uint8, RGB.
        box (`np.ndarray` of shape `(4,)`): Left, top, right and bottom in pixels of the image.
        landmarks (`np.ndarray` of shape `(5, 2)`): Eyes, nose and corners of the mouth in pixels of the image.
    """

    image: np.ndarray
    box: np.ndarray
    landmarks: np.ndarray

    def mirrored(self) -> "Portrait":
        last = self.image.shape[1] - 1
        left, top, right, bottom = self.box
        return Portrait(
            cv2.flip(self.image, 1),
            np.array([last - right, top, last - left, bottom]),
            (self.landmarks * (-1, 1) + (last, 0))[MIRRORED_ORDER],
        )


def label_portraits(sources: list[str], teacher: YuNet | FaceDetector, frames_per_video: int) -> list[Portrait]:
    """Label the images and video frames in folders; those without exactly one face are left out.

    Args:
        sources (`list[str]`): Folders, searched at any depth.
        teacher ([`YuNet`] or [`FaceDetector`]): Finds the faces.
        frames_per_video (`int`): About as many frames of a video are used, at equal distances.

    Returns:
        `list[Portrait]`: in the order of their paths, at most 400 pixels wide and high.

    Raises:
        ValueError: If a folder has nothing to label, no portrait is found, or a file cannot be read.
    """
    for source in sources:
        if not any(is_image(path) or is_video(path) for path in Path(source).rglob("*")):
            raise ValueError(f"{source} has no images or videos to label; shards of clips (.tar) are not read.")
    portraits = []
    for image in _read_images(sources, frames_per_video):
        portrait = label(_shrink(image, MAX_SIDE), teacher)
        if portrait is not None:
            portraits.append(portrait)
    if not portraits:
        raise ValueError(f"The teacher found no image or video frame with exactly one face in {', '.join(sources)}.")
    return portraits


def label_all(sources: list[str], teacher: YuNet | FaceDetector, frames_per_video: int) -> list[Portrait]:
    """Label what a detector learns from: the portraits in folders (see `label_portraits`), and drawn people."""
    portraits = label_portraits(sources, teacher, frames_per_video) + label_drawn_people(teacher)
    print(f"{len(portraits)} portraits labelled by the teacher", flush=True)
    return portraits


def label_drawn_people(teacher: YuNet | FaceDetector) -> list[Portrait]:
    """Label the drawn people of `keep_hf.drawn_people`, the only drawings in which the detector should find a face."""
    portraits = [label(draw_person(MAX_SIDE, number), teacher) for number in range(NUM_DRAWN)]
    return [portrait for portrait in portraits if portrait is not None] * REPEATED


def label(image: np.ndarray, teacher: YuNet | FaceDetector) -> Portrait | None:
    """Label an image with the medians of six detections: at three sizes, each also mirrored.

    Returns:
        `Portrait`, *optional*: `None` if any detection does not find exactly one face.
    """
    boxes, landmarks = [], []
    for side in TEACHER_SIDES:
        scale = side / max(image.shape[:2])
        resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        mirrored = np.ascontiguousarray(resized[:, ::-1])
        faces, mirrored_faces = teacher.detect([resized, mirrored])
        if len(faces) != 1 or len(mirrored_faces) != 1:
            return None
        found = Portrait(resized, faces.boxes[0], faces.landmarks[0])
        mirrored_found = Portrait(mirrored, mirrored_faces.boxes[0], mirrored_faces.landmarks[0])
        for each in (found, mirrored_found.mirrored()):
            boxes.append((each.box + 0.5) / scale - 0.5)
            landmarks.append((each.landmarks + 0.5) / scale - 0.5)
    return Portrait(image, np.median(boxes, axis=0), np.median(landmarks, axis=0))


def _read_images(sources: list[str], frames_per_video: int) -> Iterator[np.ndarray]:
    for path in sorted(path for source in sources for path in Path(source).rglob("*")):
        if is_image(path):
            yield read_image(path)
        elif is_video(path):
            with VideoReader(path) as reader:
                num_frames = reader.num_frames or sum(1 for _ in reader)
                interval = max(num_frames // frames_per_video, 1)
                for index, frame in enumerate(reader.read()):
                    if index % interval == 0:
                        yield frame.image


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    scale = min(side / max(image.shape[:2]), 1)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
