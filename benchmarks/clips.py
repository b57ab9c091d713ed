"""Sharp clips for the evaluation: found in a folder, with their faces aligned once and degraded on request."""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from keep_hf import FaceDetector, KeepPipeline, YuNet
from keep_hf.degrade import LEVELS as DEGRADATIONS
from keep_hf.degrade import Degradation, degrade_frames
from keep_hf.faces.alignment import TEMPLATE_SIZE, crop_face, estimate_alignment
from keep_hf.faces.follower import FaceFollower
from keep_hf.video.media_files import contains_images, is_video
from keep_hf.video.open import open_video


# At the level none, the clip is not degraded.
LEVELS: dict[str, Degradation | None] = {"none": None, **DEGRADATIONS}


@dataclass(frozen=True)
class DegradedClip:
    """The input of a method.

    Args:
        name (`str`): Name of the clip.
        level (`str`): Level of the degradation.
        frames (`np.ndarray` of shape `(t, h, w, 3)`): Degraded aligned faces, RGB, uint8; those of the level none
            are the truth.
        frame_rate (`float`): Frames per second.
    """

    name: str
    level: str
    frames: np.ndarray
    frame_rate: float


class Clip:
    """A sharp clip, which is read when it is needed.

    Args:
        path (`Path`): Video, or folder of images.
        detector ([`FaceDetector`] or [`YuNet`], *optional*): Detector of the face; `None` for aligned clips.
        cache (`Path`): Folder for aligned faces. Each detector needs a folder of its own, because the alignment
            depends on it.
        frames (`int`, *optional*): Number of frames from the start of the clip; all by default.
        seed (`int`, *optional*, defaults to 0): Seed of the degradation.
        frame_rate (`float`, *optional*, defaults to 25): Frames per second of a folder of images.
    """

    def __init__(
        self,
        path: Path,
        detector: FaceDetector | YuNet | None,
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
        """Aligned faces `(t, size, size, 3)`, RGB, uint8; of 512 pixels unless the clip is aligned already."""
        if self.detector is None:
            return np.stack(self._read())
        cached = self.cache / f"{self.name}_{self.frames or 'all'}.npy"
        if not cached.exists():
            cached.parent.mkdir(parents=True, exist_ok=True)
            part = cached.with_name(f"{cached.stem}.{os.getpid()}.part.npy")
            np.save(part, self._align_faces(self.detector))
            os.replace(part, cached)
        return np.load(cached)

    def _read(self) -> list[np.ndarray]:
        with open_video(self.path, self.assumed_frame_rate) as reader:
            return [frame.image for frame in islice(reader, self.frames)]

    def _align_faces(self, detector: FaceDetector | YuNet) -> np.ndarray:
        """Crops of the face with the longest track; frames without it are left out."""
        frames = self._read()
        tracks = FaceFollower(detector, self.frame_rate, faces="largest").tracks(frames)
        if not tracks:
            raise ValueError(f"{self.path}: no face in its {len(frames)} frames; remove it from the folder.")
        track = max(tracks, key=len)
        return np.stack(
            [
                crop_face(frames[index], estimate_alignment(points, TEMPLATE_SIZE), TEMPLATE_SIZE)
                for index, points in zip(track.frames, track.landmarks, strict=True)
            ]
        )

    def degrade(self, level: str) -> DegradedClip:
        """Degrade the aligned faces; every level uses the same seed."""
        height, width = self.truth.shape[1:3]
        if height != width:
            raise ValueError(f"{self.path}: aligned faces must be square, got {width} x {height}.")
        frames, degradation = self.truth, LEVELS[level]
        if degradation is not None:
            scaled = degradation.at_size(height)
            frames = degrade_frames(frames, scaled, seed=self.seed, frame_rate=self.frame_rate)
        return DegradedClip(self.name, level, frames, self.frame_rate)


def clip_name(path: Path) -> str:
    """Name of a clip in tables and files."""
    return path.name if path.is_dir() else path.stem


def find_clips(folder: Path, names: list[str] | None = None) -> list[Path]:
    """The videos and the folders of images that lie in a folder; those with the given names, in that order, or all."""
    if not folder.is_dir():
        raise ValueError(f"the folder {str(folder)!r} does not exist.")
    paths: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        is_clip = is_video(path) if path.is_file() else contains_images(path)
        if is_clip and paths.setdefault(clip_name(path), path) != path:
            raise ValueError(f"{path} and {paths[clip_name(path)]} have the same name: rename one of them.")
    missing = sorted(set(names or ()) - set(paths))
    if missing or not paths:
        raise ValueError(f"{folder} has no clip {', '.join(missing)}: it has {', '.join(paths) or 'no clips'}.")
    return [paths[name] for name in (names or paths)]


def resize_faces(faces: np.ndarray, size: int) -> np.ndarray:
    """Resize square faces `(t, h, w, 3)`: shrink larger ones by area, enlarge smaller ones by cubic interpolation."""
    interpolation = cv2.INTER_AREA if faces.shape[1] > size else cv2.INTER_CUBIC
    return np.stack([cv2.resize(face, (size, size), interpolation=interpolation) for face in faces])


def add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that select clips and the model that finds their faces."""
    clips = parser.add_argument_group("clips")
    clips.add_argument("--videos", type=Path, required=True, help="folder of sharp videos or folders of images")
    clips.add_argument("--clips", nargs="+", metavar="NAME", help="clips in the folder; all by default")
    clips.add_argument("--frames", type=int, help="number of frames from the start of each clip; all by default")
    clips.add_argument("--frame-rate", type=float, default=25.0, help="of folders of images")
    clips.add_argument("--aligned", action="store_true", help="the clips are aligned faces already")
    clips.add_argument("--model", default="keep-tiny", help="KEEP: built-in name, folder, Hub id or checkpoint")
    clips.add_argument("--detector", help="YuNet instead of the detector of the model: .onnx file or Hub repository")
    clips.add_argument("--cache", type=Path, default=Path("runs/evaluation_faces"), help="folder for aligned faces")
    clips.add_argument("--seed", type=int, default=0, help="of the degradation")


def clip_loader(args: argparse.Namespace, pipe: KeepPipeline) -> Callable[[Path], Clip]:
    """How the clips are read, with the detector of the arguments."""
    detector = None
    if not args.aligned:
        detector = YuNet.from_pretrained(args.detector) if args.detector else pipe.face_detector()
    # The alignment depends on the detector.
    cache = args.cache / (Path(args.detector).stem if args.detector else Path(args.model).name)
    return lambda path: Clip(path, detector, cache, args.frames, args.seed, args.frame_rate)
