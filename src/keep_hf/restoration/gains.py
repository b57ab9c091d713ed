"""Gains of the frames of a stream: which frames the gain network sees at once, and how long a block waits for them.

The gain network is not causal: it sees `gain_window` frames at once.

`CrossFadedGains` (stream mode): a block is half a window, so every frame is in two windows. Along the block the gains
change over linearly from those of the earlier window to those of the later one, so that the result does not jump at
the end of a window. A block waits for the next one:

    window   |- block 0 -|- block 1 -|
    window               |- block 1 -|- block 2 -|

`PastGains` (low latency): every frame has a window of its own, which ends with it. Nothing waits, and nothing jumps,
but the gain network computes a whole window for each frame.

`WindowGains` (official mode): a block is a whole window, and the Kalman state is dropped after it, as in the published
script.

`NoGains`: where codes are not used, or there is no gain network, no block waits for another one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch

from ..models.kalman import KalmanGainNetwork
from ..options import RestorationOptions
from .block import ObservedSegment


Segments = Mapping[int, ObservedSegment]


class Gains(ABC):
    """What a restorer asks for its gains.

    Attributes:
        block_length (`int`): Number of frames that are observed at once.
        waits (`bool`): Whether the gains of a block need the next block.
        carries_state (`bool`): Whether the Kalman state is carried on after a block.
        memory (`dict[int, torch.Tensor]`): What is kept for the next block, by track segment.
    """

    waits = False
    carries_state = True

    def __init__(self, block_length: int) -> None:
        self.block_length = block_length
        self.memory: dict[int, torch.Tensor] = {}

    @abstractmethod
    def step(self, segments: Segments, following: Segments) -> dict[int, torch.Tensor]:
        """Return the gains `(1, n, 1, grid, grid)` of the next block, by track segment.

        Args:
            segments (`Mapping[int, ObservedSegment]`): The track segments of the block.
            following (`Mapping[int, ObservedSegment]`): Those of the block after it, if `waits`; none at the end of a
                scene.
        """

    def reset(self) -> None:
        """Start a new scene."""
        self.memory = {}


class NoGains(Gains):
    """No gains, for blocks of a given length."""

    def step(self, segments: Segments, following: Segments) -> dict[int, torch.Tensor]:
        """Return no gains."""
        return {}


class WindowGains(Gains):
    """A window is a block. `kalman` is `None` if gains are not used."""

    carries_state = False

    def __init__(self, kalman: KalmanGainNetwork | None, window: int) -> None:
        super().__init__(window)
        self.kalman = kalman

    def step(self, segments: Segments, following: Segments) -> dict[int, torch.Tensor]:
        """Return the gains of one window."""
        if self.kalman is None:
            return {}
        return {number: self.kalman(_latents(segment)).gains for number, segment in segments.items()}


class CrossFadedGains(Gains):
    """Two windows per frame; the memory is the gains of the next block in the earlier of its windows."""

    waits = True

    def __init__(self, kalman: KalmanGainNetwork, window: int) -> None:
        super().__init__(max(1, window // 2))
        self.kalman = kalman

    def step(self, segments: Segments, following: Segments) -> dict[int, torch.Tensor]:
        """Return the gains of the window of both blocks, faded in over those of the window before."""
        gains, later_gains = {}, {}
        for number, segment in segments.items():
            parts = [segment, following[number]] if number in following else [segment]
            found = self.kalman(torch.cat([_latents(part) for part in parts], dim=1)).gains
            gains[number] = found[:, : len(segment)]
            if number in following:
                later_gains[number] = found[:, len(segment) :]
            if number in self.memory:
                weight = (torch.arange(len(segment), device=found.device) + 0.5) / self.block_length
                weight = weight[:, None, None, None].to(found.dtype)
                gains[number] = (1 - weight) * self.memory[number] + weight * gains[number]
        self.memory = later_gains
        return gains


class PastGains(Gains):
    """A window for every frame; the memory is the latents of the `window - 1` frames before it."""

    def __init__(self, kalman: KalmanGainNetwork, window: int) -> None:
        super().__init__(block_length=1)
        self.kalman, self.window = kalman, window

    def step(self, segments: Segments, following: Segments) -> dict[int, torch.Tensor]:
        """Return the last gains of the windows that end with the frame."""
        gains, memory = {}, {}
        for number, segment in segments.items():
            latents = _latents(segment)
            if number in self.memory:
                latents = torch.cat([self.memory[number], latents], dim=1)
            gains[number] = self.kalman(latents).gains[:, -1:]
            memory[number] = latents[:, max(latents.shape[1] - self.window + 1, 0) :]
        self.memory = memory
        return gains


def choose_gains(kalman: KalmanGainNetwork | None, window: int, options: RestorationOptions) -> Gains:
    """Choose which frames the gain network sees.

    Args:
        kalman ([`KalmanGainNetwork`], *optional*): The network; `None` where nothing needs gains, as only codes do.
        window (`int`): Number of frames that it sees at once.
        options ([`RestorationOptions`]): `gain_mode` and `latency`.
    """
    if options.gain_mode == "official":
        return WindowGains(kalman, window)
    if kalman is None:
        return NoGains(1 if options.latency == "low" else max(1, window // 2))
    return PastGains(kalman, window) if options.latency == "low" else CrossFadedGains(kalman, window)


def _latents(segment: ObservedSegment) -> torch.Tensor:
    assert segment.observation.latents is not None, "only codes have gains"
    return segment.observation.latents
