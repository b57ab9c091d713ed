"""BasicVSR++ (Chan et al., arXiv 2104.13371): four passes through the clip, each aligned with two earlier frames.

The published files, all in the dialect of mmediting, enlarge by 4 (`..._c64n7_8x1_600k_reds4_...`), or restore at the
same size (`..._ntire_decompress_...`, deblurring, denoising).  None was trained on faces.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from keep_hf.models.flow.warp import warp

from .deformable import DeformableConvolution
from .loading import Checkpoint
from .recurrent import MMEDITING, Flows, RecurrentNetwork
from .video_layers import SCALE, Trunk, convolution


BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")
GROUPS = 16  # of the offsets
MAX_RESIDUE = 10.0  # pixels by which an offset may differ from the flow
MIN_SIDE = 64  # of the clip from which the flow is estimated


@dataclass(frozen=True)
class BranchState:
    """State of a branch after a frame.

    Args:
        last, second_last (`torch.Tensor` of shape `(b, c, h, w)`): Features of the last two frames.
        flow (`torch.Tensor` of shape `(b, 2, h, w)`, *optional*): Flow from the last to the second last; `None` after
            the first frame, when `second_last` is zero.
    """

    last: torch.Tensor
    second_last: torch.Tensor
    flow: torch.Tensor | None


@dataclass(frozen=True)
class ForwardStates:
    """What is carried over to the next window.

    Args:
        frame (`torch.Tensor` of shape `(b, 3, h, w)`): The last frame, as the flow network takes it.
        branches (`dict[str, BranchState]`): The forward branches.
    """

    frame: torch.Tensor
    branches: dict[str, BranchState]


class SecondOrderAlignment(DeformableConvolution):
    """Aligns the features of two earlier frames, with offsets near the optical flow.

    Args:
        channels (`int`): Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(2 * channels, channels)
        self.conv_offset = nn.Sequential(
            *(convolution(3 * channels + 4, channels), nn.LeakyReLU(0.1)),
            *(convolution(channels, channels), nn.LeakyReLU(0.1)),
            *(convolution(channels, channels), nn.LeakyReLU(0.1)),
            convolution(channels, 27 * GROUPS),
        )

    def forward(self, features: torch.Tensor, state: BranchState, flow: torch.Tensor) -> torch.Tensor:
        """Features of the frame `(b, c, h, w)`, state of the branch, flow to the last frame -> aligned state."""
        second_flow = torch.zeros_like(flow) if state.flow is None else flow + warp(state.flow, flow)
        condition = (warp(state.last, flow), features, warp(state.second_last, second_flow))
        residue, mask = self.split(self.conv_offset(torch.cat((*condition, flow, second_flow), dim=1)))
        # The first half of the groups serves the last frame.  Offsets are (y, x), flows are (x, y).
        repeats = residue.shape[1] // 4
        flows = [pair.flip(1).repeat(1, repeats, 1, 1) for pair in (flow, second_flow)]
        offsets = MAX_RESIDUE * residue.tanh() + torch.cat(flows, dim=1)
        return self.convolve(torch.cat((state.last, state.second_last), dim=1), offsets, mask)


class BasicVSRPlusPlus(RecurrentNetwork[ForwardStates]):
    """Restores each frame from its features and the states of four branches.

    Args:
        channels (`int`, *optional*, defaults to 64): Channels of features and states.
        blocks (`int`, *optional*, defaults to 7): Residual blocks per branch.
        same_size (`bool`, *optional*, defaults to `False`): Whether the output has the size of the input, and the
            features a quarter of it; otherwise the output is four times as large.
    """

    def __init__(self, channels: int = 64, blocks: int = 7, same_size: bool = False) -> None:
        super().__init__(channels, same_size)
        self.feat_extract: nn.Module = Trunk(3, channels, 5)
        if same_size:
            self.feat_extract = nn.Sequential(
                *(convolution(3, channels, stride=2), nn.LeakyReLU(0.1)),
                *(convolution(channels, channels, stride=2), nn.LeakyReLU(0.1)),
                Trunk(channels, channels, 5),
            )
        self.deform_align = nn.ModuleDict({name: SecondOrderAlignment(channels) for name in BRANCHES})
        self.backbone = nn.ModuleDict(
            {name: Trunk((2 + index) * channels, channels, blocks) for index, name in enumerate(BRANCHES)}
        )
        self.reconstruction = Trunk(5 * channels, channels, 5)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> "BasicVSRPlusPlus":
        """Load a published file of either dialect; see the convention of the folder."""
        checkpoint = Checkpoint.read(path, "BasicVSR++", "generator.").rename(MMEDITING)
        channels = checkpoint.shape("reconstruction.main.0.weight")[0]
        blocks = checkpoint.count("backbone.backward_1.main.2")
        return checkpoint.load_into(cls(channels, blocks, "feat_extract.0.weight" in checkpoint.weights))

    def forward(self, clip: torch.Tensor, carried: ForwardStates | None = None) -> tuple[torch.Tensor, ForwardStates]:
        small = self.shrink(clip) if self.same_size else clip
        if min(small.shape[3:]) < MIN_SIDE:
            raise ValueError(f"BasicVSR++ needs features of at least {MIN_SIDE} pixels, got {tuple(small.shape[3:])}.")
        to_next, to_previous = self.flows(small, carried.frame if carried else None)
        frames = clip.unbind(1)
        # Of each frame: its features, then the states of the branches so far
        known = [[self.feat_extract(frame)] for frame in frames]
        states = {}
        for name in BRANCHES:
            is_backward = name.startswith("backward")
            flows, step = (to_next, -1) if is_backward else (to_previous, 1)
            state = None if is_backward or carried is None else carried.branches[name]
            states[name] = self.propagate(name, known[::step], flows[::step], state)
        restored = [
            self.enlarge_features(self.reconstruction(torch.cat(parts, dim=1)), frame)
            for parts, frame in zip(known, frames, strict=True)
        ]
        after = {name: state for name, state in states.items() if name.startswith("forward")}
        return torch.stack(restored, dim=1), ForwardStates(small[:, -1], after)

    @staticmethod
    def shrink(clip: torch.Tensor) -> torch.Tensor:
        """A quarter of the size, bicubic without antialiasing."""
        small = F.interpolate(clip.flatten(0, 1), scale_factor=1 / SCALE, mode="bicubic", align_corners=False)
        return small.unflatten(0, clip.shape[:2])

    def propagate(
        self, name: str, known: list[list[torch.Tensor]], flows: Flows, state: BranchState | None
    ) -> BranchState:
        """Pass a branch through the frames.

        Args:
            name (`str`): Name of the branch.
            known (`list[list[torch.Tensor]]`): Features and states of each frame, in the order in which they are
                visited; the new state of each frame is appended.
            flows (`list`): Of each frame to the one visited before; `None` at the first one.
            state ([`BranchState`], *optional*): State before the first frame.

        Returns:
            [`BranchState`]: State after the last frame.
        """
        for parts, flow in zip(known, flows, strict=True):
            features = parts[0]
            aligned = last = torch.zeros_like(features)
            if state is not None and flow is not None:
                aligned, last = self.deform_align[name](features, state, flow), state.last
            new = aligned + self.backbone[name](torch.cat((*parts, aligned), dim=1))
            state = BranchState(new, last, flow)
            parts.append(new)
        if state is None:
            raise ValueError("BasicVSR++ needs a clip of at least one frame.")
        return state
