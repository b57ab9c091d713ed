"""The direct path: a clear face is the crop plus a correction, at the resolution of the crop.

A U-Net reads the crop and gives features of the correction. They are the state of a Kalman filter of their own, with
one variance per feature and position, and the filtered features are turned into the correction:

    observe   z_obs[t], R[t] = U(x[t])                                   features and their variance
    predict   z_pred[t]      = warp(z[t-1], flow(x[t] -> x[t-1]))
              P_pred[t]      = warp(P[t-1], flow) + Q[t]                 Q: from the evidence that the flow is wrong
    gain      K[t]           = R[t] / (P_pred[t] + R[t])                 weight of the prediction, as in kalman.py
    update    z[t]           = (1 - K[t]) z_obs[t] + K[t] z_pred[t],     P[t] = K[t] P_pred[t]
    generate  y[t]           = x[t] + G(z[t])

The filter is that of the paper (section 3.1, eq. 6 to 9) with the variances kept, for features instead of latents. The
first frame of a track segment has no prediction: K = 0, P = R.

Legend: b crops, c features, h w pixels; the state has one position for every `patch_size` x `patch_size` pixels.
"""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..offloading import entry_point
from .flow.warp import warp
from .layers import ResidualBlock, SpatialAttentionBlock, swish


NUM_GROUPS = 8  # of the group norms; without them, training takes many times as many steps
ATTENTION_GROUPS = 16  # of the norm before the attention at the coarsest level
# Index of one or several of the leading dimensions of a tensor
Index = int | slice | tuple[int | slice, ...]


@dataclass
class DirectObservation:
    """What the U-Net reads from degraded crops.

    Attributes:
        features (`torch.Tensor` of shape `(b, c, h / patch_size, w / patch_size)`): z_obs.
        log_variance (`torch.Tensor` of the same shape): log R.
    """

    features: torch.Tensor
    log_variance: torch.Tensor

    @classmethod
    def join(cls, observations: list["DirectObservation"]) -> "DirectObservation | None":
        """Concatenate observations along the first dimension; `None` if there are none."""
        if not observations:
            return None
        return cls(torch.cat([o.features for o in observations]), torch.cat([o.log_variance for o in observations]))

    def __getitem__(self, index: Index) -> "DirectObservation":
        return DirectObservation(self.features[index], self.log_variance[index])


@dataclass
class DirectState:
    """The filtered features of a frame, for the frame after it.

    Attributes:
        features (`torch.Tensor` of shape `(b, c, h / patch_size, w / patch_size)`): z.
        variance (`torch.Tensor` of the same shape): P.
    """

    features: torch.Tensor
    variance: torch.Tensor

    @classmethod
    def join(cls, states: list["DirectState"]) -> "DirectState | None":
        """Concatenate states along the first dimension; `None` if there are none."""
        if not states:
            return None
        return cls(torch.cat([state.features for state in states]), torch.cat([state.variance for state in states]))

    def __getitem__(self, index: Index) -> "DirectState":
        return DirectState(self.features[index], self.variance[index])


def start_at_zero(layer: nn.Conv2d) -> None:
    """Set weight and bias of a layer to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def units(number: int, channels: int) -> nn.Sequential:
    """Residual units in sequence."""
    return nn.Sequential(*(ResidualBlock(channels, channels, NUM_GROUPS) for _ in range(number)))


def check_levels(widths: list[int], numbers: list[int], positions: int) -> None:
    """Reject levels of a direct path that do not fit each other, or its finest grid of `positions` per side."""
    if len(widths) != len(numbers):
        raise ValueError(
            f"A direct path needs a width and a number of residual units for each level, got {tuple(widths)} and "
            f"{tuple(numbers)}."
        )
    if any(width % NUM_GROUPS for width in widths) or widths[-1] % ATTENTION_GROUPS:
        raise ValueError(
            f"The widths of a direct path must be multiples of {NUM_GROUPS}, the last one of {ATTENTION_GROUPS}, got "
            f"{tuple(widths)}."
        )
    if positions % 2 ** (len(widths) - 1):
        raise ValueError(
            f"A direct path of {len(widths)} levels halves the size {len(widths) - 1} times, which {positions} x "
            f"{positions} positions do not allow: use fewer levels."
        )


class Shrink(nn.Module):
    """Half the size: squares of 2 x 2 positions become channels, then a 1 x 1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pixel_unshuffle(x, 2))


class Grow(nn.Module):
    """Twice the size: a 1 x 1 convolution, then channels become squares of 2 x 2 positions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


class DirectPath(nn.Module):
    """The U-Net, the filter and the generator of the direct path.

    Args:
        sample_size (`int`): Side of the square crop in pixels; a multiple of `patch_size * 2 ** (levels - 1)`.
        patch_size (`int`): Squares of this many pixels are one position of the state; a power of 2.
        channels (`tuple[int]`): Widths of the levels, from the finest to the coarsest; multiples of 8, the last
            one of 16.
        units_per_level (`tuple[int]`): Residual units of each level, in the encoder and in the decoder.
        tail_channels (`int`): Width of the last layers, which work at half the resolution of the crop.

    Raises:
        ValueError: If the numbers do not fit each other.
    """

    def __init__(
        self,
        sample_size: int,
        patch_size: int = 4,
        channels: tuple[int, ...] = (32, 64, 128, 192),
        units_per_level: tuple[int, ...] = (1, 2, 2, 3),
        tail_channels: int = 24,
    ) -> None:
        super().__init__()
        widths, numbers = list(channels), list(units_per_level)
        self.patch_size = patch_size
        check_levels(widths, numbers, sample_size // patch_size)
        grid = sample_size // patch_size // 2 ** (len(widths) - 1)
        self.conv_in = nn.Conv2d(3 * patch_size**2, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            units(number, width) for number, width in zip(numbers[:-1], widths[:-1], strict=True)
        )
        self.shrinks = nn.ModuleList(Shrink(*pair) for pair in itertools.pairwise(widths))
        # Crops are aligned: what belongs where in a face can be learned by position.
        self.position = nn.Parameter(torch.zeros(1, widths[-1], grid, grid))
        self.middle = nn.Sequential(
            units(numbers[-1] - 1, widths[-1]),
            SpatialAttentionBlock(widths[-1], num_groups=ATTENTION_GROUPS),
            units(1, widths[-1]),
        )
        coarse_to_fine = list(zip(widths[:0:-1], widths[-2::-1], numbers[-2::-1], strict=True))
        self.grows = nn.ModuleList(Grow(coarse, fine) for coarse, fine, _ in coarse_to_fine)
        self.merges = nn.ModuleList(nn.Conv2d(2 * fine, fine, 1) for _, fine, _ in coarse_to_fine)
        self.decoder = nn.ModuleList(units(number, fine) for _, fine, number in coarse_to_fine)
        self.to_log_variance = nn.Conv2d(widths[0], widths[0], 1)

        # The innovation, both variances and two photometric errors -> log Q
        self.evidence_in = nn.Conv2d(3 * widths[0] + 2, 32, 1)
        self.evidence = units(1, 32)
        self.evidence_out = nn.Conv2d(32, widths[0], 1)

        self.tail = units(2, widths[0])
        self.tail_grow = Grow(widths[0], tail_channels)
        self.tail_conv = nn.Conv2d(tail_channels, tail_channels, 3, padding=1)
        self.conv_out = nn.Conv2d(tail_channels, 3 * (patch_size // 2) ** 2, 3, padding=1)
        # The correction starts at zero, and all variances at one.
        for layer in (self.to_log_variance, self.evidence_out, self.conv_out):
            start_at_zero(layer)

    @entry_point
    def observe(self, crops: torch.Tensor) -> DirectObservation:
        """Read degraded crops `(b, 3, h, w)` in [-1, 1]."""
        x = self.conv_in(F.pixel_unshuffle(crops, self.patch_size))
        skips = []
        for level, shrink in zip(self.encoder, self.shrinks, strict=True):
            x = level(x)
            skips.append(x)
            x = shrink(x)
        x = self.middle(x + self.position)
        for grow, merge, level in zip(self.grows, self.merges, self.decoder, strict=True):
            x = level(merge(torch.cat([grow(x), skips.pop()], dim=1)))
        return DirectObservation(x, self.to_log_variance(x))

    @entry_point
    def update(
        self,
        observation: DirectObservation,
        state: DirectState | None,
        flow: torch.Tensor | None,
        crops: torch.Tensor,
        previous_crops: torch.Tensor | None,
    ) -> DirectState:
        """Filter the features of one frame of each of b crops (module docstring).

        Args:
            observation (`DirectObservation`): Of the crops.
            state (`DirectState`, *optional*): Of the frame before; `None` at the start of a track segment.
            flow (`torch.Tensor` of shape `(b, 2, h, w)`, *optional*): From the crops to the previous ones, in pixels.
            crops, previous_crops (`torch.Tensor` of shape `(b, 3, h, w)`): The degraded crops.
        """
        log_r = observation.log_variance.float().clamp(-10, 10)
        if state is None:
            return DirectState(observation.features, log_r.exp())
        assert flow is not None
        assert previous_crops is not None
        patch = self.patch_size
        # Evidence against the flow: what of the crop the moved previous crop does not explain, and where it comes from
        # outside the crop.
        moved = warp(previous_crops, flow)
        error = F.avg_pool2d((crops - moved).abs().mean(1, keepdim=True), patch)
        flow = F.avg_pool2d(flow, patch) / patch
        outside = 1 - warp(torch.ones_like(error), flow)
        predicted = warp(state.features, flow)
        variance = warp(state.variance, flow)
        innovation = (observation.features - predicted).abs()
        evidence = torch.cat([innovation, log_r, variance.clamp_min(1e-6).log(), error, outside], dim=1)
        log_q = self.evidence_out(self.evidence(swish(self.evidence_in(evidence.to(innovation.dtype)))))
        variance = variance.float() + log_q.float().clamp(-10, 10).exp() + 100 * outside.float()
        gain = log_r.exp() / (variance + log_r.exp())
        features = observation.features + gain.to(predicted.dtype) * (predicted - observation.features)
        return DirectState(features, gain * variance)

    @entry_point
    def generate(self, crops: torch.Tensor, state: DirectState) -> torch.Tensor:
        """The crops `(b, 3, h, w)` plus the correction, not clamped."""
        x = swish(self.tail_conv(self.tail_grow(self.tail(state.features))))
        return crops + F.pixel_shuffle(self.conv_out(x), self.patch_size // 2)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Restore crops `(b, 3, h, w)` frame by frame, without the filter."""
        observation = self.observe(crops)
        return self.generate(crops, self.update(observation, None, None, crops, None))
