"""FaceDetector, a small face detector of our own that is part of the packaged checkpoint.

It finds boxes first, in a small and in a large copy of the frame; then a second network reads a close-up of every
box, in the pixels of the frame, decides whether it shows a face, and predicts the landmarks.

Legend: b images, n cells (positions of the feature maps).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import nn

from ..built_in import BuiltInWeights
from ..offloading import entry_point, execution_device
from ..video.pixels import to_tensor
from .detection import Faces, resize, search_near_and_far, suppress


# Landmarks of the mean face, relative to the centre of its box, in sides of the box (the square root of its area).
MEAN_FACE = np.array([(-0.195, -0.131), (0.195, -0.131), (0, 0.111), (-0.177, 0.271), (0.177, 0.271)], np.float32)
# In a mirrored image the left eye is the right one, and so on.
MIRRORED_ORDER = [1, 0, 2, 4, 3]
# Half the side of a close-up over the root mean square distance of the landmarks from their centre
CLOSE_UP_MARGIN = 2.1


class SeparableBlock(nn.Module):
    """Depthwise 3x3 and pointwise convolution, with a residual connection where the shape is kept."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features `(b, in_channels, h, w)` to `(b, out_channels, h / stride, w / stride)`."""
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


@dataclass
class FaceDetectorOutput(BaseOutput):
    """Output of [`FaceDetector`]: a face at every cell, see [`FaceDetector.cells`].

    Attributes:
        logits (`torch.Tensor` of shape `(b, n)`): Of the scores, float32.
        boxes (`torch.Tensor` of shape `(b, n, 4)`): Left, top, right, bottom in pixels, float32.
    """

    logits: torch.Tensor
    # accelerate copies an output as a dictionary in the place of the first field, which needs defaults for the others.
    boxes: torch.Tensor = None  # type: ignore[assignment]


class FaceDetector(BuiltInWeights, ModelMixin, ConfigMixin):
    """A small anchor-free face detector: one network finds boxes, another one checks each and finds its landmarks.

    Args:
        block_out_channels (`tuple[int, ...]`, defaults to `(16, 32, 64, 96, 128)`):
            Channels at strides 2, 4, 8, 16 and 32; faces are found at the last three.
        neck_channels (`int`, defaults to 64):
            Channels of the three feature maps that the head reads.
        close_up_channels (`tuple[int, ...]`, defaults to `(24, 48, 96, 128)`):
            Channels of the close-up network at strides 2, 4, 8 and 16.
        close_up_size (`int`, defaults to 96):
            Side in pixels of the close-ups that the close-up network reads; a multiple of 16.
        search_threshold (`float`, defaults to 0.5):
            Least score of a box for which the close-up is checked, from 0 to 1.
        threshold (`float`, defaults to 0.8):
            Least score of a face, from 0 to 1: the close-up network's probability that it is one.
    """

    _no_split_modules = ("SeparableBlock",)
    _repeated_blocks = ("SeparableBlock",)
    # Group offloading by blocks: maps are computed from the coarsest to the finest, so each layer is its own block.
    _group_offload_block_modules = ("laterals", "necks", "0", "1", "2")
    strides = (8, 16, 32)
    near_sides, far_side = (256, 256), 768

    @register_to_config
    def __init__(
        self,
        block_out_channels: tuple[int, ...] = (16, 32, 64, 96, 128),
        neck_channels: int = 64,
        close_up_channels: tuple[int, ...] = (24, 48, 96, 128),
        close_up_size: int = 96,
        search_threshold: float = 0.5,
        threshold: float = 0.8,
    ) -> None:
        super().__init__()
        channels = block_out_channels
        self.stem = nn.Sequential(_stem(channels[0]), SeparableBlock(channels[0], channels[1], stride=2))
        self.stages = nn.ModuleList(_stage(channels[i], channels[i + 1]) for i in (1, 2, 3))
        self.laterals = nn.ModuleList(nn.Conv2d(c, neck_channels, 1) for c in channels[2:])
        self.necks = nn.ModuleList(SeparableBlock(neck_channels, neck_channels) for _ in self.strides)
        # Score; centre and size of the box.  Nearly every cell is without a face: scores start low.
        output = nn.Conv2d(neck_channels, 5, 1)
        output.bias = nn.Parameter(torch.tensor([-4.0, 0.0, 0.0, 0.0, 0.0]))
        self.head = nn.Sequential(SeparableBlock(neck_channels, neck_channels), output)

        # Five landmarks, and the score
        self.close_up_network = nn.Sequential(
            _stem(close_up_channels[0]),
            *(_stage(close_up_channels[i], close_up_channels[i + 1]) for i in range(3)),
            nn.Flatten(),
            nn.Linear(close_up_channels[3] * (close_up_size // 16) ** 2, 11),
        )

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile both networks; the arguments are those of `torch.compile`."""
        super().compile(*args, **kwargs)
        self.close_up_network.compile(*args, **kwargs)

    def forward(
        self, images: torch.Tensor, return_dict: bool = True
    ) -> FaceDetectorOutput | tuple[torch.Tensor, torch.Tensor]:
        """Predict a face at every cell of three feature maps.

        Args:
            images (`torch.Tensor` of shape `(b, 3, h, w)`):
                RGB in [-1, 1]; `h` and `w` are multiples of 32.
            return_dict (`bool`, *optional*, defaults to `True`):
                Whether to return a [`FaceDetectorOutput`].

        Returns:
            [`FaceDetectorOutput`] or a tuple of its fields.
        """
        features = []
        h = self.stem(images)
        for stage in self.stages:
            h = stage(h)
            features.append(h)
        maps: list[torch.Tensor] = []
        for feature, lateral, neck in zip(
            reversed(features), reversed(self.laterals), reversed(self.necks), strict=True
        ):
            h = lateral(feature) + (F.interpolate(maps[0], scale_factor=2.0, mode="nearest") if maps else 0)
            maps.insert(0, neck(h))
        out = torch.cat([self.head(h).flatten(2) for h in maps], dim=2).transpose(1, 2).float()

        # Boxes are relative to the centre of the cell, in units of four strides: faces are 2 to 10 strides wide.
        cells = self.cells(*images.shape[-2:]).to(out.device)
        centre, unit = cells[:, :2], 4 * cells[:, 2:]
        box_centre = centre + unit * out[..., 1:3]
        box_half = unit * out[..., 3:].clamp(max=5).exp() / 2
        output = (out[..., 0], torch.cat([box_centre - box_half, box_centre + box_half], dim=-1))
        return FaceDetectorOutput(*output) if return_dict else output

    def cells(self, height: int, width: int) -> torch.Tensor:
        """Return the cells of an image.

        Args:
            height, width (`int`): Size of the image in pixels, multiples of 32.

        Returns:
            `torch.Tensor` of shape `(n, 3)`: centre (x, y) and stride of every cell, in pixels of the image.
        """
        cells = []
        for stride in self.strides:
            rows, columns = (torch.arange(side // stride) * stride + (stride - 1) / 2 for side in (height, width))
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            cells.append(torch.stack([x, y, torch.full_like(x, stride)], dim=-1).flatten(0, 1))
        return torch.cat(cells)

    @entry_point
    @torch.no_grad()
    def detect(self, frames: list[np.ndarray]) -> list[Faces]:
        """Detect the faces in frames.

        Args:
            frames (`list[np.ndarray]`, each of shape `(h, w, 3)`):
                RGB frames, uint8, of any sizes; they are one batch, so pass a few at a time.

        Returns:
            `list[Faces]`: the faces of each frame.
        """
        found = search_near_and_far(frames, self._search, self.near_sides, self.far_side)
        # One close-up of each face, placed by its box; a second one, placed by the landmarks of the first, did not
        # improve the landmarks.
        close_ups = [
            self._cut_close_up(frame, face)
            for frame, faces in zip(frames, found, strict=True)
            for face in faces.landmarks
        ]
        if not close_ups:
            return found
        images, corners, sides = zip(*close_ups, strict=True)
        offsets, scores = self._read_close_ups(images)
        placed = np.stack(corners)[:, None] + (offsets + 0.5) * np.array(sides)[:, None, None] - 0.5
        ends = np.cumsum([len(faces) for faces in found])[:-1]
        results = []
        for faces, points, score in zip(
            found, np.split(placed.astype(np.float32), ends), np.split(scores, ends), strict=True
        ):
            order = np.argsort(-score, kind="stable")[: np.count_nonzero(score > self.config["threshold"])]
            results.append(Faces(faces.boxes, points, score)[order])
        return results

    def _search(self, images: list[np.ndarray]) -> list[Faces]:
        """Detect boxes in images of any sizes, in one batch; the landmarks are those of the mean face."""
        if not images:
            return []
        height, width = (max(-(-image.shape[axis] // 32) * 32 for image in images) for axis in (0, 1))
        padded = np.full((len(images), height, width, 3), 128, np.uint8)
        for target, image in zip(padded, images, strict=True):
            target[: image.shape[0], : image.shape[1]] = image
        all_logits, all_boxes = self(to_tensor(padded, execution_device(self), self.dtype), return_dict=False)
        results = []
        for scores, boxes in zip(all_logits.sigmoid().cpu().numpy(), all_boxes.cpu().numpy(), strict=True):
            is_candidate = scores > self.config["search_threshold"]
            boxes, scores = boxes[is_candidate], scores[is_candidate]
            corners = boxes.reshape(-1, 2, 2)
            sides = np.sqrt(np.prod(corners[:, 1] - corners[:, 0], axis=1))
            landmarks = corners.mean(axis=1)[:, None] + sides[:, None, None] * MEAN_FACE
            results.append(suppress(Faces(boxes, landmarks, scores)))
        return results

    def _cut_close_up(self, frame: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Cut out the square around a face; the edges of the frame are repeated.

        Returns:
            `tuple[np.ndarray, np.ndarray, int]`: the close-up of shape `(close_up_size, close_up_size, 3)`; its left
            upper corner (x, y) and its side, in pixels of the frame.
        """
        centre = landmarks.mean(axis=0)
        half = CLOSE_UP_MARGIN * np.sqrt(((landmarks - centre) ** 2).sum(axis=1).mean())
        side = max(round(2 * float(half)), 8)
        left, top = np.rint(centre + 0.5 - side / 2).astype(int)
        rows = np.clip(np.arange(top, top + side), 0, frame.shape[0] - 1)
        columns = np.clip(np.arange(left, left + side), 0, frame.shape[1] - 1)
        size = self.config["close_up_size"]
        return resize(frame[rows[:, None], columns], size, size), np.array([left, top]), side

    def _read_close_ups(self, close_ups: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Predict landmarks and scores as the mean over each close-up and its mirror image.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: landmarks of shape `(n, 5, 2)`, relative to the centres of the close-ups,
            in sides of them; and scores of shape `(n,)`, from 0 to 1.
        """
        images = to_tensor(close_ups, execution_device(self), self.dtype)
        plain, mirrored = self.close_up_network(torch.cat([images, images.flip(-1)])).float().cpu().chunk(2)
        scores = ((plain[:, 10] + mirrored[:, 10]) / 2).sigmoid().numpy()
        offsets, mirrored_offsets = (out[:, :10].unflatten(-1, (5, 2)).numpy() for out in (plain, mirrored))
        return (offsets + mirrored_offsets[:, MIRRORED_ORDER] * (-1, 1)) / 2, scores
