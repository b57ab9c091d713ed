"""Networks from ONNX files that read images of aligned faces."""

from typing import Any

import numpy as np
import torch

from ..models.onnx.network import OnnxNetwork
from ..models.onnx.onnx_file import Graph
from ..offloading import execution_device


# Faces in one batch; bounds memory.
BATCH_SIZE = 16


class CropNetwork(OnnxNetwork):
    """A network that maps images of faces to numbers, with the preprocessing of the images.

    Args:
        graph, outputs:
            See [`OnnxNetwork`].
        mean (`tuple[float, float, float]`):
            Subtracted from red, green and blue, in levels of 255.
        scale (`float`):
            Factor after the subtraction.
        channel_order (`"rgb"` or `"bgr"`):
            Order of the channels that the network expects.

    Raises:
        ValueError: If the channel order is invalid.
    """

    def __init__(
        self,
        graph: list[dict[str, Any]],
        outputs: list[int],
        mean: tuple[float, float, float],
        scale: float,
        channel_order: str,
    ) -> None:
        if channel_order not in ("rgb", "bgr"):
            raise ValueError(f'channel_order must be "rgb" or "bgr", got {channel_order!r}.')
        super().__init__(graph, outputs)

    @classmethod
    def _select_outputs(cls, graph: Graph) -> list[str]:
        if len(graph.outputs) != 1:
            raise ValueError(f"it has several outputs, {', '.join(graph.outputs)}")
        return graph.outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Run the network.

        Args:
            images (`torch.Tensor` of shape `(b, 3, size, size)`):
                RGB in levels from 0 to 255.

        Returns:
            `torch.Tensor` of shape `(b, n)`.
        """
        mean = images.new_tensor(self.config["mean"])[:, None, None]
        values = (images - mean) * self.config["scale"]
        (output,) = self.run(values.flip(1) if self.config["channel_order"] == "bgr" else values)
        return output.flatten(1)

    @torch.no_grad()
    def read(self, crops: list[np.ndarray]) -> np.ndarray:
        """Run the network on images of its size.

        Args:
            crops (`list[np.ndarray]`, each of shape `(size, size, 3)`): RGB, uint8.

        Returns:
            `np.ndarray` of shape `(len(crops), n)`, float32.
        """
        if not crops:
            # Only an output shows how many numbers there are.
            return self.read([self.grey_image()])[:0]
        outputs = []
        for start in range(0, len(crops), BATCH_SIZE):
            images = torch.from_numpy(np.stack(crops[start : start + BATCH_SIZE])).to(execution_device(self))
            outputs.append(self(images.permute(0, 3, 1, 2).to(self.dtype)).float().cpu())
        return torch.cat(outputs).numpy()

    def grey_image(self) -> np.ndarray:
        """Return an image without a face, of the size of the network."""
        size = self.config.get("input_size", self.default_size)
        return np.full((size, size, 3), 127, np.uint8)


def check_faces(faces: list[np.ndarray]) -> None:
    """Check that faces are square RGB images.

    Raises:
        ValueError: If one of them is not.
    """
    for face in faces:
        if face.ndim != 3 or face.shape[0] != face.shape[1] or face.shape[2] != 3:
            raise ValueError(f"faces must have the shape (size, size, 3), got {face.shape}: pass aligned crops.")
