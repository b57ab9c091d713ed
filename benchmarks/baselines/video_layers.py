"""Layers that EDVR, BasicVSR and BasicVSR++ share: residual blocks, the upsampling tail, pixels."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from keep_hf.faces.alignment import TEMPLATE_SIZE
from keep_hf.video.pixels import to_images, to_tensor

from .frames import resize_frames


# The name in mmediting of the first layers of the tail
MMEDITING = {r"^upsample(\d)\.upsample_conv\.": r"upconv\1."}
SCALE = 4  # of the tail


def lrelu(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.1)


def convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size of its input, or divides it by the stride."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2)


def enlarge(x: torch.Tensor, scale: int) -> torch.Tensor:
    """Bilinear enlargement."""
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """Two convolutions around a ReLU, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, channels)
        self.conv2 = convolution(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(self.conv1(x).relu())


def residual_blocks(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))


class Trunk(nn.Module):
    """A convolution to the channels of the network, then residual blocks."""

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.main = nn.Sequential(convolution(inputs, channels), nn.LeakyReLU(0.1), residual_blocks(channels, blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x)


class UpsamplingNetwork(nn.Module):
    """A network whose last layers enlarge its features by 4 and turn them into an image.

    Args:
        channels (`int`): Channels of the features. The layers at the full size always have 64.
        same_size (`bool`): Whether the features have a quarter of the size of the input, so that the output has the
            size of the input. Otherwise the output is four times as large.
    """

    def __init__(self, channels: int, same_size: bool) -> None:
        super().__init__()
        self.channels, self.same_size = channels, same_size
        self.upconv1 = convolution(channels, 4 * channels)
        self.upconv2 = convolution(channels, 4 * 64)
        self.conv_hr = convolution(64, 64)
        self.conv_last = convolution(64, 3)

    @property
    def device(self) -> torch.device:
        return self.conv_last.weight.device

    def enlarge_features(self, features: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
        """Features `(b, c, h, w)` and the frame that they belong to -> restored frame `(b, 3, 4h, 4w)`."""
        for layer in (self.upconv1, self.upconv2):
            features = lrelu(F.pixel_shuffle(layer(features), 2))
        return self.conv_last(lrelu(self.conv_hr(features))) + (frame if self.same_size else enlarge(frame, SCALE))

    def to_clip(self, frames: np.ndarray) -> torch.Tensor:
        """Frames `(t, h, w, 3)` of any size -> clip `(1, t, 3, size, size)` in [0, 1], of the size of the input."""
        size = TEMPLATE_SIZE if self.same_size else TEMPLATE_SIZE // SCALE
        return (to_tensor(resize_frames(frames, size), self.device)[None] + 1) / 2

    @staticmethod
    def to_frames(clip: torch.Tensor) -> np.ndarray:
        """Clip `(1, t, 3, h, w)` in [0, 1] -> frames `(t, h, w, 3)`, RGB, uint8."""
        return to_images(clip[0] * 2 - 1)
