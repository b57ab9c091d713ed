"""Clips of moving faces, sharp and degraded, for the training of the direct path.

They are cut from packs, which `training/pack_faces.py` writes: tar files with portraits as they are and their
landmarks, and with video files and the alignment of every frame. A crop is interpolated from its source only once.
Everything random depends on (seed, number of the sample) only.
"""

import itertools
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from keep_hf.faces.alignment import estimate_alignment

from ..loop.stage import TrainingSet
from .degradations.clips import DEFAULT_SHARES, DegradationShares, degrade_clip
from .stored_video import open_content


SIZE = 512  # side of the aligned crops
FLOW_SIDE = 256  # side of the frames between which flow is searched


@dataclass
class Source:
    """A portrait or a video with the map from each frame to its aligned crop.

    Attributes:
        frames (`list[np.ndarray]`): RGB, uint8.
        matrices (`np.ndarray` of shape `(t, 2, 3)`): From frame pixels to crop pixels.
    """

    frames: list[np.ndarray]
    matrices: np.ndarray


def read_packs(folder: Path) -> tuple[list[Source], list[Source]]:
    """Decode the portraits and videos of all packs `*.tar` in a folder.

    Raises:
        ValueError: If there are no packs or a file in one cannot be decoded.
    """
    with ThreadPoolExecutor() as pool:
        files = [file for path in sorted(Path(folder).glob("*.tar")) for file in read_pack(path)]
        sources = list(pool.map(decode, *zip(*files, strict=True))) if files else []
    portraits = [source for source in sources if len(source.frames) == 1]
    videos = [source for source in sources if len(source.frames) > 1]
    if not portraits and not videos:
        raise ValueError(f"{folder} holds no packs (*.tar); write them with python -m training.pack_faces.")
    return portraits, videos


def decode(name: str, content: bytes, meta: dict[str, Any]) -> Source:
    """Decode a portrait, or a video: its frames are those for which `pack_faces.py` has found the alignment."""
    if "matrices" in meta:
        with open_content(content, Path(name).suffix) as reader:
            decoded = [frame.image for frame in reader]
        return Source([decoded[i] for i in meta["frames"]], np.array(meta["matrices"], np.float64))
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"{name} cannot be decoded as an image.")
    return Source([image], estimate_alignment(np.array(meta["landmarks"], np.float64), SIZE)[None])


def read_pack(path: Path) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Yield name, content and metadata of the files of a pack; the metadata of a file is in `NAME.json` before it."""
    with tarfile.open(path) as pack:
        meta: dict[str, Any] = {}
        for member in pack:
            file = pack.extractfile(member)
            assert file is not None
            content = file.read()
            if member.name.endswith(".json"):
                meta = json.loads(content)
            else:
                yield member.name, content, meta


class MovingFaces(TrainingSet):
    """Clips of aligned faces, sharp and degraded, with optical flow.

    Args:
        portraits, videos (`list[Source]`): What the clips are cut from.
        clip_length (`int`): Frames of a clip.
        video_share (`float`): Share of the clips that are cut from videos.
        seed (`int`): Of everything random.
        length (`int`): Number of samples.
        shares ([`DegradationShares`]): Of the kinds of degradation.

    Each item has `sharp` and `degraded` `(t, 3, 512, 512)` uint8 and, if clips are longer than one frame, `flow` and
    `true_flow` `(t - 1, 2, 256, 256)` float16: from each degraded (sharp) frame to the one before it, in pixels of a
    frame of 256 x 256.
    """

    def __init__(
        self,
        portraits: list[Source],
        videos: list[Source],
        clip_length: int,
        video_share: float,
        seed: int = 0,
        length: int = 10**9,
        shares: DegradationShares = DEFAULT_SHARES,
    ) -> None:
        self.portraits, self.videos = portraits, videos
        self.clip_length, self.video_share, self.seed, self.length = clip_length, video_share, seed, length
        self.shares = shares

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        random = np.random.default_rng((self.seed, index))
        if self.videos and random.random() < self.video_share:
            sharp = self._from_video(random)
        else:
            sharp = self._from_portrait(random)
        if random.random() < 0.5:
            sharp = sharp[:, :, ::-1]
        sharp = np.ascontiguousarray(change_colours(sharp, random))
        degraded = degrade_clip(sharp, random, self.shares)
        item = {"sharp": to_channels_first(sharp), "degraded": to_channels_first(degraded)}
        if self.clip_length > 1:
            item["flow"] = flow_to_previous(degraded)
            item["true_flow"] = flow_to_previous(sharp)
        return item

    def _from_video(self, random: np.random.Generator) -> np.ndarray:
        lengths = np.array([len(video.frames) for video in self.videos]) ** 0.5  # no video dominates
        video = self.videos[random.choice(len(self.videos), p=lengths / lengths.sum())]
        interval = int(random.integers(1, 4))
        span = (self.clip_length - 1) * interval + 1
        if span > len(video.frames):
            interval, span = 1, self.clip_length
        start = int(random.integers(0, len(video.frames) - span + 1))
        chosen = range(start, start + span, interval)
        if random.random() < 0.5:
            chosen = chosen[::-1]
        offset = draw_similarity(random, scale=0.5)
        field = draw_bend(random)
        frames = [cut(video.frames[i], compose(offset, video.matrices[i]), field) for i in chosen]
        return np.stack(frames)

    def _from_portrait(self, random: np.random.Generator) -> np.ndarray:
        """Crops along a smooth path of small similarities around the template."""
        source = self.portraits[random.integers(len(self.portraits))]
        field = draw_bend(random)
        rest, swing = draw_similarity(random), random.normal(0, 0.5, 4) * SPREAD
        phase, speed = random.uniform(0, 2 * np.pi, 4), random.uniform(0.05, 0.5, 4)
        frames = []
        for i in range(self.clip_length):
            pose = rest + swing * np.sin(phase + speed * i)
            frames.append(cut(source.frames[0], compose(pose, source.matrices[0]), field))
        return np.stack(frames)


# Angle in degrees, logarithm of the scale, shifts in parts of the size
SPREAD = np.array([6.0, 0.06, 0.02, 0.02])


def draw_similarity(random: np.random.Generator, scale: float = 1.0) -> np.ndarray:
    """Angle, logarithm of the scale and shifts; see `SPREAD`."""
    return random.normal(0, 0.6, 4) * SPREAD * scale


def compose(pose: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A similarity of the crop around its centre, after the map into the crop."""
    angle, log_scale, x, y = pose
    around = np.vstack([cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), angle, float(np.exp(log_scale))), [0, 0, 1]])
    around[:2, 2] += SIZE * np.array([x, y])
    return (around @ np.vstack([matrix, [0, 0, 1]]))[:2]


def draw_bend(random: np.random.Generator) -> np.ndarray | None:
    """Displacements `(512, 512, 2)` that change the shape of a face smoothly, some as if the head were turned."""
    if random.random() < 0.5:
        return None
    cells = int(random.integers(2, 5))
    coarse = random.normal(size=(cells + 2, cells + 2, 2)).astype(np.float32)
    bend = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) * SIZE * random.uniform(0, 0.02)
    places = np.linspace(-1, 1, SIZE, dtype=np.float32)
    bend[..., 0] += SIZE / 2 * random.normal(0, 0.04) * places
    bend[..., 1] += SIZE / 2 * random.normal(0, 0.04) * places[:, None]
    if random.random() < 0.4:  # one side is compressed, the other stretched
        bend[..., 0] += SIZE / 2 * random.uniform(-0.25, 0.25) * (1 - places**2)
    return bend


def cut(frame: np.ndarray, matrix: np.ndarray, bend: np.ndarray | None) -> np.ndarray:
    """The crop `(512, 512, 3)`, by one cubic interpolation."""
    if bend is None:
        return cv2.warpAffine(frame, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    inverse = cv2.invertAffineTransform(matrix).astype(np.float32)
    x, y = np.meshgrid(np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32))
    places = np.dstack([x, y]) + bend
    places = places @ inverse[:, :2].T + inverse[:, 2]
    x, y = (np.ascontiguousarray(places[..., axis]) for axis in (0, 1))
    return cv2.remap(frame, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


# Change of the colours of a grey frame that makes it sepia
SEPIA = (0.18, 0.0, -0.3)


def change_colours(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Gain, offset and gamma of each colour; some clips are grey or sepia; the same for the whole clip."""
    gain = random.normal(1, 0.08) * random.normal(1, 0.04, 3)
    if random.random() < 0.1:
        frames = np.stack([cv2.cvtColor(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for f in frames])
        if random.random() < 0.5:  # from cold to sepia
            gain *= 1 + random.uniform(-0.3, 1) * np.array(SEPIA)
    offset = random.normal(0, 0.03, 3)
    gamma = np.exp(random.normal(0, 0.2))
    if random.random() < 0.08:  # dark
        gain *= random.uniform(0.3, 0.8)
    levels = np.arange(256)[:, None] / 255
    table = np.rint(np.clip(gain * levels**gamma + offset, 0, 1) * 255).astype(np.uint8)
    return cv2.LUT(frames.reshape(len(frames), -1, 3), table[None]).reshape(frames.shape)


def to_channels_first(frames: np.ndarray) -> torch.Tensor:
    """Frames `(t, h, w, 3)`, uint8 -> tensor `(t, 3, h, w)`, uint8."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


def flow_to_previous(frames: np.ndarray) -> torch.Tensor:
    """DIS flow from each frame `(512, 512, 3)` to the one before it, as pipelines with a direct path search it."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    small = [
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (FLOW_SIDE, FLOW_SIDE), interpolation=cv2.INTER_AREA)
        for f in frames
    ]
    pairs = itertools.pairwise(small)
    # An array in place of None would be the initial flow.
    flows = [search.calc(now, before, None) for before, now in pairs]  # type: ignore[call-overload]
    return torch.from_numpy(np.stack(flows).transpose(0, 3, 1, 2).astype(np.float16))
