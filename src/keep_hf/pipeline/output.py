"""What a call of the pipeline returns."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput

from ..faces.tracking.tracks import FaceTrack
from ..video.clip_formats import Frames


@dataclass
class KeepPipelineOutput(BaseOutput):
    """Restored video, or videos.

    Args:
        frames (`list[list[PIL.Image.Image]]`, `np.ndarray` or `torch.Tensor`): In diffusers' convention, a batch of
            one video: a list with one list of frames, `(1, t, h, w, 3)`, or `(1, t, 3, h, w)`; arrays and tensors in
            [0, 1]. For several videos a list with one list of frames, `(t, h, w, 3)` or `(t, 3, h, w)` for each; for
            videos in one array or tensor, one `(b, t, h, w, 3)` or `(b, t, 3, h, w)`.
        tracks (`list[FaceTrack]` or `list[list[FaceTrack]]`): The faces found, with smoothed landmarks; empty for
            aligned input. For several videos a list for each.
    """

    frames: Frames | list[np.ndarray] | list[torch.Tensor]
    tracks: list[FaceTrack] | list[list[FaceTrack]]
