"""What a call of the pipeline returns."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image

from ..faces.tracking.tracks import FaceTrack


@dataclass
class KeepPipelineOutput(BaseOutput):
    """Restored video.

    Args:
        frames (`list[list[PIL.Image.Image]]`, `np.ndarray` or `torch.Tensor`): One video, in diffusers' convention: a
            list with one list of frames, `(1, t, h, w, 3)`, or `(1, t, 3, h, w)`; arrays and tensors in [0, 1].
        tracks (`list[FaceTrack]`): The faces found, with smoothed landmarks; empty for aligned input.
    """

    frames: list[list[Image.Image]] | np.ndarray | torch.Tensor
    tracks: list[FaceTrack]
