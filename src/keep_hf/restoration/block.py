"""Blocks of frames, and what is computed of a block without the previous output: crops, observations, optical flow."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ..faces.alignment import crop_face, estimate_alignment
from ..faces.follower import FollowedFrame
from ..faces.tracking.tracks import PlacedFace
from ..models.recursion import KalmanRecursion, Observation
from ..stopwatch import Stopwatch
from ..video.pixels import to_tensor


@dataclass
class ObservedSegment:
    """The n frames of one track segment within a block. A segment has no gaps, so their indices are consecutive.

    Attributes:
        first_frame (`int`): Index of the first of the frames.
        matrices (`list[np.ndarray]`, n of shape `(2, 3)`): Map from pixels of a frame to pixels of its crop; the
            identity for aligned frames.
        crops (`torch.Tensor` of shape `(1, n, 3, size, size)`): RGB in [-1, 1].
        observation ([`Observation`]): Latents and features of the crops.
        flows (`torch.Tensor` of shape `(1, n or n - 1, 2, size, size)`, *optional*): From every crop to the previous
            one, in pixels. The first crop of a track segment has none. `None` without a flow network.
    """

    first_frame: int
    matrices: list[np.ndarray]
    crops: torch.Tensor
    observation: Observation
    flows: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.matrices)

    def matrix(self, frame: int) -> np.ndarray:
        """The alignment `(2, 3)` of a frame, from its pixels to those of the crop."""
        return self.matrices[frame - self.first_frame]

    def crop(self, frame: int) -> torch.Tensor:
        """The crop `(1, 3, size, size)` of a frame."""
        return self.crops[:, frame - self.first_frame]

    def observed(self, frame: int) -> Observation:
        """The observation of a frame."""
        return self.observation[:, frame - self.first_frame]

    def flow(self, frame: int) -> torch.Tensor:
        """The flow `(1, 2, size, size)` from a frame, not the first one of the track segment, to the previous one."""
        assert self.flows is not None
        # There is a flow for every frame, or for all but the first: count from the end.
        return self.flows[:, frame - self.first_frame - len(self)]


@dataclass
class Block:
    """Consecutive frames of one scene.

    Attributes:
        frames (`list[FollowedFrame]`): The frames.
        segments (`dict[int, ObservedSegment]`): What is in them, by the number of the track segment.
    """

    frames: list[FollowedFrame]
    segments: dict[int, ObservedSegment]


def observe_block(
    recursion: KalmanRecursion,
    frames: list[FollowedFrame],
    previous_crops: Mapping[int, torch.Tensor],
    *,
    aligned: bool,
    codes: bool,
    device: torch.device,
    watch: Stopwatch,
) -> Block:
    """Crop the faces of a block and compute all that does not depend on the previous output.

    Args:
        recursion ([`KalmanRecursion`]): The networks.
        frames (`list[FollowedFrame]`): The frames of the block.
        previous_crops (`Mapping[int, torch.Tensor]`): By track segment, the crop `(1, 3, size, size)` of the frame
            before the block.
        aligned (`bool`): The frames are the crops.
        codes (`bool`): Whether the codes will be used.
        device (`torch.device`): The device of the networks.
        watch ([`Stopwatch`]): Gets the seconds of the stages "align", "observe" and "flow".
    """
    size, dtype = recursion.vq.config.sample_size, recursion.vq.dtype
    faces: dict[int, list[tuple[FollowedFrame, PlacedFace]]] = {}
    for frame in frames:
        for face in frame.faces:
            faces.setdefault(face.segment, []).append((frame, face))

    segments = {}
    for segment, places in faces.items():
        with watch.time("align"):
            if aligned:
                matrices = [np.eye(2, 3) for _ in places]
                images = [cv2.resize(frame.image, (size, size), interpolation=cv2.INTER_LINEAR) for frame, _ in places]
            else:
                matrices = [estimate_alignment(face.landmarks, size) for _, face in places]
                images = [crop_face(frame.image, m, size) for (frame, _), m in zip(places, matrices, strict=True)]
            crops = to_tensor(images, device, dtype)[None]
        with watch.time("observe"):
            observation = recursion.observe(crops, codes)
        with watch.time("flow"):
            flows = None if recursion.flow is None else recursion.flows(crops, previous_crops.get(segment))
        segments[segment] = ObservedSegment(places[0][0].index, matrices, crops, observation, flows)
    return Block(frames, segments)
