"""Videos as a user has them, file in and file out, and the largest face in them at the size it has there.

Unlike clips.py, which aligns the faces first, this leaves detection, tracking, pasting and encoding to the pipeline.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from keep_hf import FaceDetector, KeepPipeline, YuNet
from keep_hf.degrade import Degradation, degrade_video
from keep_hf.faces.alignment import TEMPLATE_SIZE, crop_face, estimate_alignment
from keep_hf.faces.follower import FaceFollower
from keep_hf.options import RestorationOptions
from keep_hf.version import __version__
from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter


# Nearly lossless: a part that is cut out must not lose sharpness.
PART_CRF = 4


@dataclass(frozen=True)
class FacePlaces:
    """Where the largest face of a video is.

    Args:
        size (`int`): Side of the aligned crops in pixels; a pixel of a crop is as large as a pixel of the video.
        matrices (`dict[int, np.ndarray]`): By frame in which the face is visible, the transform `(2, 3)` from the
            frame to the crop.
    """

    size: int
    matrices: dict[int, np.ndarray]


def describe_pipeline(pipe: KeepPipeline) -> str:
    """What a video that is restored with the defaults depends on, apart from the video."""
    return f"{pipe.fingerprint()}, keep_hf {__version__}, {RestorationOptions()!r}"


def cut_video(source: Path, target: Path, frames: int | None) -> None:
    """Write the first frames of a video, or all, without its sound, unless the target exists."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with VideoReader(source) as reader:
        images = (frame.image for frame in islice(reader.read(), frames))
        write_images(target, images, reader, (reader.width, reader.height), crf=PART_CRF)


def degrade_and_enlarge(truth: Path, target: Path, degradation: Degradation, seed: int) -> None:
    """Degrade a whole video and enlarge it to its old size by cubic interpolation, unless the target exists.

    The values of the degradation apply to faces of 512 pixels; a video is reduced by its `scale` whatever the size of
    its faces, as `keep-hf degrade` does.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        small = Path(folder) / "small.mp4"
        degrade_video(truth, small, degradation, seed=seed)
        with VideoReader(truth) as reader:
            size = (reader.width, reader.height)
        with VideoReader(small) as reader:
            images = (cv2.resize(frame.image, size, interpolation=cv2.INTER_CUBIC) for frame in reader.read())
            write_images(target, images, reader, size)


def write_images(
    target: Path, images: Iterator[np.ndarray], source: VideoReader, size: tuple[int, int], crf: int = 16
) -> None:
    """Write images of a size (width, height) with the frame rate of a source."""
    width, height = size
    with VideoWriter(target, width=width, height=height, frame_rate=source.frame_rate, crf=crf) as writer:
        for image in images:
            writer.write(image)


def find_largest_face(video: Path, detector: FaceDetector | YuNet) -> FacePlaces:
    """Find the face of a video that is the largest for the most frames.

    Args:
        video (`Path`): Video file.
        detector ([`FaceDetector`] or [`YuNet`]): Detector.

    Raises:
        ValueError: If the video shows no face.
    """
    with VideoReader(video) as reader:
        follower = FaceFollower(detector, float(reader.frame_rate), faces="largest")
        tracks = follower.tracks(frame.image for frame in reader.read())
    if not tracks:
        raise ValueError(f"{video}: the detector finds no face; leave out this video or pass another detector.")
    track = max(tracks, key=len)
    aligned = [estimate_alignment(landmarks) for landmarks in track.landmarks]
    scale = float(np.median([np.hypot(matrix[0, 0], matrix[1, 0]) for matrix in aligned]))
    size = max(round(TEMPLATE_SIZE / scale), 1)
    matrices = [matrix * (size / TEMPLATE_SIZE) for matrix in aligned]
    return FacePlaces(size, dict(zip((int(index) for index in track.frames), matrices, strict=True)))


def crop_faces(video: str | os.PathLike, places: FacePlaces) -> np.ndarray:
    """Cut the faces at known places out of a video of the same size.

    Returns:
        `np.ndarray` of shape `(t, size, size, 3)`, RGB, uint8: one crop per frame with the face.

    Raises:
        ValueError: If the video ends before the last of these frames.
    """
    crops = []
    with VideoReader(video) as reader:
        for index, frame in enumerate(reader.read()):
            if index in places.matrices:
                crops.append(crop_face(frame.image, places.matrices[index], places.size))
    if len(crops) < len(places.matrices):
        raise ValueError(f"{video} ends before frame {max(places.matrices)}, the last one with the face.")
    return np.stack(crops)
