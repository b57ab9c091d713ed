"""What guides the decoder: features of the crop, of the prediction and of the previous frame.

    crop ── FeatureUpdate (prediction) ──> FeatureFusion ──┐
                                                           ├──> decoder, at the size of the features
    previous frame ───────────────> CrossFrameAttention ───┘

All three blocks start as the identity: their LAST layers are zero.  If all layers were zero, as in the published code,
no gradient would ever reach them.

Legend: b images, c channels, h w pixels of a feature map.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from torch import nn

from .autoencoder import Features
from .layers import Attention, ResidualBlock, swish


def set_to_zero(*layers: nn.Module) -> None:
    """Set all parameters of layers to zero."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


class FeatureUpdate(nn.Module):
    """Kalman update of the features of the crop: features of the prediction correct the observed ones.

    f = f_obs + correction(f_obs, f_pred)

    The features come from two encoders, and detail that was warped by the flow can be a pixel off in places.  A
    scalar gain per position cannot account for that, a small network can.  Not in the paper, whose filter works on
    the latents only.

    Args:
        channels (`int`): Width of the features.
        num_groups (`int`): Groups of the group norms.
    """

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.compare = ResidualBlock(2 * channels, channels, num_groups)
        self.refine = ResidualBlock(channels, channels, num_groups)
        self.correction = nn.Conv2d(channels, channels, 3, padding=1)
        set_to_zero(self.correction)

    def forward(self, observed: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
        e = self.refine(self.compare(torch.cat([observed, predicted], dim=1)))
        return observed + self.correction(swish(e))


class FeatureFusion(nn.Module):
    """Spatial feature transform (SFT) of CodeFormer: the features of the crop scale and shift those of the decoder.

    out = decoded + fidelity * (decoded * scale(e) + shift(e)),    e = refine(encode([crop, decoded]))

    Args:
        channels (`int`): Width of the features.
        num_groups (`int`): Groups of the group norms.
        num_layers (`int`, *optional*, defaults to 1): Residual blocks; `refine` is all but the first.  The published
            network has one.
    """

    def __init__(self, channels: int, num_groups: int, num_layers: int = 1) -> None:
        super().__init__()
        self.encode = ResidualBlock(2 * channels, channels, num_groups)
        refinements = [ResidualBlock(channels, channels, num_groups) for _ in range(num_layers - 1)]
        self.refine = nn.Sequential(*refinements)
        self.scale_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale_out = nn.Conv2d(channels, channels, 3, padding=1)
        self.shift_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.shift_out = nn.Conv2d(channels, channels, 3, padding=1)
        # `refine` starts as the identity, so that a trained block can be made deeper.
        set_to_zero(self.scale_out, self.shift_out, *(block.conv2 for block in refinements))

    def forward(self, crop_features: torch.Tensor, decoded: torch.Tensor, fidelity: torch.Tensor) -> torch.Tensor:
        e = self.refine(self.encode(torch.cat([crop_features, decoded], dim=1)))
        scale = self.scale_out(F.leaky_relu(self.scale_in(e), 0.2))
        shift = self.shift_out(F.leaky_relu(self.shift_in(e), 0.2))
        return decoded + fidelity * (decoded * scale + shift)


class CrossFrameAttention(nn.Module):
    """Cross-frame attention (CFA, section 3.3, eq. 13) from a frame to this layer's output for the previous frame.

    The frame gives the queries, the previous output the keys and values.  The norms are on the branches:

    x = x + norm1(attention(x, previous));    x = x + norm2(feedforward(x))

    Args:
        channels (`int`): Width of the features.
        num_heads, head_dim (`int`): Heads of the attention and the width of one.
    """

    def __init__(self, channels: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.attention = Attention(channels, num_heads, head_dim, bias=False)
        self.norm1 = nn.LayerNorm(channels)
        self.feedforward = FeedForward(channels, activation_fn="geglu")
        self.norm2 = nn.LayerNorm(channels)
        # Both branches start at zero, and the gains receive gradients from the first step on.
        nn.init.zeros_(self.norm1.weight)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        context = previous.flatten(2).transpose(1, 2)
        tokens = tokens + self.norm1(self.attention(tokens, context, context))
        tokens = tokens + self.norm2(self.feedforward(tokens))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


@dataclass
class Guide:
    """The guide of a [`Decoder`] for one batch: SFT with the features of the crop, then cross-frame attention.

    Attributes:
        fusion (`nn.ModuleDict`): [`FeatureFusion`] by size.
        crop_features (`dict[int, torch.Tensor]`, *optional*): At the sizes of `fusion`; `None` leaves it out.
        fidelity (`torch.Tensor` of shape `(b, 1, 1, 1)`): Weight of the crop's features, 0 to 1.
        cross_frame (`nn.ModuleDict`): [`CrossFrameAttention`] by size.
        previous_features (`dict[int, torch.Tensor]`, *optional*): Decoder features of the previous frame at the sizes
            of `cross_frame`; `None` for the first frame.
    """

    fusion: nn.ModuleDict
    crop_features: Features | None
    fidelity: torch.Tensor
    cross_frame: nn.ModuleDict
    previous_features: Features | None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[-1]
        name = str(size)  # a `ModuleDict` takes no numbers
        if self.crop_features is not None and name in self.fusion:
            x = self.fusion[name](self.crop_features[size], x, self.fidelity)
        if self.previous_features is not None and name in self.cross_frame:
            x = self.cross_frame[name](x, self.previous_features[size])
        return x
