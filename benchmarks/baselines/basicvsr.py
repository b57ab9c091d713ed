"""BasicVSR (Chan et al., arXiv 2012.02181): a backward and a forward state, warped along the optical flow.

The published files enlarge by 4 and were trained on REDS or Vimeo-90K, without faces, for clean bicubic downsampling
(or blur).  Both dialects load: BasicSR (`BasicVSR_REDS4-543c8261.pth`) and mmediting
(`basicvsr_reds4_20120409-0e599677.pth`).
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from keep_hf.models.flow.warp import warp

from .loading import Checkpoint
from .recurrent import MMEDITING, Flows, RecurrentNetwork
from .video_layers import Trunk, convolution, lrelu


NAMES = {r"^(backward|forward)_resblocks\.": r"\1_trunk.", **MMEDITING}


@dataclass(frozen=True)
class ForwardState:
    """What is carried over to the next window.

    Args:
        frame (`torch.Tensor` of shape `(b, 3, h, w)`): The last frame.
        state (`torch.Tensor` of shape `(b, c, h, w)`): Forward state of this frame.
    """

    frame: torch.Tensor
    state: torch.Tensor


class BasicVSR(RecurrentNetwork[ForwardState]):
    """Restores each frame from itself, a state of all later frames, and a state of all earlier ones.

    Args:
        channels (`int`, *optional*, defaults to 64): Channels of the states.
        blocks (`int`, *optional*, defaults to 30): Residual blocks per direction.
    """

    def __init__(self, channels: int = 64, blocks: int = 30) -> None:
        super().__init__(channels, same_size=False)
        self.backward_trunk = Trunk(3 + channels, channels, blocks)
        self.forward_trunk = Trunk(3 + channels, channels, blocks)
        self.fusion = convolution(2 * channels, channels, 1)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> "BasicVSR":
        """Load a published file of either dialect; see the convention of the folder."""
        checkpoint = Checkpoint.read(path, "BasicVSR", "generator.").rename(NAMES)
        channels = checkpoint.shape("fusion.weight")[0]
        return checkpoint.load_into(cls(channels, checkpoint.count("backward_trunk.main.2")))

    def forward(self, clip: torch.Tensor, carried: ForwardState | None = None) -> tuple[torch.Tensor, ForwardState]:
        frames = list(clip.unbind(1))
        to_next, to_previous = self.flows(clip, carried.frame if carried else None)
        backward = self.propagate(self.backward_trunk, frames[::-1], to_next[::-1])[::-1]
        forward = self.propagate(self.forward_trunk, frames, to_previous, carried.state if carried else None)
        restored = [
            self.enlarge_features(lrelu(self.fusion(torch.cat(states, dim=1))), frame)
            for frame, *states in zip(frames, backward, forward, strict=True)
        ]
        return torch.stack(restored, dim=1), ForwardState(frames[-1], forward[-1])

    def propagate(
        self, trunk: Trunk, frames: list[torch.Tensor], flows: Flows, state: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Pass a state through the frames.

        Args:
            trunk ([`Trunk`]): Computes the next state.
            frames (`list[torch.Tensor]`): In the order in which they are visited, each `(b, 3, h, w)`.
            flows (`list`): Of each frame to the one visited before; `None` at the first one.
            state (`torch.Tensor` of shape `(b, c, h, w)`, *optional*): State before the first frame.

        Returns:
            `list[torch.Tensor]`: The state of each frame, `(b, c, h, w)`.
        """
        states = []
        for frame, flow in zip(frames, flows, strict=True):
            batch, _, height, width = frame.shape
            if state is None or flow is None:
                warped = frame.new_zeros(batch, self.channels, height, width)
            else:
                warped = warp(state, flow)
            state = trunk(torch.cat((frame, warped), dim=1))
            states.append(state)
        return states
