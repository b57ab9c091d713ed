"""Whole inputs that the cases damage: small videos, image folders and a pipeline, made once."""

import contextlib
import functools
import hashlib
import itertools
import shutil
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import torch
from PIL import Image

from conftest import SIZE, make_clip, make_components
from damaged import move_index_to_front
from keep_hf import FaceDetector, KeepPipeline
from keep_hf.models.recursion import KalmanRecursion
from keep_hf.video.part_folder import part_path
from media import write_clip


NUM_FRAMES = 8
# Frames between two points from which a run can be resumed
SEGMENT = 5
ENCODINGS = {
    "avi": ("mpeg4", "mp3"),
    "flv": ("flv1", "mp3"),
    "mkv": ("libx264", "aac"),
    "mov": ("libx264", "aac"),
    "mp4": ("libx264", "aac"),
    "mpg": ("mpeg2video", "mp2"),
    "ts": ("libx264", "aac"),
    "webm": ("libvpx-vp9", "libopus"),
    "wmv": ("wmv2", "wmav2"),
}


class Samples:
    """Whole inputs.

    Args:
        folder (`Path`): Where they are made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @functools.cached_property
    def images(self) -> list[np.ndarray]:
        """The frames of all videos, RGB, `(64, 64, 3)`."""
        return list(make_clip(NUM_FRAMES, SIZE, SIZE))

    @functools.cache  # noqa: B019  # lives as long as the tests
    def video(self, kind: str) -> Path:
        """A video with sound; its suffix is the kind, or "fast.mp4", "gif", "png", "webp", "h264", "y4m"."""
        path = self.folder / f"whole.{kind}"
        if kind == "fast.mp4":
            return move_index_to_front(self.video("mp4"), path)
        if kind in ("gif", "png", "webp"):
            frames = [Image.fromarray(image) for image in self.images]
            frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
            return path
        if kind == "h264":
            return write_clip(path, images=self.images, container_format="h264")
        if kind == "y4m":
            planes = [cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).tobytes() for image in self.images]
            path.write_bytes(
                f"YUV4MPEG2 W{SIZE} H{SIZE} F25:1 C420\n".encode() + b"".join(b"FRAME\n" + p for p in planes)
            )
            return path
        codec, audio = ENCODINGS[kind]
        return write_clip(path, images=self.images, codec=codec, audio_codec=audio)

    def read(self, kind: str) -> bytes:
        """The content of `video(kind)`."""
        return self.video(kind).read_bytes()

    @functools.cached_property
    def model(self) -> Path:
        """A folder with a pipeline of small networks, whose detector finds no faces."""
        folder = self.folder / "model"
        torch.manual_seed(0)
        detector = FaceDetector(block_out_channels=(4, 4, 8, 8, 8), neck_channels=8, close_up_channels=(4, 4, 8, 8))
        KeepPipeline(**make_components(), detector=detector, gain_window=4).save_pretrained(folder)
        return folder

    @functools.cached_property
    def long_video(self) -> Path:
        """A video of 40 frames without sound."""
        return write_clip(self.folder / "long.mp4", images=list(make_clip(40, SIZE, SIZE)))

    @functools.cached_property
    def unfinished(self) -> Path:
        """The folder with the work of a restoration of `long_video` that was interrupted after three segments."""
        target = self.folder / "unfinished.mp4"
        step, calls = KalmanRecursion.step, itertools.count()

        def interrupted(*args: object, **options: object) -> object:
            if next(calls) == 20:
                raise KeyboardInterrupt
            return step(*args, **options)

        with mock.patch.object(KalmanRecursion, "step", interrupted), contextlib.suppress(KeyboardInterrupt):
            self._pipe().restore_video(self.long_video, target, aligned=True, segment_frames=SEGMENT)
        return part_path(target)

    @functools.cached_property
    def results(self) -> set[str]:
        """SHA-256 of the result of `long_video`, in segments from the beginning, or in one segment."""
        found = set()
        for segment_frames in (SEGMENT, 250):
            target = self.folder / f"result{segment_frames}.mp4"
            self._pipe().restore_video(self.long_video, target, aligned=True, segment_frames=segment_frames)
            found.add(hashlib.sha256(target.read_bytes()).hexdigest())
        return found

    def _pipe(self) -> KeepPipeline:
        pipe = KeepPipeline.from_pretrained(self.model)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def copy_model(self, target: Path) -> Path:
        """A copy of `model` to damage."""
        return Path(shutil.copytree(self.model, target))

    def restore(self, source: Path, *options: object) -> list[str]:
        """The arguments of a command that restores the faces of a file to `out.mp4` beside it."""
        return self.restore_to(source, source.parent / "out.mp4", *options)

    def restore_to(self, source: Path, target: Path, *options: object) -> list[str]:
        """The arguments of a command that restores the faces of a file."""
        words = ["restore", source, target, "--model", self.model, "--device", "cpu", "--aligned", *options]
        return [str(word) for word in words]
