"""FaceDetector, a small face detector of our own that is part of the packaged checkpoints.

It finds boxes first, in a small and in a large copy of the frame. Then a second network reads a close-up of every box,
in the pixels of the frame, decides whether it shows a face, and predicts the landmarks. A third network reads another
close-up, which is aligned by these landmarks, and does the same more accurately. For the faces that are left it reads
a last close-up, which is aligned by its own landmarks.

Legend: b images, n cells (positions of the feature maps).
"""

from collections.abc import Callable
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
from .detection import Faces, drop_parts_of_people, search_near_and_far, suppress
from .detector_parts.close_ups import MEAN_FACE, MIRRORED_ORDER, cut_aligned, cut_square, to_frame
from .detector_parts.networks import SeparableBlock, close_up_network, stage, stem


# Cuts a close-up of a given size around landmarks in a frame, and returns the matrix from the frame to it.
Cut = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
# Least logit of a face in the first close-up for which a second one is read; a probability of 0.05
LIKELY = -3.0


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
    """A small anchor-free face detector: one network finds boxes, two others check each and find its landmarks.

    Args:
        block_out_channels (`tuple[int, ...]`, defaults to `(16, 32, 64, 96, 128)`):
            Channels at strides 2, 4, 8, 16 and 32; faces are found at the last three.
        neck_channels (`int`, defaults to 64):
            Channels of the three feature maps that the head reads.
        close_up_channels (`tuple[int, ...]`, defaults to `(24, 48, 96, 128)`):
            Channels of the close-up network at strides 2, 4, 8 and 16.
        close_up_size (`int`, defaults to 96):
            Side in pixels of the close-ups that the close-up network reads; a multiple of 16.
        refinement (`bool`, defaults to `False`):
            Whether a second network of the same kind reads another close-up, which is aligned by the landmarks of the
            first.
        search_threshold (`float`, defaults to 0.5):
            Least score of a box for which the close-up is checked, from 0 to 1.
        threshold (`float`, defaults to 0.8):
            Least score of a face, from 0 to 1: the probability that it is one, by the close-up network or, with a
            refinement network, by the search and both close-ups, as the mean of their logits.

    Raises:
        ValueError: If there is another number of channels, or the close-ups have another size.
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
        refinement: bool = False,
        search_threshold: float = 0.5,
        threshold: float = 0.8,
    ) -> None:
        super().__init__()
        if len(block_out_channels) != 5 or len(close_up_channels) != 4:
            raise ValueError(
                "A detector needs 5 block_out_channels and 4 close_up_channels, got "
                f"{tuple(block_out_channels)} and {tuple(close_up_channels)}."
            )
        if close_up_size < 16 or close_up_size % 16:
            raise ValueError(f"close_up_size must be a multiple of 16, got {close_up_size}.")
        channels = block_out_channels
        self.stem = nn.Sequential(stem(channels[0]), SeparableBlock(channels[0], channels[1], stride=2))
        self.stages = nn.ModuleList(stage(channels[i], channels[i + 1]) for i in (1, 2, 3))
        self.laterals = nn.ModuleList(nn.Conv2d(c, neck_channels, 1) for c in channels[2:])
        self.necks = nn.ModuleList(SeparableBlock(neck_channels, neck_channels) for _ in self.strides)
        # Score; centre and size of the box.  Nearly every cell is without a face: scores start low.
        output = nn.Conv2d(neck_channels, 5, 1)
        output.bias = nn.Parameter(torch.tensor([-4.0, 0.0, 0.0, 0.0, 0.0]))
        self.head = nn.Sequential(SeparableBlock(neck_channels, neck_channels), output)

        self.close_up_network = close_up_network(close_up_channels, close_up_size)
        self.refinement_network = close_up_network(close_up_channels, close_up_size) if refinement else None

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile all networks; the arguments are those of `torch.compile`."""
        super().compile(*args, **kwargs)
        self.close_up_network.compile(*args, **kwargs)
        if self.refinement_network is not None:
            self.refinement_network.compile(*args, **kwargs)

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
        for halve in self.stages:
            h = halve(h)
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
        read = self._read_close_ups(frames, found, self.close_up_network, cut_square)
        if self.refinement_network is not None:
            is_likely = [faces.scores > LIKELY for faces in read]
            likely = [faces[which] for faces, which in zip(read, is_likely, strict=True)]
            refined = self._read_close_ups(frames, likely, self.refinement_network, cut_aligned)
            searched = [faces.scores[which] for faces, which in zip(found, is_likely, strict=True)]
            read = [
                Faces(again.boxes, again.landmarks, (box_logits + first.scores + again.scores) / 3)
                for box_logits, first, again in zip(searched, likely, refined, strict=True)
            ]
        results = []
        for faces in read:
            order = np.argsort(-faces.scores, kind="stable")
            scores = (1 + np.tanh(faces.scores[order] / 2)) / 2  # the logistic function, without overflow
            sorted_faces = Faces(faces.boxes[order], faces.landmarks[order], scores)
            results.append(drop_parts_of_people(sorted_faces[scores > self.config["threshold"]]))
        if self.refinement_network is None:
            return results
        # The more exactly a close-up is aligned, the more exact are the landmarks that are read in it.
        placed = self._read_close_ups(frames, results, self.refinement_network, cut_aligned)
        return [
            Faces(faces.boxes, again.landmarks, faces.scores) for faces, again in zip(results, placed, strict=True)
        ]

    def _search(self, images: list[np.ndarray]) -> list[Faces]:
        """Detect boxes in images of any sizes, in one batch.

        Returns:
            `list[Faces]`: their landmarks are those of the mean face, their scores are logits.
        """
        if not images:
            return []
        height, width = (max(-(-image.shape[axis] // 32) * 32 for image in images) for axis in (0, 1))
        padded = np.full((len(images), height, width, 3), 128, np.uint8)
        for target, image in zip(padded, images, strict=True):
            target[: image.shape[0], : image.shape[1]] = image
        all_logits, all_boxes = self(to_tensor(padded, execution_device(self), self.dtype), return_dict=False)
        results = []
        all_are_candidates = all_logits.sigmoid() > self.config["search_threshold"]
        outputs = (output.cpu().numpy() for output in (all_logits, all_boxes, all_are_candidates))
        for logits, boxes, is_candidate in zip(*outputs, strict=True):
            boxes, logits = boxes[is_candidate], logits[is_candidate]
            corners = boxes.reshape(-1, 2, 2)
            sides = np.sqrt(np.prod(corners[:, 1] - corners[:, 0], axis=1))
            landmarks = corners.mean(axis=1)[:, None] + sides[:, None, None] * MEAN_FACE
            results.append(suppress(Faces(boxes, landmarks, logits)))
        return results

    def _read_close_ups(
        self, frames: list[np.ndarray], found: list[Faces], network: nn.Module, cut: Cut
    ) -> list[Faces]:
        """Predict landmarks and logits of faces as the mean over a close-up of each and its mirror image.

        Args:
            frames (`list[np.ndarray]`, each of shape `(h, w, 3)`): RGB, uint8.
            found (`list[Faces]`): The faces of each frame, with landmarks by which the close-ups are cut.
            network (`nn.Module`): Reads close-ups.
            cut (`Callable`): Cuts a close-up, see `detector_parts/close_ups.py`.

        Returns:
            `list[Faces]`: the same faces in the same order, with the landmarks of the network. Their scores are
            logits: of the probability that the close-up shows a face.
        """
        size = self.config["close_up_size"]
        close_ups = [
            cut(frame, landmarks, size)
            for frame, faces in zip(frames, found, strict=True)
            for landmarks in faces.landmarks
        ]
        if not close_ups:
            return found
        images, matrices = zip(*close_ups, strict=True)
        pixels = to_tensor(images, execution_device(self), self.dtype)
        plain, mirrored = network(torch.cat([pixels, pixels.flip(-1)])).float().cpu().chunk(2)
        logits = ((plain[:, 10] + mirrored[:, 10]) / 2).numpy()
        offsets, mirrored_offsets = (out[:, :10].unflatten(-1, (5, 2)).numpy() for out in (plain, mirrored))
        offsets = (offsets + mirrored_offsets[:, MIRRORED_ORDER] * (-1, 1)) / 2
        landmarks = np.stack([to_frame(*each, size) for each in zip(offsets, matrices, strict=True)])
        ends = np.cumsum([len(faces) for faces in found])[:-1]
        return [
            Faces(faces.boxes, *placed)
            for faces, *placed in zip(found, np.split(landmarks, ends), np.split(logits, ends), strict=True)
        ]
