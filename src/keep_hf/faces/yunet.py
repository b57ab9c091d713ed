"""YuNet, a face detector (Wu et al., 2023), with the decoding of OpenCV's `FaceDetectorYN`.

Legend: b images, n cells (positions of the feature maps).
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers.configuration_utils import register_to_config

from ..downloads.hub import YUNET_REPOSITORY, locate_yunet
from ..downloads.options import DownloadOptions
from ..models.onnx.network import OnnxNetwork
from ..models.onnx.onnx_file import Graph
from ..offloading import execution_device
from .detection import Faces, search_near_and_far


STRIDES = (8, 16, 32)
# Of every cell: the probability of its class and of a face, centre and size of the box, five points
OUTPUTS = ("cls", "obj", "bbox", "kps")
# Of `FaceDetectorYN`: the largest part that boxes share, as intersection over union, and the most boxes
MAX_OVERLAP, MAX_BOXES = 0.3, 5000


class YuNet(OnnxNetwork):
    """The YuNet face detector, loaded from its ONNX file or from a saved copy.

    Args:
        graph, outputs: See [`OnnxNetwork`].
        threshold (`float`, defaults to 0.6):
            Least score of a face, from 0 to 1.
    """

    purpose, default_size = "YuNet", 320
    # YuNet loses faces of more than about 500 px or breaks them in two; up to 480 its landmarks were the steadiest.
    near_sides, far_side = (320, 480), 1280

    @register_to_config
    def __init__(self, graph: list[dict[str, Any]], outputs: list[int], threshold: float = 0.6) -> None:
        super().__init__(graph, outputs)

    @classmethod
    def from_pretrained(cls, name: str | Path = YUNET_REPOSITORY, **kwargs: Any) -> "YuNet":
        """Load YuNet from a folder, a repository on the Hub or an ONNX file.

        Args:
            name (`str` or `Path`, defaults to `"opencv/face_detection_yunet"`):
                Folder or Hub id of a saved network or with ONNX files, of which the newest in full precision is used;
                or the path of an ONNX file.
            kwargs:
                See [`OnnxNetwork.from_pretrained`].

        Returns:
            [`YuNet`]

        Raises:
            ValueError: If there is no YuNet file in full precision, or it cannot be read.
            OSError: If the repository is not in the cache and cannot be downloaded; the message says where to place
                the file.
        """
        return super().from_pretrained(name, **kwargs)

    @classmethod
    def _locate(cls, name: str | Path, options: dict[str, Any]) -> Path:
        if str(name) == YUNET_REPOSITORY and not Path(name).is_dir():
            return locate_yunet(YUNET_REPOSITORY, DownloadOptions.from_arguments(options))
        return super()._locate(name, options)

    @classmethod
    def _find_file(cls, folder: Path, name: str) -> Path:
        # File names end in a date such as 2023mar, or in int8 for reduced precision.
        files = sorted(path for path in folder.glob("*.onnx") if "int8" not in path.name)
        if not files:
            raise ValueError(f"{name!r} contains no YuNet file in full precision: add a face_detection_yunet_*.onnx.")
        return files[-1]

    @classmethod
    def _select_outputs(cls, graph: Graph) -> list[str]:
        """Return the feature maps from which the outputs are reshaped, which works for images of any size."""
        producers = {output: node for node in graph.nodes for output in node.outputs}
        maps = []
        for name in (f"{output}_{stride}" for output in OUTPUTS for stride in STRIDES):
            if name not in graph.outputs:
                raise ValueError(f"it has no output {name}, pass a face_detection_yunet_*.onnx of 2023 or later")
            while producers[name].op in ("Reshape", "Sigmoid", "Transpose"):
                name = producers[name].inputs[0]
            maps.append(name)
        return maps

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict a face at every cell of three feature maps.

        Args:
            images (`torch.Tensor` of shape `(b, 3, h, w)`):
                Blue, green and red in levels from 0 to 255; `h` and `w` are multiples of 32.

        Returns:
            `tuple[torch.Tensor, torch.Tensor, torch.Tensor]`: scores of shape `(b, n)` from 0 to 1; boxes of shape
            `(b, n, 4)`: left, top, width and height; five points of shape `(b, n, 5, 2)`, the person's right eye,
            nose and mouth corners; in pixels, float32.
        """
        maps = [features.float().flatten(2).transpose(1, 2) for features in self.run(images)]
        classes, faces, boxes, points = (torch.cat(maps[i : i + 3], dim=1) for i in range(0, 12, 3))
        scores = (classes.sigmoid() * faces.sigmoid()).sqrt()[..., 0]

        cells = self.cells(*images.shape[-2:]).to(scores.device)
        corner, stride = cells[:, :2], cells[:, 2:]
        centre, size = (corner + boxes[..., :2]) * stride, boxes[..., 2:].exp() * stride
        boxes = torch.cat([centre - size / 2, size], dim=-1)
        return scores, boxes, (points.unflatten(-1, (5, 2)) + corner[:, None]) * stride[:, None]

    def cells(self, height: int, width: int) -> torch.Tensor:
        """Return the cells of an image.

        Args:
            height, width (`int`): Size of the image in pixels, multiples of 32.

        Returns:
            `torch.Tensor` of shape `(n, 3)`: column, row and stride of every cell.
        """
        cells = []
        for stride in STRIDES:
            row, column = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
            cells.append(torch.stack([column, row, torch.full_like(row, stride)], dim=-1).flatten(0, 1))
        return torch.cat(cells)

    @torch.no_grad()
    def detect(self, frames: list[np.ndarray]) -> list[Faces]:
        """Detect the faces in frames.

        Args:
            frames (`list[np.ndarray]`, each of shape `(h, w, 3)`):
                RGB frames, uint8, of any sizes.

        Returns:
            `list[Faces]`: the faces of each frame.
        """
        return search_near_and_far(frames, self._search, self.near_sides, self.far_side)

    def _search(self, images: list[np.ndarray]) -> list[Faces]:
        """Detect faces in images of any sizes: on a GPU in one batch for every size, on a CPU one by one."""
        found: dict[int, Faces] = {}
        is_on_cpu = execution_device(self).type == "cpu"
        batches: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            # On a CPU a batch is hardly faster, and the memory for it would grow with the number of frames.
            key = (i,) if is_on_cpu else image.shape
            batches.setdefault(key, []).append(i)
        for indices in batches.values():
            outputs = self(self._prepare([images[i] for i in indices]))
            scores, boxes, points = (output.cpu().numpy() for output in outputs)
            found |= {i: self._select(*face) for i, *face in zip(indices, scores, boxes, points, strict=True)}
        return [found[i] for i in range(len(images))]

    def _prepare(self, images: list[np.ndarray]) -> torch.Tensor:
        height, width = (-(-side // 32) * 32 for side in images[0].shape[:2])
        padded = np.zeros((len(images), height, width, 3), np.uint8)
        for target, image in zip(padded, images, strict=True):
            target[: image.shape[0], : image.shape[1]] = image[..., ::-1]
        return torch.from_numpy(padded).to(execution_device(self)).permute(0, 3, 1, 2).to(self.dtype)

    def _select(self, scores: np.ndarray, boxes: np.ndarray, points: np.ndarray) -> Faces:
        """Drop boxes with a low score and those that overlap a better one."""
        threshold = self.config["threshold"]
        is_candidate = scores >= threshold
        scores, boxes, points = scores[is_candidate], boxes[is_candidate], points[is_candidate]
        # FaceDetectorYN compares boxes in whole pixels.
        kept = cv2.dnn.NMSBoxes(boxes.astype(int).tolist(), scores.tolist(), threshold, MAX_OVERLAP, 1.0, MAX_BOXES)
        order = np.array(kept, dtype=int).reshape(-1)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        # The person's right eye, the first of the points, is the left one for the viewer.
        return Faces(corners[order], points[order], scores[order])
