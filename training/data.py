"""Training data: faces aligned to the FFHQ template, as single images or as clips, sharp and degraded.

A source is a folder or a dataset on the Hub.  A folder may hold, in any mixture and depth,

- videos of aligned faces, or shards of them (`.tar`, see `prepare_data.py`);
- portraits with a `metadata.jsonl` beside them: one line an image, `{"file_name": ..., "landmarks": [[x, y] * 5]}`
  (left eye, right eye, nose, left and right corner of the mouth as the viewer sees them).  A clip is made of a
  portrait by a smooth random motion, and many people of few by `augment.py`.

A dataset on the Hub has a column of videos of aligned faces, named `mp4` or `video`.

Everything random is drawn from (seed, epoch, index) alone, so that a resumed run sees what the uninterrupted one saw.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from datasets import Video, load_dataset
from torch.utils.data import Dataset

from keep_hf.degrade import Degradation, degrade_frames
from keep_hf.faces.alignment import crop_face, estimate_alignment
from keep_hf.video.media_files import find_videos
from keep_hf.video.pixels import to_tensor
from keep_hf.video.reader import VideoReader

from . import augment


VIDEO_COLUMNS = ("mp4", "video")
# Of a portrait, this much more than the face is prepared, so that there is something where it moves to.
MARGIN = 1.25


class FaceClips(Dataset):
    """Clips of aligned faces.

    Args:
        sources (`list[str]`): See above.
        size (`int`): Side of the faces in pixels.
        clip_length (`int`): Frames a clip; 1 gives single images.
        degradation ([`Degradation`], *optional*): For faces of 512 pixels; `None` makes no degraded clip.
        seed (`int`, *optional*, defaults to 0): Of everything random.
        augmented (`bool`, *optional*, defaults to `True`): Whether to change shapes, light and colours.
        clips_per_video (`int`, *optional*, defaults to 12): How often a video counts against a portrait in an epoch.
        max_interval (`int`, *optional*, defaults to 6): Frames of a video from one of the clip to the next, at most.
        memory (`float`, *optional*, defaults to 4): GiB of videos that are kept decoded; of the others, a clip is
            decoded when it is asked for.

    Each item is a dict with `sharp` and, if asked for, `degraded`, both float tensors `(t, 3, size, size)` in [-1, 1].

    Raises:
        ValueError: If a source is missing or nothing to train on is in it, a portrait or its line is damaged, or a
            clip is longer than a video.
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
        self.epoch = 0
        self.portraits: list[tuple[Path, np.ndarray]] = []
        self.videos: list[StoredVideo] = []
        for source in sources:
            self._open_folder(Path(source)) if Path(source).is_dir() else self._open_dataset(source)
        # Index of a video for every item that is not a portrait
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
            self.videos.append(StoredVideo(str(path), lambda path=path: VideoReader(path)))
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

    def _open_rows(self, name: str, rows: Any) -> None:
        column = next((column for column in VIDEO_COLUMNS if column in rows.column_names), None)
        if column is None:
            raise ValueError(
                f"{name} has no column of videos ({' or '.join(VIDEO_COLUMNS)}), but {rows.column_names}."
            )
        rows = rows.select_columns([column]).cast_column(column, Video(decode=False))
        for i in range(len(rows)):
            self.videos.append(StoredVideo(f"{name}, row {i}", lambda i=i: open_row(rows[i][column])))

    def _check_length(self) -> None:
        for video in self.videos:
            if video.num_frames < self.clip_length:
                raise ValueError(
                    f"{video.name} has {video.num_frames} frames; clips of {self.clip_length} need a longer one."
                )

    def __len__(self) -> int:
        return len(self.portraits) + len(self.video_items)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
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

    def _part_of_video(self, video: "StoredVideo", random: np.random.Generator) -> np.ndarray:
        steps = max(1, self.clip_length - 1)
        interval = int(random.integers(1, min(self.max_interval, (video.num_frames - 1) // steps or 1) + 1))
        start = int(random.integers(0, video.num_frames - (self.clip_length - 1) * interval))
        frames = video.read(start, self.clip_length, interval, self.size)
        return frames[::-1] if random.random() < 0.5 else frames

    def _moving_portrait(self, index: int, random: np.random.Generator) -> np.ndarray:
        """Crops of one portrait along a smooth path of small similarities around the template."""
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
        portrait = np.uint8(np.rint(np.clip(portrait, 0, 1) * 255))
        # Where the crop stands, and a slow swing around it: angle (degrees), log scale, shift (parts of the size)
        spread = np.array([6.0, 0.06, 0.02, 0.02])
        rest = random.normal(0, 0.6, 4) * spread
        swing = random.normal(0, 0.5, 4) * spread
        phase, speed = random.uniform(0, 2 * np.pi, 4), random.uniform(0.05, 0.5, 4)
        crops = []
        for i in range(self.clip_length):
            angle, log_scale, x, y = rest + swing * np.sin(phase + speed * i)
            scale = self.size * MARGIN / side * np.exp(log_scale)
            matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, float(scale))
            matrix[:, 2] += (self.size - side) / 2 + self.size * np.array([x, y])
            crops.append(crop_face(portrait, matrix, self.size))
        return np.stack(crops)


class StoredVideo:
    """A video of aligned faces that is decoded when frames are asked for, or kept decoded.

    Args:
        name (`str`): For errors.
        open_reader: Gives a reader in a `with` block.
    """

    def __init__(self, name: str, open_reader: Callable[[], AbstractContextManager[VideoReader]]) -> None:
        self.name, self.open_reader = name, open_reader
        self.frames: np.ndarray | None = None
        with open_reader() as reader:
            if reader.width != reader.height:
                raise ValueError(
                    f"{name} is {reader.width}x{reader.height}; aligned faces are square (prepare_data.py)."
                )
            # What the file says of itself; where it says nothing, it is counted.
            self.num_frames = reader.num_frames or sum(1 for _ in reader)

    def keep(self, size: int) -> None:
        """Decode all of it, once and for all."""
        self.frames = self.read(0, self.num_frames, 1, size)

    def read(self, start: int, length: int, interval: int, size: int) -> np.ndarray:
        """`(length, size, size, 3)`: frames from number `start`, each `interval` after the one before."""
        last = start + (length - 1) * interval
        if self.frames is not None:
            return self.frames[start : last + 1 : interval]
        frames = []
        with self.open_reader() as reader:
            for i, frame in enumerate(reader.read(start)):
                if i % interval == 0:
                    frames.append(cv2.resize(frame.image, (size, size), interpolation=cv2.INTER_AREA))
                if len(frames) == length:
                    return np.stack(frames)
        raise ValueError(f"{self.name} says it has {self.num_frames} frames, but ends before number {last}.")


@contextmanager
def open_row(row: dict[str, Any]) -> Iterator[VideoReader]:
    """Read a video in a row of a dataset: a file of its own, or bytes, which go through a file of the moment."""
    if row["bytes"] is None:
        with VideoReader(row["path"]) as reader:
            yield reader
        return
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(row["bytes"])
        file.flush()
        with VideoReader(file.name) as reader:
            yield reader


def open_validation(sources: list[str], **settings: Any) -> FaceClips | None:
    """The clips to validate with: as they are, always the same, one of each portrait or video."""
    if not sources:
        return None
    return FaceClips(sources, seed=1, augmented=False, clips_per_video=1, **settings)


def read_portraits(path: Path) -> list[tuple[Path, np.ndarray]]:
    portraits = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            entry = json.loads(line)
            image, landmarks = path.parent / entry["file_name"], np.float32(entry["landmarks"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}, has no file_name and landmarks: {error}") from error
        if landmarks.shape != (5, 2) or not np.isfinite(landmarks).all():
            raise ValueError(f"{path}, line {number}: landmarks must be five points [x, y], got {landmarks.tolist()}.")
        if not image.is_file():
            raise ValueError(f"{path}, line {number}: there is no file {image}.")
        portraits.append((image, landmarks))
    return portraits


def cut_portrait(path: Path, landmarks: np.ndarray, side: int) -> np.ndarray:
    """The face and what is around it, `(side, side, 3)` in [0, 1]; the face itself is `side / MARGIN` wide."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"{path} is named in metadata.jsonl but cannot be read as an image.")
    face = round(side / MARGIN)
    matrix = estimate_alignment(landmarks, face)
    matrix[:, 2] += (side - face) / 2
    return crop_face(image, matrix, side).astype(np.float32) / 255


def jitter_colour(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mild gain, offset and gamma of each colour, the same for the whole clip."""
    gain = random.normal(1, 0.06) * random.normal(1, 0.03, 3)
    offset = random.normal(0, 0.02, 3)
    gamma = np.exp(random.normal(0, 0.12))
    levels = np.arange(256)[:, None] / 255
    table = np.clip(gain * levels**gamma + offset, 0, 1)
    table = np.uint8(np.rint(table * 255))
    return np.stack([table[:, c][frames[..., c]] for c in range(3)], axis=-1)
