"""Optical flow without a network: DIS (Kroeger et al., 2016), as OpenCV has it.

It is the judge of flicker where no other is named: it knows no faces and no checkpoint, so that figures of different
models compare.
"""

import cv2
import numpy as np
import torch

from ..video.pixels import to_images


class DISFlow:
    """Dense inverse search at OpenCV's preset "medium", on the brightness of the pictures.

    Attributes:
        device (`torch.device`): Where the pictures are expected: the CPU.
    """

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, image1: torch.Tensor, image2: torch.Tensor) -> torch.Tensor:
        """Find where the pixels of one picture are in another, as [`GMFlow`] does.

        Args:
            image1 (`torch.Tensor` of shape `(1, 3, h, w)`): RGB in [-1, 1], on the CPU.
            image2 (`torch.Tensor` of shape `(1, 3, h, w)`): The other picture.

        Returns:
            `torch.Tensor` of shape `(1, 2, h, w)`, float32: from `image1` to `image2` in pixels, x first.
        """
        flow = self.search.calc(_brightness(image1), _brightness(image2), None)
        return torch.from_numpy(flow.transpose(2, 0, 1)[None].copy())


def _brightness(image: torch.Tensor) -> np.ndarray:
    return cv2.cvtColor(to_images(image[0]), cv2.COLOR_RGB2GRAY)
