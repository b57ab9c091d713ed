"""Sharp clips to evaluate with: found in a folder, their faces cut and aligned once, degraded when asked for."""

import os
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keep_hf.degrade import LEVELS, degrade_frames
from keep_hf.faces.alignment import TEMPLATE_SIZE, crop_face, estimate_alignment
from keep_hf.faces.follower import FaceFollower
from keep_hf.video.media_files import contains_images, is_video
from keep_hf.video.open import open_video

from .methods import DegradedClip


class Clip:
    """A sharp clip, read when it is needed.

    Args:
        path (`Path`): Video, or folder of pictures.
        detector ([`FaceDetector`] or [`YuNet`], *optional*): Finds the face; `None` for aligned clips.
        cache (`Path`): Folder for the faces that were cut. What was cut depends on who found the face, so it must be
            one for each detector.
        frames (`int`, *optional*): First frames that are taken; all if left out.
        seed (`int`, *optional*, defaults to 0): Of the degradation.
        frame_rate (`float`, *optional*, defaults to 25): Of a folder of pictures.
    """

    def __init__(
        self,
        path: Path,
        detector: Any,
        cache: Path,
        frames: int | None = None,
        seed: int = 0,
        frame_rate: float = 25.0,
    ) -> None:
        self.path, self.detector, self.cache, self.frames = path, detector, cache, frames
        self.seed, self.assumed_frame_rate = seed, frame_rate
        self.name = clip_name(path)

    @cached_property
    def frame_rate(self) -> float:
        with open_video(self.path, self.assumed_frame_rate) as reader:
            return float(reader.frame_rate)

    @cached_property
    def truth(self) -> np.ndarray:
        """Aligned faces `(t, size, size, 3)`, of 512 pixels unless others have cut them."""
        if self.detector is None:
            return np.stack(self._read())
        kept = self.cache / f"{self.name}_{self.frames or 'all'}.npy"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_name(f"{kept.stem}.{os.getpid()}.part.npy")
            np.save(part, self._cut_faces())
            os.replace(part, kept)
        return np.load(kept)

    def _read(self) -> list[np.ndarray]:
        with open_video(self.path, self.assumed_frame_rate) as reader:
            return [frame.image for frame in islice(reader, self.frames)]

    def _cut_faces(self) -> np.ndarray:
        """The face that is there the longest; fewer frames where it is not seen in all."""
        frames = self._read()
        tracks = FaceFollower(self.detector, self.frame_rate, faces="largest").tracks(frames)
        if not tracks:
            raise ValueError(f"{self.path}: no face in its {len(frames)} frames; take it out of the folder.")
        track = max(tracks, key=len)
        return np.stack(
            [
                crop_face(frames[index], estimate_alignment(points, TEMPLATE_SIZE), TEMPLATE_SIZE)
                for index, points in zip(track.frames, track.landmarks, strict=True)
            ]
        )

    def degrade(self, level: str) -> DegradedClip:
        height, width = self.truth.shape[1:3]
        if height != width:
            raise ValueError(f"{self.path}: aligned faces are square, not {width} x {height}.")
        degradation = LEVELS[level].at_size(height)
        frames = degrade_frames(self.truth, degradation, seed=self.seed, frame_rate=self.frame_rate)
        return DegradedClip(self.name, level, frames, self.frame_rate)


def clip_name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def find_clips(folder: Path, names: list[str] | None) -> list[Path]:
    """The videos and the folders of pictures of a folder, by name."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r}.")
    paths: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        is_clip = is_video(path) if path.is_file() else contains_images(path)
        if is_clip and paths.setdefault(clip_name(path), path) != path:
            raise ValueError(f"{path} and {paths[clip_name(path)]} have one name: rename one of them.")
    missing = sorted(set(names or ()) - set(paths))
    if missing or not paths:
        raise ValueError(f"{folder} has no clip {', '.join(missing)}: it has {', '.join(paths) or 'none at all'}.")
    return [paths[name] for name in (names or paths)]


def fit(faces: np.ndarray, size: int) -> np.ndarray:
    """Bring faces `(t, h, w, 3)` to the size of the comparison."""
    interpolation = cv2.INTER_AREA if faces.shape[1] > size else cv2.INTER_CUBIC
    return np.stack([cv2.resize(face, (size, size), interpolation=interpolation) for face in faces])
