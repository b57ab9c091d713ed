"""The adversary of stages 1 and 3: a discriminator of patches, its losses, and when it takes part.

Hinge losses (Lim and Ye, 2017): the discriminator D minimizes mean(max(0, 1 - D(sharp))) + mean(max(0, 1 +
D(restored))), the generator -mean(D(restored)).
"""

import argparse
import itertools
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """Scores overlapping patches of clips; the score of a real patch should be positive.

    Args:
        over_time (`bool`): Whether each layer sees three frames, or every frame is scored alone.
        channels (`int`, *optional*, defaults to 32): Output channels of the first layer. They double with each layer,
            up to 8 times.
        num_layers (`int`, *optional*, defaults to 3): Number of layers, each of which halves the size.
    """

    def __init__(self, over_time: bool, channels: int = 32, num_layers: int = 3) -> None:
        super().__init__()
        widths = [3, *(channels * min(2**i, 8) for i in range(num_layers))]
        time_kernel, time_padding = (3, 1) if over_time else (1, 0)

        def layer(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Conv3d:
            return nn.Conv3d(
                in_channels,
                out_channels,
                (time_kernel, kernel, kernel),
                (1, stride, stride),
                (time_padding, 1, 1),
                padding_mode="replicate",
            )

        # The spectral norm of every layer but the last is 1, which bounds the slope of the whole network.
        self.layers = nn.ModuleList(spectral_norm(layer(a, b, 4, 2)) for a, b in itertools.pairwise(widths))
        self.to_scores = layer(widths[-1], 1, 3, 1)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Scores `(b, 1, t, h', w')` of the patches of clips `(b, t, 3, h, w)`."""
        hidden = clips.transpose(1, 2)
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.2)
        return self.to_scores(hidden)


class ImageDiscriminator(nn.Module):
    """Scores overlapping patches of the frames of clips, in two dimensions, which is faster than three.

    Args:
        channels (`int`, *optional*, defaults to 48): Output channels of the first layer. They double with each layer.
        num_layers (`int`, *optional*, defaults to 4): Number of layers, each of which halves the size.
    """

    def __init__(self, channels: int = 48, num_layers: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = [3, *(channels * 2**i for i in range(num_layers))]
        for before, width in itertools.pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(before, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Scores `(b * t, 1, h', w')` of the patches of clips `(b, t, 3, h, w)`."""
        return self.layers(clips.flatten(0, 1))


@dataclass
class Adversary:
    """A discriminator and its settings. It is no module, so that its parameters are not those of the stage.

    Attributes:
        discriminator ([`PatchDiscriminator`] or [`ImageDiscriminator`]): Trained by the trainer, with an optimizer of
            its own.
        weight (`float`): Weight of the generator's loss.
        start (`float`): Fraction of the run after which the adversary takes part, in [0, 1].
        learning_rate (`float`): Of the discriminator, constant.
        active (`bool`): Whether it takes part in this step.
    """

    discriminator: nn.Module
    weight: float
    start: float
    learning_rate: float = 1e-4
    active: bool = field(default=False, init=False)

    @classmethod
    def from_args(cls, args: argparse.Namespace, over_time: bool) -> "Adversary | None":
        """The adversary from the options of `losses.add_arguments`, or `None` if its weight is 0."""
        if not args.adversarial_weight:
            return None
        discriminator = PatchDiscriminator(over_time)
        return cls(discriminator, args.adversarial_weight, args.adversarial_start, args.discriminator_learning_rate)

    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.discriminator.parameters(),
            self.learning_rate,
            betas=(0.5, 0.99),
            weight_decay=0.0,
            fused=torch.cuda.is_available(),
        )

    def before_step(self, step: int, done: float) -> None:
        """Decide whether the adversary takes part in a step, when the part `done` of the run is over."""
        self.active = done >= self.start

    def generator_loss(self, restored: torch.Tensor) -> torch.Tensor:
        """-mean(D(restored)), for clips `(b, t, 3, h, w)`. The discriminator gets no gradients from it."""
        self.discriminator.requires_grad_(False)
        loss = -self.discriminator(restored).float().mean()
        self.discriminator.requires_grad_(True)
        return loss


def discriminator_loss(scores: torch.Tensor) -> torch.Tensor:
    """The hinge loss of scores, the first half for sharp clips and the second half for restored ones."""
    sharp, restored = scores.float().chunk(2)
    return F.relu(1 - sharp).mean() + F.relu(1 + restored).mean()


def adaptive_weight(image_loss: torch.Tensor, generator_loss: torch.Tensor, last_layer: torch.Tensor) -> torch.Tensor:
    """The ratio of the gradient norms of two losses at the last layer (Esser et al., 2021, section 3.2).

    Multiplied by it, the loss of the generator has a gradient as large as that of the image, whatever the scale of the
    discriminator's scores. All processes compute it from the gradients of all of them, so that their number does not
    change it.
    """
    image_gradient, generator_gradient = (
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in (image_loss, generator_loss)
    )
    return ratio_of_norms(image_gradient, generator_gradient)


def ratio_of_norms(image_gradient: torch.Tensor, generator_gradient: torch.Tensor) -> torch.Tensor:
    """The ratio of the norms of two gradients, each summed over all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for gradient in (image_gradient, generator_gradient):
            torch.distributed.all_reduce(gradient)
    return (image_gradient.norm() / (generator_gradient.norm() + 1e-4)).clamp(max=1e4)
