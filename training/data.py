"""Training data: faces aligned to the FFHQ template, as single images or clips, sharp and degraded.

A source is a folder or a dataset on the Hub. A folder may contain, at any depth and mixed,

- videos of aligned faces, or shards of them (`.tar`, see `prepare_data.py`);
- portraits with a `metadata.jsonl` beside them, which has one line per image: `{"file_name": ..., "landmarks":
  [[x, y] * 5]}` (left eye, right eye, nose, left and right corner of the mouth, as the viewer sees them). A clip is
  made from a portrait by a smooth random motion, and `augment.py` turns a few people into many.

A dataset on the Hub has a column of videos of aligned faces, named `mp4` or `video`.

All random numbers depend only on (seed, epoch, index), so that a resumed run sees the same data as an uninterrupted
one.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from datasets import Dataset, Video, load_dataset

from keep_hf.degrade import Degradation, degrade_frames
from keep_hf.faces.alignment import crop_face, estimate_alignment
from keep_hf.video.media_files import find_videos
from keep_hf.video.pixels import to_tensor
from keep_hf.video.reader import VideoReader

from . import augment
from .images import read_image
from .stage import Batch, TrainingSet


VIDEO_COLUMNS = ("mp4", "video")
# A portrait is cut larger than the face by this factor, so that the crop can move.
MARGIN = 1.25


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
            self.videos.append(StoredVideo(str(path), lambda path=path: VideoReader(path)))  # type: ignore[misc]
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
            self.videos.append(StoredVideo(f"{name}, row {i}", lambda i=i: open_row(rows[i][column])))  # type: ignore[misc]

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

    def _part_of_video(self, video: "StoredVideo", random: np.random.Generator) -> np.ndarray:
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


class StoredVideo:
    """A video of aligned faces, decoded when frames are needed or kept decoded.

    Args:
        name (`str`): For error messages.
        open_reader (`Callable`): Returns a context manager whose value is a reader.
    """

    def __init__(self, name: str, open_reader: Callable[[], AbstractContextManager[VideoReader]]) -> None:
        self.name, self.open_reader = name, open_reader
        self.frames: np.ndarray | None = None
        with open_reader() as reader:
            if reader.width != reader.height:
                raise ValueError(
                    f"{name} is {reader.width}x{reader.height}; aligned faces are square (prepare_data.py)."
                )
            # Files without a number of frames are decoded to count them.
            self.num_frames = reader.num_frames or sum(1 for _ in reader)

    def keep(self, size: int) -> None:
        """Decode the whole video and keep its frames."""
        self.frames = self.read(0, self.num_frames, 1, size)

    def read(self, start: int, length: int, interval: int, size: int) -> np.ndarray:
        """Decode frames `start`, `start + interval` and so on, as uint8 RGB `(length, size, size, 3)`."""
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
        raise ValueError(f"{self.name} reports {self.num_frames} frames, but ends before frame {last}.")


@contextmanager
def open_row(row: dict[str, Any]) -> Iterator[VideoReader]:
    """Open the video in a row of a dataset. It is a file, or bytes that are written to a temporary file."""
    if row["bytes"] is None:
        with VideoReader(row["path"]) as reader:
            yield reader
        return
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(row["bytes"])
        file.flush()
        with VideoReader(file.name) as reader:
            yield reader


def open_validation(
    sources: list[str], size: int, clip_length: int, degradation: Degradation | None
) -> FaceClips | None:
    """The validation set: one clip per portrait or video, not augmented, always the same. `None` without sources."""
    if not sources:
        return None
    return FaceClips(sources, size, clip_length, degradation, seed=1, augmented=False, clips_per_video=1)


def read_portraits(path: Path) -> list[tuple[Path, np.ndarray]]:
    """Read the images and landmarks `(5, 2)` that a `metadata.jsonl` names."""
    portraits = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            entry = json.loads(line)
            image, landmarks = path.parent / entry["file_name"], np.array(entry["landmarks"], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}, has no file_name and landmarks: {error}") from error
        if landmarks.shape != (5, 2) or not np.isfinite(landmarks).all():
            raise ValueError(f"{path}, line {number}: landmarks must be five points [x, y], got {landmarks.tolist()}.")
        if not image.is_file():
            raise ValueError(f"{path}, line {number}: there is no file {image}.")
        portraits.append((image, landmarks))
    return portraits


def cut_portrait(path: Path, landmarks: np.ndarray, side: int) -> np.ndarray:
    """The face and its surroundings, `(side, side, 3)` in [0, 1]. The aligned face is `side / MARGIN` wide."""
    face = round(side / MARGIN)
    matrix = estimate_alignment(landmarks, face)
    matrix[:, 2] += (side - face) / 2
    return crop_face(read_image(path), matrix, side).astype(np.float32) / 255


def jitter_colour(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mild gain, offset and gamma of each colour, the same for the whole clip."""
    gain = random.normal(1, 0.06) * random.normal(1, 0.03, 3)
    offset = random.normal(0, 0.02, 3)
    gamma = np.exp(random.normal(0, 0.12))
    levels = np.arange(256)[:, None] / 255
    table = np.rint(np.clip(gain * levels**gamma + offset, 0, 1) * 255).astype(np.uint8)
    return np.stack([table[:, c][frames[..., c]] for c in range(3)], axis=-1)
