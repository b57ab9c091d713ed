"""Networks of other projects that restore single aligned faces (GFPGAN, RestoreFormer), loaded by spandrel."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from keep_hf.faces.alignment import TEMPLATE_SIZE
from keep_hf.models.checkpoint_files import load_checkpoint
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
    if find_spec("spandrel") is None:
        raise ValueError("spandrel:FILE needs spandrel, which is not installed: pip install spandrel.")
    weights = load_checkpoint(model_file)
    import spandrel

    try:
        model = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(weights))
    except (spandrel.UnsupportedModelError, RuntimeError) as error:
        raise ValueError(f"{model_file} contains no network that spandrel {spandrel.__version__} supports.") from error
    if not isinstance(model, spandrel.ImageModelDescriptor) or model.purpose != "FaceSR":
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
