"""Networks of other projects that restore single aligned faces (GFPGAN, RestoreFormer), loaded by spandrel."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from keep_hf.faces.alignment import TEMPLATE_SIZE
from keep_hf.restoration.background import load_image_network
from keep_hf.video.pixels import to_images, to_tensor


if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor


def load_face_network(model_file: str | Path, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    """Load a network that restores single aligned faces.

    Args:
        model_file (`str` or `Path`): `.pth` or `.safetensors` file of a network that spandrel supports; no code of the
            file is executed.
        device (`torch.device`): Device of the network.

    Returns:
        `Callable[[np.ndarray], np.ndarray]`: From a face to the restored face, both RGB, uint8. The network gets the
        face at 512 pixels, enlarged linearly.

    Raises:
        ValueError: If spandrel is not installed, or the file is missing or contains no such network.
    """
    model = load_image_network(model_file)
    if model.purpose != "FaceSR":
        raise ValueError(f"{model_file} is a {model.architecture.name}, which does not restore faces.")
    return FaceNetwork(model.to(device).eval())


class FaceNetwork:
    """A network `(1, 3, 512, 512)` -> `(1, 3, size, size)`, RGB in [0, 1], as a function of images.

    Args:
        model (`spandrel.ImageModelDescriptor`): The network, with the attribute `device`.
    """

    def __init__(self, model: "ImageModelDescriptor") -> None:
        self.model = model

    @torch.inference_mode()
    def __call__(self, face: np.ndarray) -> np.ndarray:
        large = cv2.resize(face, (TEMPLATE_SIZE, TEMPLATE_SIZE), interpolation=cv2.INTER_LINEAR)
        image = to_tensor(large, self.model.device)[None]
        return to_images(self.model((image + 1) / 2)[0] * 2 - 1)
