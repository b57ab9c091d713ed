"""Optical flow without a network: dense inverse search (DIS, Kroeger et al., 2016) as implemented in OpenCV.

It is the default for the flicker metric.  It does not depend on a checkpoint, so the values of different models are
comparable.
"""

import cv2
import numpy as np
import torch

from ..video.pixels import to_images


class DISFlow:
    """Dense inverse search with OpenCV's preset "medium", on the brightness of the images.

    Attributes:
        device (`torch.device`): Device of the images, always the CPU.
    """

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, image1: torch.Tensor, image2: torch.Tensor) -> torch.Tensor:
        """Estimate the flow from one image to another, with the interface of [`GMFlow`].

        Args:
            image1, image2 (`torch.Tensor` of shape `(1, 3, h, w)`): RGB in [-1, 1], on the CPU.

        Returns:
            `torch.Tensor` of shape `(1, 2, h, w)`, float32: from `image1` to `image2` in pixels, x first.
        """
        # An array in place of None would be the initial flow.
        flow = self.search.calc(_brightness(image1), _brightness(image2), None)  # type: ignore[call-overload]
        return torch.from_numpy(flow.transpose(2, 0, 1)[None].copy())


def _brightness(image: torch.Tensor) -> np.ndarray:
    return cv2.cvtColor(to_images(image[0]), cv2.COLOR_RGB2GRAY)
