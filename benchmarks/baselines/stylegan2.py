"""The generator of StyleGAN2, as GFPGAN and GPEN use it to restore faces.

    constant 4 x 4 ──> styled convolution ──> per level: styled convolution that doubles the size, styled convolution
                              └──> RGB ──────────────────> enlarged, plus the RGB of the level ──> image

A style is a vector that scales the input channels of a convolution.  The two networks double the size in different
ways (`upsampling_conv`, `upsampling_image`), and what StyleGAN2 uses as noise is a plane of numbers in GFPGAN and
features of the degraded face in GPEN.

Legend: b images, c channels, h w pixels, s channels of a style.  Parameters have the names of GFPGAN's files.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from .loading import Checkpoint


class ModulatedConv(nn.Module):
    """Convolution with weights that depend on a style.

    With the scales y = A style + a of the input channels, the weights are K' = K y, divided by the norm of K' for
    each output channel if `demodulate`.  Scaling the input by y and the output by 1 / |K'| computes the same, with
    the same K for all images.

    Args:
        in_channels, out_channels, style_channels (`int`): Widths.
        kernel_size (`int`): 3, or 1 for the convolution to RGB.
        demodulate (`bool`): Whether the weights are normalized.
    """

    def __init__(
        self, in_channels: int, out_channels: int, style_channels: int, kernel_size: int = 3, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.demodulate = demodulate
        self.weight = nn.Parameter(torch.randn(1, out_channels, in_channels, kernel_size, kernel_size))
        self.modulation = nn.Linear(style_channels, in_channels)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """Features `(b, in, h, w)`, styles `(b, s)` -> features `(b, out, h, w)`."""
        scale = self.modulation(style)
        x = self.convolve(x * scale[:, :, None, None])
        if self.demodulate:
            energy = scale.square() @ self.weight[0].square().sum((2, 3)).T  # |K'|^2 of each output channel
            x = x * (energy + 1e-8).rsqrt()[:, :, None, None]
        return x

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight[0], padding=self.weight.shape[-1] // 2)


class StyledConv(nn.Module):
    """lrelu(sqrt(2) conv(x, style) + weight noise + bias), or the two first terms concatenated.

    Args:
        conv ([`ModulatedConv`]): The convolution.
        concatenate (`bool`): Whether the noise is concatenated; then it has as many channels as the output of `conv`.
    """

    def __init__(self, conv: ModulatedConv, concatenate: bool) -> None:
        super().__init__()
        self.concatenate = concatenate
        self.modulated_conv = conv
        self.weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, conv.weight.shape[1] * (2 if concatenate else 1), 1, 1))

    def forward(self, x: torch.Tensor, style: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        x = 2**0.5 * self.modulated_conv(x, style)
        noise = self.weight * noise
        x = torch.cat([x, noise], dim=1) if self.concatenate else x + noise
        return F.leaky_relu(x + self.bias, 0.2)


class ToRGB(nn.Module):
    """Features -> their part of the image, which is added to the enlarged image of the level before."""

    def __init__(self, in_channels: int, style_channels: int, upsample: nn.Module) -> None:
        super().__init__()
        self.upsample = upsample
        self.modulated_conv = ModulatedConv(in_channels, 3, style_channels, kernel_size=1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: torch.Tensor, style: torch.Tensor, image: torch.Tensor | None = None) -> torch.Tensor:
        rgb = self.modulated_conv(x, style) + self.bias
        return rgb if image is None else self.upsample(image) + rgb


class Generator(nn.Module):
    """Styles -> image.

    Args:
        widths (`Sequence[int]`): Channels at 4 x 4, 8 x 8 and so on.
        style_channels (`int`): Channels of a style.
        concatenate (`bool`): Whether the noise is concatenated to the features, in place of being added.
        upsampling_conv (`type[ModulatedConv]`): The convolution that doubles the size.
        upsampling_image (`Callable[[], nn.Module]`): Builds a layer that doubles the size of an image.
    """

    def __init__(
        self,
        widths: Sequence[int],
        style_channels: int,
        concatenate: bool,
        upsampling_conv: type[ModulatedConv],
        upsampling_image: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        factor = 2 if concatenate else 1
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.style_conv1 = StyledConv(ModulatedConv(widths[0], widths[0], style_channels), concatenate)
        self.to_rgb1 = ToRGB(factor * widths[0], style_channels, nn.Identity())
        self.style_convs = nn.ModuleList()
        for before, width in pairwise(widths):
            for conv in (
                upsampling_conv(factor * before, width, style_channels),
                ModulatedConv(factor * width, width, style_channels),
            ):
                self.style_convs.append(StyledConv(conv, concatenate))
        self.to_rgbs = nn.ModuleList(ToRGB(factor * width, style_channels, upsampling_image()) for width in widths[1:])

    def forward(
        self,
        styles: Sequence[torch.Tensor],
        noises: Sequence[torch.Tensor],
        adjust: Callable[[torch.Tensor, int], torch.Tensor] = lambda x, level: x,
    ) -> torch.Tensor:
        """Generate images.

        Args:
            styles (`Sequence[torch.Tensor]`): `(b, s)` each, two more than twice the number of doublings.
            noises (`Sequence[torch.Tensor]`): Of the size of each styled convolution, one less than `styles`.
            adjust (`Callable[[torch.Tensor, int], torch.Tensor]`): Changes the features after each doubling, given
                its number from 0 on.

        Returns:
            `torch.Tensor` of shape `(b, 3, h, w)`, RGB around [-1, 1], not clamped.
        """
        x = self.style_conv1(self.constant, styles[0], noises[0])
        image = self.to_rgb1(x, styles[1])
        for level, to_rgb in enumerate(self.to_rgbs):
            # A level shares its first style with the RGB of the level before.
            first = 2 * level + 1
            x = self.style_convs[first - 1](x, styles[first], noises[first])
            x = self.style_convs[first](adjust(x, level), styles[first + 1], noises[first + 1])
            image = to_rgb(x, styles[first + 2], image)
        return image


def read_sizes(checkpoint: Checkpoint, prefix: str) -> tuple[list[int], int]:
    """The `widths` and `style_channels` of the generator whose weights begin with a prefix."""
    first = f"{prefix}style_conv1.modulated_conv"
    names = [f"{prefix}style_convs.{2 * i + 1}.modulated_conv" for i in range(checkpoint.count(f"{prefix}to_rgbs"))]
    widths = [checkpoint.shape(f"{name}.weight")[1] for name in (first, *names)]
    return widths, checkpoint.shape(f"{first}.modulation.weight")[1]
