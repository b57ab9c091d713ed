"""What BasicVSR and BasicVSR++ share: the optical flow between neighbours, and clips in windows."""

from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
import torch

from .spynet import MMEDITING as SPYNET_NAMES
from .spynet import SPyNet
from .video_layers import MMEDITING as TAIL_NAMES
from .video_layers import UpsamplingNetwork


MMEDITING = SPYNET_NAMES | TAIL_NAMES
WINDOW = 15  # frames, that of the published program

# The flow of every frame to its neighbour, `(b, 2, h, w)`; None where there is no neighbour.
Flows = list[torch.Tensor | None]
Carried = TypeVar("Carried")


class RecurrentNetwork(UpsamplingNetwork, Generic[Carried]):
    """A network that passes states through a clip, backward and forward.

    The published program cuts a clip into windows, and restores each as if it were a clip of its own: at the seams
    both states are lost.  The forward state can be carried over, with which the forward direction is that of the
    uncut clip.  The backward state would need the frames to come.

    Args:
        channels (`int`): Channels of the features.
        same_size (`bool`): Whether input and output have the same size; otherwise the output is four times as large.
    """

    def __init__(self, channels: int, same_size: bool) -> None:
        super().__init__(channels, same_size)
        self.spynet = SPyNet()

    def forward(self, clip: torch.Tensor, carried: Carried | None = None) -> tuple[torch.Tensor, Carried]:
        """Restore a clip.

        Args:
            clip (`torch.Tensor` of shape `(b, t, 3, h, w)`): RGB in [0, 1].
            carried (*optional*): Forward state after the previous window, if this is not the start of the clip.

        Returns:
            The restored clip, not clamped, and the forward state after it.
        """
        raise NotImplementedError

    def flows(self, clip: torch.Tensor, before: torch.Tensor | None = None) -> tuple[Flows, Flows]:
        """The flows of each frame to the next and to the previous one.

        Args:
            clip (`torch.Tensor` of shape `(b, t, 3, h, w)`): RGB in [0, 1].
            before (`torch.Tensor` of shape `(b, 3, h, w)`, *optional*): The frame before the clip.
        """
        frames = clip.unbind(1)
        to_next: Flows = [self.spynet(frame, following) for frame, following in pairwise(frames)]
        to_previous: Flows = [self.spynet(following, frame) for frame, following in pairwise(frames)]
        first = None if before is None else self.spynet(frames[0], before)
        return [*to_next, None], [first, *to_previous]

    @torch.inference_mode()
    def restore(self, frames: np.ndarray, window: int = WINDOW, carry: bool = False) -> np.ndarray:
        """Restore the frames of a face.

        Args:
            frames (`np.ndarray` of shape `(t, h, w, 3)`): RGB, uint8, of any size.
            window (`int`, *optional*, defaults to 15): Frames per window; the windows do not overlap.
            carry (`bool`, *optional*, defaults to `False`): Whether the forward state is carried over to the next
                window. The published program drops it.

        Returns:
            `np.ndarray` of shape `(t, 512, 512, 3)`: RGB, uint8.
        """
        restored, carried = [], None
        for start in range(0, len(frames), window):
            clip = self.to_clip(frames[start : start + window])
            output, state = self(clip, carried)
            carried = state if carry else None
            restored.append(self.to_frames(output))
        return np.concatenate(restored)
