"""Training data: faces aligned to the FFHQ template, as single images or clips, sharp and degraded.

A source is a folder or a dataset on the Hub. A folder may contain, at any depth and mixed,

- videos of aligned faces, or shards of them (`.tar`, written by `training.prepare_data`);
- portraits with a `metadata.jsonl` beside them, which has one line per image: `{"file_name": ..., "landmarks":
  [[x, y] * 5]}` (left eye, right eye, nose, left and right corner of the mouth, as the viewer sees them). A clip is
  generated from a portrait by a smooth random motion, and `augment.py` turns a few people into many.

A dataset on the Hub has a column of videos of aligned faces, named `mp4` or `video`.

All random numbers depend only on (seed, epoch, index), so that a resumed run sees the same data as an uninterrupted
one.
"""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from datasets import Dataset, Video, load_dataset

from keep_hf.degrade import Degradation, degrade_frames
from keep_hf.faces.alignment import crop_face
from keep_hf.video.media_files import find_videos
from keep_hf.video.pixels import to_tensor
from keep_hf.video.reader import VideoReader

from ..loop.stage import Batch, TrainingSet
from . import augment
from .portraits import MARGIN, cut_portrait, read_portraits
from .stored_video import StoredVideo, open_row


VIDEO_COLUMNS = ("mp4", "video")


class FaceClips(TrainingSet):
    """Clips of aligned faces.

    Args:
        sources (`list[str]`): Folders and datasets, see above.
        size (`int`): Side of the faces in pixels.
        clip_length (`int`): Frames per clip; 1 gives single images.
        degradation ([`Degradation`], *optional*): For faces of 512 pixels; with `None` there are no degraded clips.
        seed (`int`, *optional*, defaults to 0): Seed of all random numbers.
        augmented (`bool`, *optional*, defaults to `True`): Whether to change shapes, light and colours.
        clips_per_video (`int`, *optional*, defaults to 12): Clips of a video per epoch; a portrait gives one.
        max_interval (`int`, *optional*, defaults to 6): Largest distance of consecutive frames of a clip, in frames of
            the video.
        memory (`float`, *optional*, defaults to 4): Videos up to this size in total, in GiB, are kept decoded. From
            the others, each clip is decoded when it is needed.

    Each item is a dict of float tensors `(t, 3, size, size)` in [-1, 1]: `sharp` and, with a degradation, `degraded`.

    Raises:
        ValueError: If a source is missing or has nothing to train on, if a portrait or its line is damaged, or if a
            video is shorter than a clip.
    """

    def __init__(
        self,
        sources: list[str],
        size: int,
        clip_length: int,
        degradation: Degradation | None,
        seed: int = 0,
        augmented: bool = True,
        clips_per_video: int = 12,
        max_interval: int = 6,
        memory: float = 4.0,
    ) -> None:
        self.size, self.clip_length, self.seed = size, clip_length, seed
        self.degradation = None if degradation is None else degradation.at_size(size)
        self.augmented, self.max_interval = augmented, max_interval
        self.portraits: list[tuple[Path, np.ndarray]] = []
        self.videos: list[StoredVideo] = []
        for source in sources:
            self._open_folder(Path(source)) if Path(source).is_dir() else self._open_dataset(source)
        # The index of the video, for each item that is not a portrait.
        self.video_items = [i for i in range(len(self.videos)) for _ in range(clips_per_video)]
        if not self.portraits and not self.videos:
            raise ValueError(f"Nothing to train on in {sources}: no metadata.jsonl with portraits and no videos.")
        self._check_length()
        left = int(memory * 2**30 / (3 * size**2))  # frames
        for video in self.videos:
            if video.num_frames <= left:
                video.keep(size)
                left -= video.num_frames

    def _open_folder(self, folder: Path) -> None:
        for path in sorted(folder.rglob("metadata.jsonl")):
            self.portraits += read_portraits(path)
        for path in find_videos(folder):
            self.videos.append(StoredVideo(str(path), partial(VideoReader, path)))
        shards = sorted(str(path) for path in folder.rglob("*.tar"))
        if shards:
            self._open_rows(str(folder), load_dataset("webdataset", data_files={"train": shards}, split="train"))

    def _open_dataset(self, name: str) -> None:
        try:
            rows = load_dataset(name, split="train")
        except (OSError, ValueError) as error:
            raise ValueError(
                f"There is no folder {name} to train on, and no such dataset on the Hub: {error}"
            ) from error
        self._open_rows(name, rows)

    def _open_rows(self, name: str, rows: Dataset) -> None:
        column = next((column for column in VIDEO_COLUMNS if column in rows.column_names), None)
        if column is None:
            raise ValueError(
                f"{name} has no column of videos ({' or '.join(VIDEO_COLUMNS)}); its columns are {rows.column_names}."
            )
        rows = rows.select_columns([column]).cast_column(column, Video(decode=False))
        for i in range(len(rows)):
            self.videos.append(StoredVideo(f"{name}, row {i}", partial(open_row, rows, i, column)))

    def _check_length(self) -> None:
        for video in self.videos:
            if video.num_frames < self.clip_length:
                raise ValueError(
                    f"{video.name} has {video.num_frames} frames; clips of {self.clip_length} need a longer one."
                )

    def __len__(self) -> int:
        return len(self.portraits) + len(self.video_items)

    def __getitem__(self, index: int) -> Batch:
        random = np.random.default_rng((self.seed, self.epoch, index))
        if index < len(self.portraits):
            frames = self._moving_portrait(index, random)
        else:
            frames = self._part_of_video(self.videos[self.video_items[index - len(self.portraits)]], random)
        if random.random() < 0.5:
            frames = frames[:, :, ::-1]
        if self.augmented:
            frames = jitter_colour(frames, random)
        item = {"sharp": to_tensor(frames)}
        if self.degradation is not None:
            small = degrade_frames(frames, self.degradation, seed=int(random.integers(2**31)))
            large = [cv2.resize(f, (self.size, self.size), interpolation=cv2.INTER_LINEAR) for f in small]
            item["degraded"] = to_tensor(large)
        return item

    def _part_of_video(self, video: StoredVideo, random: np.random.Generator) -> np.ndarray:
        steps = max(1, self.clip_length - 1)
        interval = int(random.integers(1, min(self.max_interval, (video.num_frames - 1) // steps or 1) + 1))
        start = int(random.integers(0, video.num_frames - (self.clip_length - 1) * interval))
        frames = video.read(start, self.clip_length, interval, self.size)
        return frames[::-1] if random.random() < 0.5 else frames

    def _moving_portrait(self, index: int, random: np.random.Generator) -> np.ndarray:
        """Crops of one portrait along a smooth path of small similarity transforms around the template."""
        side = round(self.size * 1.5 * MARGIN)
        portrait = cut_portrait(*self.portraits[index], side)
        if self.augmented:
            if random.random() < 0.3:
                other = cut_portrait(*self.portraits[random.integers(len(self.portraits))], side)
                portrait = augment.blend(portrait, other, random)
            if random.random() < 0.5:
                portrait = augment.reshape(portrait, random)
            if random.random() < 0.5:
                portrait = augment.light(portrait, random)
        portrait = np.rint(np.clip(portrait, 0, 1) * 255).astype(np.uint8)
        # The mean position of the crop and a slow swing around it: angle (degrees), log scale, shift (in sizes).
        spread = np.array([6.0, 0.06, 0.02, 0.02])
        rest = random.normal(0, 0.6, 4) * spread
        swing = random.normal(0, 0.5, 4) * spread
        phase, speed = random.uniform(0, 2 * np.pi, 4), random.uniform(0.05, 0.5, 4)
        crops = []
        for i in range(self.clip_length):
            angle, log_scale, x, y = rest + swing * np.sin(phase + speed * i)
            scale = self.size * MARGIN / side * np.exp(log_scale)
            matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, float(scale))
            matrix[:, 2] = matrix[:, 2] + (self.size - side) / 2 + self.size * np.array([x, y])
            crops.append(crop_face(portrait, matrix, self.size))
        return np.stack(crops)


def open_validation(
    sources: list[str], size: int, clip_length: int, degradation: Degradation | None
) -> FaceClips | None:
    """The validation set: one clip per portrait or video, not augmented, always the same. `None` without sources."""
    if not sources:
        return None
    return FaceClips(sources, size, clip_length, degradation, seed=1, augmented=False, clips_per_video=1)


def jitter_colour(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mild gain, offset and gamma of each colour, the same for the whole clip."""
    gain = random.normal(1, 0.06) * random.normal(1, 0.03, 3)
    offset = random.normal(0, 0.02, 3)
    gamma = np.exp(random.normal(0, 0.12))
    levels = np.arange(256)[:, None] / 255
    table = np.rint(np.clip(gain * levels**gamma + offset, 0, 1) * 255).astype(np.uint8)
    return np.stack([table[:, c][frames[..., c]] for c in range(3)], axis=-1)
