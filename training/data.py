"""Training data: faces aligned to the FFHQ template, as single images or as clips, sharp and degraded.

A folder may hold, in any mixture and depth,

- videos of aligned faces (`.mp4`, `.mov`, `.mkv`; `prepare_data.py` makes them from plain videos);
- portraits with a `metadata.jsonl` beside them: one line an image, `{"file_name": ..., "landmarks": [[x, y] * 5]}`
  (left eye, right eye, nose, left and right corner of the mouth as the viewer sees them).  A clip is made of a
  portrait by a smooth random motion.

Everything random is drawn from (seed, epoch, index) alone, so that a resumed run sees what the uninterrupted one saw.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from keep_hf.align import crop_face, estimate_alignment
from keep_hf.degrade import TRAINING, degrade_frames
from keep_hf.video import VideoReader


VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv"}


class FaceClips(Dataset):
    """Clips of aligned faces.

    Args:
        folders (`list[str]`): See above.
        size (`int`): Side of the faces in pixels.
        clip_length (`int`): Frames a clip; 1 gives single images.
        degraded (`bool`): Whether to make the degraded clip too.
        seed (`int`, *optional*, defaults to 0): Of everything random.
        clips_per_video (`int`, *optional*, defaults to 12): How often a video counts against a portrait in an epoch.

    Each item is a dict with `sharp` and, if asked for, `degraded`, both float tensors `(t, 3, size, size)` in [-1, 1].

    Raises:
        ValueError: If a folder is missing or nothing to train on is in it, or a clip is longer than a video.
    """

    def __init__(
        self,
        folders: list[str],
        size: int,
        clip_length: int,
        degraded: bool,
        seed: int = 0,
        clips_per_video: int = 12,
    ) -> None:
        self.size, self.clip_length, self.degraded, self.seed = size, clip_length, degraded, seed
        self.epoch = 0
        self.portraits: list[tuple[Path, np.ndarray]] = []
        self.videos: list[np.ndarray] = []
        for folder in map(Path, folders):
            if not folder.is_dir():
                raise ValueError(f"There is no folder {folder} to train on.")
            for path in sorted(folder.rglob("metadata.jsonl")):
                for line in path.read_text().splitlines():
                    entry = json.loads(line)
                    self.portraits.append((path.parent / entry["file_name"], np.float32(entry["landmarks"])))
            for path in sorted(p for p in folder.rglob("*") if p.suffix in VIDEO_SUFFIXES):
                self.videos.append(self._load_video(path))
        # Index of a video for every item that is not a portrait
        self.video_items = [i for i in range(len(self.videos)) for _ in range(clips_per_video)]
        if not self.portraits and not self.videos:
            raise ValueError(f"Nothing to train on in {folders}: no metadata.jsonl with portraits and no videos.")

    def _load_video(self, path: Path) -> np.ndarray:
        with VideoReader(path) as reader:
            frames = [cv2.resize(f.image, (self.size, self.size), interpolation=cv2.INTER_AREA) for f in reader]
        if len(frames) < self.clip_length:
            raise ValueError(f"{path} has {len(frames)} frames; clips of {self.clip_length} need a longer one.")
        return np.stack(frames)

    def __len__(self) -> int:
        return len(self.portraits) + len(self.video_items)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        random = np.random.default_rng((self.seed, self.epoch, index))
        if index < len(self.portraits):
            frames = self._moving_portrait(*self.portraits[index], random)
        else:
            video = self.videos[self.video_items[index - len(self.portraits)]]
            step = random.integers(1, max(2, min(4, len(video) // self.clip_length)) + 1)
            step = min(step, (len(video) - 1) // max(1, self.clip_length - 1)) if self.clip_length > 1 else 1
            start = random.integers(0, len(video) - (self.clip_length - 1) * step)
            frames = video[start : start + (self.clip_length - 1) * step + 1 : step]
            frames = frames[::-1] if random.random() < 0.5 else frames
        if random.random() < 0.5:
            frames = frames[:, :, ::-1]
        frames = _jitter_colour(frames, random)
        item = {"sharp": _to_tensor(frames)}
        if self.degraded:
            small = degrade_frames(frames, TRAINING.at_size(self.size), seed=int(random.integers(2**31)))
            large = [cv2.resize(f, (self.size, self.size), interpolation=cv2.INTER_LINEAR) for f in small]
            item["degraded"] = _to_tensor(np.stack(large))
        return item

    def _moving_portrait(self, path: Path, landmarks: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Crops of one portrait along a smooth path of small similarities around the template."""
        image = cv2.imread(str(path))
        if image is None:
            raise ValueError(f"{path} is named in metadata.jsonl but cannot be read as an image.")
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        align = np.vstack([estimate_alignment(landmarks, self.size), [0, 0, 1]])
        # Where the crop stands, and a slow swing around it: angle (degrees), log scale, shift (parts of the size)
        spread = np.array([6.0, 0.06, 0.02, 0.02])
        rest = random.normal(0, 0.6, 4) * spread
        swing = random.normal(0, 0.5, 4) * spread
        phase, speed = random.uniform(0, 2 * np.pi, 4), random.uniform(0.05, 0.5, 4)
        crops = []
        for i in range(self.clip_length):
            angle, log_scale, x, y = rest + swing * np.sin(phase + speed * i)
            centre = (self.size / 2, self.size / 2)
            wander = np.vstack([cv2.getRotationMatrix2D(centre, angle, float(np.exp(log_scale))), [0, 0, 1]])
            wander[:2, 2] += self.size * np.array([x, y])
            crops.append(crop_face(image, (wander @ align)[:2], self.size))
        return np.stack(crops)


def _jitter_colour(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mild gain, offset and gamma of each colour, the same for the whole clip."""
    gain = random.normal(1, 0.06) * random.normal(1, 0.03, 3)
    offset = random.normal(0, 0.02, 3)
    gamma = np.exp(random.normal(0, 0.12))
    levels = np.arange(256)[:, None] / 255
    table = np.clip(gain * levels**gamma + offset, 0, 1)
    table = np.uint8(np.rint(table * 255))
    return np.stack([table[:, c][frames[..., c]] for c in range(3)], axis=-1)


def _to_tensor(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float() / 127.5 - 1
