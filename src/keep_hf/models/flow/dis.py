"""Optical flow without a network: dense inverse search (DIS, Kroeger et al., 2016) as implemented in OpenCV.

It is the flow of pipelines with a direct path, and the default for the flicker metric: it does not depend on a
checkpoint, so the values of different models are comparable.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ...video.pixels import to_images
from .gmflow import FlowOutput


CONFIG_FILE = "config.json"


class DISFlow:
    """Dense inverse search with OpenCV's preset "medium", on the brightness of the images.

    Args:
        side (`int`, *optional*): Larger images are reduced to this side for the search, and their flow is enlarged. By
            default the search has the resolution of the images.
    """

    def __init__(self, side: int | None = None) -> None:
        self.side = side
        self.search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    @property
    def device(self) -> torch.device:
        """Device on which the metrics pass images, always the CPU."""
        return torch.device("cpu")

    @classmethod
    def from_pretrained(cls, folder: str | Path, **kwargs: Any) -> "DISFlow":
        """Load from a folder that `save_pretrained` wrote; `kwargs`, which a diffusers pipeline passes, are not used.

        Raises:
            ValueError: If the folder has no configuration of this class.
        """
        path = Path(folder) / CONFIG_FILE
        if not path.is_file():
            raise ValueError(f"{folder} has no {CONFIG_FILE} of DISFlow: save the pipeline again.")
        return cls(json.loads(path.read_text())["side"])

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """Write the configuration to a folder; `kwargs`, which a diffusers pipeline passes, are not used."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        content = {"_class_name": type(self).__name__, "side": self.side}
        (Path(folder) / CONFIG_FILE).write_text(json.dumps(content, indent=2) + "\n")

    def __call__(
        self, image1: torch.Tensor, image2: torch.Tensor, return_dict: bool = True
    ) -> FlowOutput | tuple[torch.Tensor]:
        """Estimate the flow from one image to another, with the interface of [`GMFlow`].

        Args:
            image1, image2 (`torch.Tensor` of shape `(1, 3, h, w)`): RGB in [-1, 1].
            return_dict (`bool`, *optional*, defaults to `True`): Whether to return a [`FlowOutput`].

        Returns:
            [`FlowOutput`] or a tuple of its field, the flow `(1, 2, h, w)`.
        """
        flow = self.flow_between_frames(torch.stack([image2, image1], dim=1))[:, 0]
        return FlowOutput(flow) if return_dict else (flow,)

    def flow_between_frames(self, frames: torch.Tensor, batch_size: int = 1) -> torch.Tensor:
        """Estimate the flow from every frame of a clip, except the first, back to the frame before it.

        Args:
            frames (`torch.Tensor` of shape `(b, t, 3, h, w)`): RGB in [-1, 1].
            batch_size (`int`, *optional*): Part of the interface of [`GMFlow`]; pairs are searched one by one.

        Returns:
            `torch.Tensor` of shape `(b, t - 1, 2, h, w)`, float32, on the device of the frames: entry `k` is the flow
            from frame `k + 1` to `k`.
        """
        b, t, _, height, width = frames.shape
        if t == 1:
            return frames.new_zeros((b, 0, 2, height, width), dtype=torch.float32)
        clips = [[self._brightness(frame) for frame in clip] for clip in frames.float().cpu()]
        flows = np.stack(
            [
                # An array in place of None would be the initial flow.
                self.search.calc(current, previous, None)  # type: ignore[call-overload]
                for clip in clips
                for previous, current in itertools.pairwise(clip)
            ]
        )
        flow = torch.from_numpy(flows.transpose(0, 3, 1, 2).copy()).to(frames.device)
        if flow.shape[2:] != (height, width):
            scale = flow.new_tensor([width / flow.shape[3], height / flow.shape[2]])[:, None, None]
            flow = F.interpolate(flow, (height, width), mode="bilinear") * scale
        return flow.unflatten(0, (b, t - 1))

    def _brightness(self, image: torch.Tensor) -> np.ndarray:
        grey = cv2.cvtColor(to_images(image), cv2.COLOR_RGB2GRAY)
        if self.side is None or max(grey.shape) <= self.side:
            return grey
        factor = self.side / max(grey.shape)
        size = round(grey.shape[1] * factor), round(grey.shape[0] * factor)
        return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
