"""Faces in frames: a box, five landmarks and a score for each.

Two detectors share one door, `detect(frames) -> list[Faces]`:
 - [`YuNet`] runs the network of that name through OpenCV.
 - [`FaceDetector`] is a small network of our own that travels with the package's checkpoint.

Both search a frame twice.  A small picture of it shows near faces whole; a larger one, for frames that have the
pixels, shows far faces.  `FaceDetector` finds only boxes there; it takes the landmarks from the pixels of the frame.

Legend: b pictures, n cells (places of the feature maps), f faces.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from huggingface_hub import snapshot_download
from torch import nn

from ..video.pixels import to_tensor


@dataclass
class Faces:
    """The faces of one frame, the best score first.

    Args:
        boxes (`np.ndarray` of shape `(n, 4)`, float32):
            Left, top, right and bottom in pixels of the frame.
        landmarks (`np.ndarray` of shape `(n, 5, 2)`, float32):
            Eyes, nose and mouth corners in pixels of the frame, from left to right as the viewer sees them.
        scores (`np.ndarray` of shape `(n,)`, float32):
            Confidence from 0 to 1.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray) -> "Faces":
        return Faces(self.boxes[which], self.landmarks[which], self.scores[which])


def suppress(faces: Faces, overlap: float = 0.5) -> Faces:
    """Of faces that share more than `overlap` of the smaller one's box, keep the best only: no face within a face."""
    left, top, right, bottom = faces.boxes.T
    area = (right - left) * (bottom - top)
    waiting = np.argsort(-faces.scores, kind="stable")
    kept = []
    while len(waiting):
        best, rest = waiting[0], waiting[1:]
        kept.append(best)
        width = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        height = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        waiting = rest[shared <= overlap * np.minimum(area[best], area[rest])]
    return faces[np.array(kept, dtype=int)]


def search_near_and_far(
    frames: list[np.ndarray],
    search: Callable[[list[np.ndarray]], list[Faces]],
    near_sides: tuple[int, int],
    far_side: int,
    far_face: int = 160,
) -> list[Faces]:
    """Search a small picture of each frame and, of large frames, a larger one; join what is found.

    `near_sides` are bounds for the long side of the small picture and `far_side` is that of the large one, where only
    faces of less than `far_face` px count.
    """
    sides = [max(frame.shape[:2]) for frame in frames]
    found = _search_scaled(frames, search, [float(np.clip(side, *near_sides)) / side for side in sides])
    large = [i for i, side in enumerate(sides) if side > 1.5 * near_sides[1]]
    scales = [min(far_side / sides[i], 1.0) for i in large]
    for i, scale, far in zip(large, scales, _search_scaled([frames[i] for i in large], search, scales), strict=True):
        near, small = found[i], (far.boxes[:, 2:] - far.boxes[:, :2]).max(axis=1, initial=0) * scale < far_face
        found[i] = Faces(
            np.concatenate([near.boxes, far.boxes[small]]),
            np.concatenate([near.landmarks, far.landmarks[small]]),
            np.concatenate([near.scores, far.scores[small]]),
        )
    return [suppress(faces) for faces in found]


def _search_scaled(
    frames: list[np.ndarray], search: Callable[[list[np.ndarray]], list[Faces]], scales: list[float]
) -> list[Faces]:
    pictures = []
    for frame, scale in zip(frames, scales, strict=True):
        height, width = (max(round(side * scale), 1) for side in frame.shape[:2])
        pictures.append(_resize(frame, width, height))
    results = []
    for frame, picture, faces in zip(frames, pictures, search(pictures), strict=True):
        # Middles of pixels keep their place: x + 1/2 of the picture is (x + 1/2) * ratio of the frame.
        ratio = (np.array(frame.shape[1::-1]) / picture.shape[1::-1]).astype(np.float32)
        boxes = (faces.boxes.reshape(-1, 2, 2) + 0.5) * ratio - 0.5
        results.append(Faces(boxes.reshape(-1, 4), (faces.landmarks + 0.5) * ratio - 0.5, faces.scores))
    return results


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    shrinks = width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


class YuNet:
    """The YuNet face detector, run by OpenCV.

    Args:
        model_file (`str` or `Path`):
            ONNX file of YuNet.
        threshold (`float`, defaults to 0.6):
            Score from which a face counts.

    Raises:
        ValueError: If the file does not exist or cannot be loaded.
    """

    # YuNet loses faces of more than about 500 px or breaks them in two; up to 480 its landmarks were the steadiest.
    near_sides, far_side = (320, 480), 1280

    def __init__(self, model_file: str | Path, threshold: float = 0.6):
        self.model_file = Path(model_file)
        if not self.model_file.is_file():
            raise ValueError(f"there is no YuNet file {str(model_file)!r}: pass a face_detection_yunet_*.onnx.")
        try:
            self.network = cv2.FaceDetectorYN.create(str(model_file), "", (320, 320), threshold, 0.3, 5000)
        except cv2.error as error:
            raise ValueError(f"{model_file} is damaged, or no YuNet: OpenCV cannot load it.") from error

    @classmethod
    def from_pretrained(cls, name: str | Path = "opencv/face_detection_yunet", **kwargs: Any) -> "YuNet":
        """Load the newest YuNet of a folder or of a repository on the Hub.

        Args:
            name (`str` or `Path`, defaults to `"opencv/face_detection_yunet"`):
                ONNX file, folder with ONNX files, or Hub id.
            kwargs:
                Accepted and not used: what a diffusers pipeline hands to its components, as `dtype`.

        Returns:
            [`YuNet`]

        Raises:
            ValueError: If there is no YuNet in full precision at that place.
        """
        if Path(name).is_file():
            return cls(name)
        folder = Path(name) if Path(name).is_dir() else Path(snapshot_download(str(name), allow_patterns="*.onnx"))
        # Names end in a date as 2023mar, or in int8 and the like for reduced precision.
        files = sorted(path for path in folder.glob("*.onnx") if "int8" not in path.name)
        if not files:
            raise ValueError(
                f"{str(name)!r} holds no YuNet in full precision: put a face_detection_yunet_*.onnx there."
            )
        return cls(files[-1])

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """Copy the ONNX file to a folder, as a diffusers pipeline asks its components; `kwargs` are not used."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.model_file, Path(folder) / self.model_file.name)

    def detect(self, frames: list[np.ndarray]) -> list[Faces]:
        """Find the faces of frames.

        Args:
            frames (`list[np.ndarray]`, each of shape `(height, width, 3)`):
                RGB frames, uint8.

        Returns:
            `list[Faces]`: the faces of each frame.
        """
        return search_near_and_far(frames, self._search, self.near_sides, self.far_side)

    def _search(self, pictures: list[np.ndarray]) -> list[Faces]:
        found = []
        for picture in pictures:
            self.network.setInputSize(picture.shape[1::-1])
            rows = self.network.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
            rows = np.zeros((0, 15), np.float32) if rows is None else rows
            # A row: left, top, width, height, five points (the person's right eye is the viewer's left one), score.
            boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
            found.append(Faces(boxes, rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14]))
        return found


class SeparableBlock(nn.Module):
    """Depthwise 3x3 and pointwise convolution, with a residual where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.norm1(self.depthwise(x)))
        h = self.norm2(self.pointwise(h))
        return F.relu(x + h if self.residual else h)


def _stem(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())


def _stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """Halve the size, then two residual blocks."""
    return nn.Sequential(
        SeparableBlock(in_channels, out_channels, stride=2),
        SeparableBlock(out_channels, out_channels),
        SeparableBlock(out_channels, out_channels),
    )


# Landmarks of the mean face from the middle of its box, in sides of the box (the root of its area).
MEAN_FACE = np.array([(-0.195, -0.131), (0.195, -0.131), (0, 0.111), (-0.177, 0.271), (0.177, 0.271)], np.float32)


class FaceDetector(ModelMixin, ConfigMixin):
    """A small anchor-free face detector that finds boxes first and then looks at each face for its landmarks.

    Args:
        block_out_channels (`tuple[int, ...]`, defaults to `(16, 32, 64, 96, 128)`):
            Channels at strides 2, 4, 8, 16 and 32; faces are found at the last three.
        neck_channels (`int`, defaults to 64):
            Channels of the three maps that the heads read.
        look_channels (`tuple[int, ...]`, defaults to `(16, 32, 64, 96)`):
            Channels at strides 2, 4, 8 and 16 of the network that looks at one face and places its landmarks.
        look_size (`int`, defaults to 96):
            Side in pixels of the picture of one face that it reads; a multiple of 16.
        threshold (`float`, defaults to 0.8):
            Score from which a face counts.
    """

    strides = (8, 16, 32)
    # Half the side of a look over the root mean square distance of the landmarks from their middle.
    look_margin = 2.1
    near_sides, far_side = (256, 256), 768

    @register_to_config
    def __init__(
        self,
        block_out_channels: tuple[int, ...] = (16, 32, 64, 96, 128),
        neck_channels: int = 64,
        look_channels: tuple[int, ...] = (16, 32, 64, 96),
        look_size: int = 96,
        threshold: float = 0.8,
    ):
        super().__init__()
        channels = block_out_channels
        self.stem = nn.Sequential(_stem(channels[0]), SeparableBlock(channels[0], channels[1], stride=2))
        self.stages = nn.ModuleList(_stage(channels[i], channels[i + 1]) for i in (1, 2, 3))
        self.laterals = nn.ModuleList(nn.Conv2d(c, neck_channels, 1) for c in channels[2:])
        self.necks = nn.ModuleList(SeparableBlock(neck_channels, neck_channels) for _ in self.strides)
        # Score; middle and size of the box.  Nearly every cell is without a face: scores start low.
        told = nn.Conv2d(neck_channels, 5, 1)
        told.bias = nn.Parameter(torch.tensor([-4.0, 0.0, 0.0, 0.0, 0.0]))
        self.head = nn.Sequential(SeparableBlock(neck_channels, neck_channels), told)

        wide = look_channels
        self.look = nn.Sequential(
            _stem(wide[0]),
            *(_stage(wide[i], wide[i + 1]) for i in range(3)),
            nn.Flatten(),
            nn.Linear(wide[3] * (look_size // 16) ** 2, 10),
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict a face at every cell of three feature maps.

        Args:
            images (`torch.Tensor` of shape `(b, 3, h, w)`):
                RGB in [-1, 1]; `h` and `w` are multiples of 32.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: logits of shape `(b, n)` and boxes of shape `(b, n, 4)` in pixels,
            float32; the cells are those of [`FaceDetector.cells`].
        """
        features = []
        h = self.stem(images)
        for stage in self.stages:
            h = stage(h)
            features.append(h)
        maps: list[torch.Tensor] = []
        for feature, lateral, neck in zip(features[::-1], self.laterals[::-1], self.necks[::-1], strict=True):
            h = lateral(feature) + (F.interpolate(maps[0], scale_factor=2.0, mode="nearest") if maps else 0)
            maps.insert(0, neck(h))
        out = torch.cat([self.head(h).flatten(2) for h in maps], dim=2).transpose(1, 2).float()

        # Places are told from the middle of the cell, in steps of four strides: faces are 2 to 10 strides wide.
        cells = self.cells(*images.shape[-2:]).to(out.device)
        middle, unit = cells[:, :2], 4 * cells[:, 2:]
        box_middle = middle + unit * out[..., 1:3]
        box_half = unit * out[..., 3:].clamp(max=5).exp() / 2
        return out[..., 0], torch.cat([box_middle - box_half, box_middle + box_half], dim=-1)

    def cells(self, height: int, width: int) -> torch.Tensor:
        """Middles (x, y) and strides of the cells for a picture of that size, of shape `(n, 3)`, in pixels."""
        cells = []
        for stride in self.strides:
            rows, columns = (torch.arange(side // stride) * stride + (stride - 1) / 2 for side in (height, width))
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            cells.append(torch.stack([x, y, torch.full_like(x, stride)], dim=-1).flatten(0, 1))
        return torch.cat(cells)

    @torch.no_grad()
    def detect(self, frames: list[np.ndarray]) -> list[Faces]:
        """Find the faces of frames.

        Args:
            frames (`list[np.ndarray]`, each of shape `(height, width, 3)`):
                RGB frames, uint8; they go through the network together, so pass a few at a time.

        Returns:
            `list[Faces]`: the faces of each frame.
        """
        found = search_near_and_far(frames, self._search, self.near_sides, self.far_side)
        # One look at each face, led by its box; a second one, led by the landmarks of the first, was no better.
        looks = [
            self._cut(frame, face) for frame, faces in zip(frames, found, strict=True) for face in faces.landmarks
        ]
        if not looks:
            return found
        pictures, corners, sides = zip(*looks, strict=True)
        plain = to_tensor(pictures, self.device, self.dtype)
        both = self.look(torch.cat([plain, plain.flip(-1)])).float().cpu().unflatten(-1, (5, 2)).numpy()
        # The network tells the way from the middle, in sides of the picture.  The mirror's left eye is the right one.
        places = (both[: len(looks)] + both[len(looks) :, [1, 0, 2, 4, 3]] * (-1, 1)) / 2
        placed = np.stack(corners)[:, None] + (places + 0.5) * np.array(sides)[:, None, None] - 0.5
        ends = np.cumsum([len(faces) for faces in found])[:-1]
        landmarks = np.split(placed.astype(np.float32), ends)
        return [Faces(faces.boxes, points, faces.scores) for faces, points in zip(found, landmarks, strict=True)]

    def _search(self, pictures: list[np.ndarray]) -> list[Faces]:
        if not pictures:
            return []
        height, width = (max(-(-picture.shape[axis] // 32) * 32 for picture in pictures) for axis in (0, 1))
        padded = np.full((len(pictures), height, width, 3), 128, np.uint8)
        for room, picture in zip(padded, pictures, strict=True):
            room[: picture.shape[0], : picture.shape[1]] = picture
        all_logits, all_boxes = self(to_tensor(padded, self.device, self.dtype))
        results = []
        for scores, boxes in zip(all_logits.sigmoid().cpu().numpy(), all_boxes.cpu().numpy(), strict=True):
            boxes, scores = boxes[scores > self.config["threshold"]], scores[scores > self.config["threshold"]]
            corners = boxes.reshape(-1, 2, 2)
            sides = np.sqrt(np.prod(corners[:, 1] - corners[:, 0], axis=1))
            landmarks = corners.mean(axis=1)[:, None] + sides[:, None, None] * MEAN_FACE
            results.append(suppress(Faces(boxes, landmarks, scores)))
        return results

    def _cut(self, frame: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Picture of one face, with its corner and side in pixels of the frame; edges of the frame are repeated."""
        middle = landmarks.mean(axis=0)
        half = self.look_margin * np.sqrt(((landmarks - middle) ** 2).sum(axis=1).mean())
        side = max(round(2 * float(half)), 8)
        left, top = np.rint(middle + 0.5 - side / 2).astype(int)
        rows = np.clip(np.arange(top, top + side), 0, frame.shape[0] - 1)
        columns = np.clip(np.arange(left, left + side), 0, frame.shape[1] - 1)
        size = self.config["look_size"]
        return _resize(frame[rows[:, None], columns], size, size), np.array([left, top]), side
