"""LPIPS, the learned perceptual distance of two images (Zhang et al., CVPR 2018), with both of its usual backbones.

    image -> AlexNet or VGG16, features after five of its ReLUs -> unit vectors -> squared difference
          -> one weight per channel -> mean over positions -> sum over the five features

The convolutions have the published ImageNet weights and the channel weights are those of LPIPS version 0.1.  Neither
is part of this package; [`LPIPS.from_checkpoints`] reads the public files.

Legend: b images, c channels, h w rows and columns.
"""

import os
from typing import NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional as F

from .checkpoint_files import StateDict, load_checkpoint


# Mean and standard deviation of ImageNet, converted from levels in [0, 1] to levels in [-1, 1] and rounded.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10
SMALLEST_SIDE = 32  # The last features of AlexNet need 31 pixels, those of VGG16 16.


class Convolution(NamedTuple):
    """One convolution of a backbone; a ReLU follows."""

    number: int  # in the published sequence of layers
    channels: int
    kernel: int = 3
    stride: int = 1
    pool: int = 0  # side of the max pooling before it, which has stride 2; 0 for none
    compared: bool = True  # whether the features after its ReLU are compared


BACKBONES = {
    "alex": (
        Convolution(0, 64, kernel=11, stride=4),
        Convolution(3, 192, kernel=5, pool=3),
        Convolution(6, 384, pool=3),
        Convolution(8, 256),
        Convolution(10, 256),
    ),
    "vgg": (
        Convolution(0, 64, compared=False),
        Convolution(2, 64),
        Convolution(5, 128, pool=2, compared=False),
        Convolution(7, 128),
        Convolution(10, 256, pool=2, compared=False),
        Convolution(12, 256, compared=False),
        Convolution(14, 256),
        Convolution(17, 512, pool=2, compared=False),
        Convolution(19, 512, compared=False),
        Convolution(21, 512),
        Convolution(24, 512, pool=2, compared=False),
        Convolution(26, 512, compared=False),
        Convolution(28, 512),
    ),
}


class LPIPS(ModelMixin, ConfigMixin):
    """Learned perceptual distance of two images: 0 for equal images, lower is better.

    Args:
        backbone (`"alex"` or `"vgg"`, *optional*, defaults to `"alex"`): AlexNet, which the authors recommend for
            evaluation, or VGG16, which they recommend for losses.  The distances of the two are not comparable.

    Raises:
        ValueError: If there is no such backbone.
    """

    @register_to_config
    def __init__(self, backbone: str = "alex") -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f'`backbone` must be "alex" or "vgg", not {backbone!r}.')
        self.layers = BACKBONES[backbone]
        in_channels = (3, *(layer.channels for layer in self.layers[:-1]))
        self.convolutions = nn.ModuleList(
            # The first convolution of AlexNet, with an 11 x 11 kernel, has a padding of 2; all others keep the size.
            nn.Conv2d(c, layer.channels, layer.kernel, layer.stride, padding=2 if layer.stride > 1 else "same")
            for c, layer in zip(in_channels, self.layers, strict=True)
        )
        self.channel_weights = nn.ModuleList(
            nn.Conv2d(layer.channels, 1, 1, bias=False) for layer in self.layers if layer.compared
        )

    @classmethod
    def from_checkpoints(cls, backbone_file: str | os.PathLike, linear_file: str | os.PathLike) -> "LPIPS":
        """Build the network from the public files of its two parts.

        Args:
            backbone_file (`str` or `os.PathLike`): AlexNet or VGG16 with the names of torchvision
                (`features.0.weight`, ...), `.pth` or `.safetensors`.  The shapes of the weights show which one it is.
            linear_file (`str` or `os.PathLike`): Channel weights of LPIPS for that backbone (`lin0.model.1.weight`
                to `lin4.model.1.weight`).

        Returns:
            [`LPIPS`] in evaluation mode.

        Raises:
            ValueError: If a file cannot be read, or names or shapes are not those of the two networks.
        """
        published, linear = load_checkpoint(backbone_file), load_checkpoint(linear_file)
        # The classifier comes after the features and is not used.
        published = {name: value for name, value in published.items() if not name.startswith("classifier.")}
        first = published.get("features.0.weight")
        kinds: dict[tuple[int, ...], str] = {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}
        if first is None or tuple(first.shape) not in kinds:
            found = f"no features.0.weight, but {sorted(published)[:4]}" if first is None else tuple(first.shape)
            raise ValueError(
                f"{backbone_file} is neither AlexNet nor VGG16: features.0.weight must have one of the shapes "
                f"{list(kinds)}, found {found}."
            )
        lpips = cls(kinds[tuple(first.shape)])

        names = {f"features.{layer.number}": f"convolutions.{i}" for i, layer in enumerate(lpips.layers)}
        backbone_names = {
            f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in names.items() for kind in ("weight", "bias")
        }
        linear_names = {f"lin{i}.model.1.weight": f"channel_weights.{i}.weight" for i in range(5)}
        expected = lpips.state_dict()
        state_dict = {
            **_rename(published, backbone_names, expected, backbone_file),
            **_rename(linear, linear_names, expected, linear_file),
        }
        for theirs, ours in linear_names.items():
            if state_dict[ours].min() < 0:
                raise ValueError(
                    f"{linear_file} does not hold channel weights of LPIPS: the smallest value of {theirs} is "
                    f"{state_dict[ours].min():.3g}, but they must not be negative."
                )
        lpips.load_state_dict(state_dict)
        return lpips.eval()

    def forward(self, image1: torch.Tensor, image2: torch.Tensor) -> torch.Tensor:
        """Measure the distance of images.

        Args:
            image1 (`torch.Tensor` of shape `(b, 3, h, w)`): RGB in [-1, 1], sides of at least 32 pixels.
            image2 (`torch.Tensor` of shape `(b, 3, h, w)`): The images to compare with.

        Returns:
            `torch.Tensor` of shape `(b,)`: the distances.

        Raises:
            ValueError: If the shapes differ, are not `(b, 3, h, w)`, or a side is shorter than 32 pixels.
        """
        if image1.shape != image2.shape:
            raise ValueError(f"The images differ in shape: {tuple(image1.shape)} and {tuple(image2.shape)}.")
        if image1.ndim != 4 or image1.shape[1] != 3 or min(image1.shape[2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"Images must have the shape (b, 3, h, w) with sides of at least {SMALLEST_SIDE} pixels, "
                f"not {tuple(image1.shape)}."
            )
        # Two calls, not one batch: equal images then have exactly equal features.
        pairs = zip(self.channel_weights, self._features(image1), self._features(image2), strict=True)
        distances = [weigh((features1 - features2) ** 2).mean(dim=(1, 2, 3)) for weigh, features1, features2 in pairs]
        return torch.stack(distances).sum(dim=0)

    def _features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Images `(b, 3, h, w)` -> five features `(b, c, h', w')`, of unit length at every position."""
        shift, scale = (images.new_tensor(values)[:, None, None] for values in (SHIFT, SCALE))
        hidden = ((images - shift) / scale).to(self.dtype)
        features = []
        for layer, convolution in zip(self.layers, self.convolutions, strict=True):
            if layer.pool:
                hidden = F.max_pool2d(hidden, layer.pool, stride=2)
            hidden = F.relu(convolution(hidden))
            if layer.compared:
                features.append(hidden / (hidden.norm(dim=1, keepdim=True) + EPSILON))
        return features


def _rename(published: StateDict, names: dict[str, str], expected: StateDict, file: str | os.PathLike) -> StateDict:
    """Rename the weights of a file; `names` maps theirs to ours, `expected` has the shapes by our names."""
    missing, unexpected = sorted(names.keys() - published.keys()), sorted(published.keys() - names.keys())
    if missing or unexpected:
        raise ValueError(
            f"{file} does not fit: {len(missing)} weights are missing {missing[:4]}, "
            f"{len(unexpected)} are unexpected {unexpected[:4]}."
        )
    for theirs, ours in names.items():
        if published[theirs].shape != expected[ours].shape:
            raise ValueError(
                f"{file} does not fit: {theirs} must have the shape {tuple(expected[ours].shape)}, "
                f"not {tuple(published[theirs].shape)}. Pass two files for the same backbone."
            )
    return {ours: published[theirs] for theirs, ours in names.items()}
