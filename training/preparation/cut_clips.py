"""One video -> clips of the aligned faces in it, each a `.mp4` with a `.json` beside it.

The video is read twice: first to find the people, then to cut. So a long segment can be divided into equal parts, and
what is too small or too short is never cut.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from keep_hf.faces.detector import FaceDetector
from keep_hf.faces.yunet import YuNet
from keep_hf.video.writer import Source, VideoWriter

from .face_measures import measure_sharpness, measure_turns
from .segments import Segment, cut_segments, find_segments


CRF = 8


@dataclass(frozen=True)
class Settings:
    """What becomes a clip.

    Attributes:
        faces (`str`): "all" or "largest".
        size (`int`): Side of the aligned faces in pixels.
        min_size (`float`): Smallest median of the longer side of a face's box, in pixels of the video.
        min_frames, max_frames (`int`): Length of a clip.
        min_sharpness (`float`): Smallest median of [`measure_sharpness`].
    """

    faces: str
    size: int
    min_size: float
    min_frames: int
    max_frames: int
    min_sharpness: float


@dataclass(frozen=True)
class CutClip:
    """A clip that was written, by its key (the name of its files) and its number of frames."""

    key: str
    num_frames: int


@dataclass(frozen=True)
class DroppedSegment:
    """A segment that did not become a clip.

    Attributes:
        person (`int`): Number of the person in the video.
        first_frame, last_frame (`int`): Where it is in the video.
        reason (`str`): Which of "length", "size" and "sharpness" is too small.
        value (`float`): This length, size or sharpness.
    """

    person: int
    first_frame: int
    last_frame: int
    reason: Literal["length", "size", "sharpness"]
    value: float


def cut_clips(
    reader: Source,
    name: str,
    folder: Path,
    detector: YuNet | FaceDetector,
    settings: Settings,
) -> tuple[list[CutClip], list[DroppedSegment]]:
    """Cut all clips of one video.

    Args:
        reader ([`VideoReader`], [`AnimationReader`] or [`ImageFolderReader`]): The video.
        name (`str`): Name of the video in the `.json` files.
        folder (`Path`): Where the clips are written; their names start with its name.
        detector ([`YuNet`] or [`FaceDetector`]): Finds the faces.
        settings ([`Settings`]): What becomes a clip.

    Raises:
        ValueError: If the video is damaged.
        OSError: If a clip cannot be written.
    """
    segments, clips, dropped = [], [], []

    def drop(segment: Segment, reason: Literal["length", "size", "sharpness"], value: float) -> None:
        dropped.append(DroppedSegment(segment.person, segment.first_frame, segment.last_frame, reason, value))

    for whole in find_segments(reader, detector, settings.faces):
        for segment in whole.divide(settings.max_frames):
            if len(segment) < settings.min_frames:
                drop(segment, "length", len(segment))
            elif segment.face_size < settings.min_size:
                drop(segment, "size", segment.face_size)
            else:
                segments.append(segment)
    for segment, crops, landmarks in cut_segments(reader, segments, settings.size):
        sharpness = float(np.median([measure_sharpness(crop) for crop in crops]))
        if sharpness < settings.min_sharpness:
            drop(segment, "sharpness", sharpness)
            continue
        key = f"{folder.name}-p{segment.person:03d}-f{segment.first_frame:06d}"
        side, frame_rate = settings.size, reader.frame_rate
        with VideoWriter(folder / f"{key}.mp4", width=side, height=side, frame_rate=frame_rate, crf=CRF) as writer:
            for crop in crops:
                writer.write(crop)
        metadata = {
            "source": name,
            "person": segment.person,
            "scene": segment.scene,
            "first_frame": segment.first_frame,
            "last_frame": segment.last_frame,
            "frame_rate": float(frame_rate),
            "num_frames": len(crops),
            "face_size": {"median": round(segment.face_size, 2), "min": round(min(segment.sizes), 2)},
            "sharpness": round(sharpness, 5),
            "turn": summarize(measure_turns(landmarks)),
            "landmarks": landmarks.round(2).tolist(),
        }
        (folder / f"{key}.json").write_text(json.dumps(metadata))
        clips.append(CutClip(key, len(crops)))
    return clips, dropped


def summarize(values: np.ndarray) -> dict[str, float]:
    return {name: round(float(f(values)), 3) for name, f in (("min", np.min), ("median", np.median), ("max", np.max))}
