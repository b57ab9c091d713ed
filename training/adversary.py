"""The adversary of stages 1 and 3: a network that tells made faces from true ones, patch by patch, and its losses.

Hinge losses (Lim and Ye, 2017): the discriminator learns mean(max(0, 1 - D(true))) + mean(max(0, 1 + D(made))), the
generator -mean(D(made)).
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches of clips `(b, t, 3, h, w)`, each above zero if it looks true.

    Args:
        over_time (`bool`): Whether patches reach over three frames a layer, or frames are judged one by one.
        channels (`int`, *optional*, defaults to 32): After the first layer; they double with each, up to eight times.
        num_layers (`int`, *optional*, defaults to 3): That halve the size.
    """

    def __init__(self, over_time: bool, channels: int = 32, num_layers: int = 3) -> None:
        super().__init__()
        widths = [3, *(channels * min(2**i, 8) for i in range(num_layers))]
        time = {"kernel": 3, "padding": 1} if over_time else {"kernel": 1, "padding": 0}

        def layer(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Conv3d:
            return nn.Conv3d(
                in_channels,
                out_channels,
                (time["kernel"], kernel, kernel),
                (1, stride, stride),
                (time["padding"], 1, 1),
                padding_mode="replicate",
            )

        # The norm of every layer but the last is held at 1, so that the slope of the whole stays bounded.
        self.layers = nn.ModuleList(spectral_norm(layer(a, b, 4, 2)) for a, b in itertools.pairwise(widths))
        self.verdict = layer(widths[-1], 1, 3, 1)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        hidden = clips.transpose(1, 2)
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.2)
        return self.verdict(hidden)


class Adversary:
    """A discriminator and when it counts.  The loop gives it an optimizer and a step of its own.

    Args:
        discriminator ([`PatchDiscriminator`]).
        weight (`float`): Of the generator's loss.
        start (`float`): Part of the run after which it begins, from 0 to 1.
    """

    def __init__(self, discriminator: PatchDiscriminator, weight: float, start: float) -> None:
        self.discriminator, self.weight, self.start = discriminator, weight, start
        self.active = False

    def before_step(self, step: int, steps: int) -> None:
        self.active = step >= self.start * steps

    def generator_loss(self, made: torch.Tensor) -> torch.Tensor:
        """-mean(D(made)), for clips `(b, t, 3, h, w)`; the discriminator itself gets no gradients from it."""
        self.discriminator.requires_grad_(False)
        loss = -self.discriminator(made).float().mean()
        self.discriminator.requires_grad_(True)
        return loss


def discriminator_loss(verdicts: torch.Tensor) -> torch.Tensor:
    """The hinge loss for verdicts of which the first half is on true clips and the second on made ones."""
    true, made = verdicts.float().chunk(2)
    return F.relu(1 - true).mean() + F.relu(1 + made).mean()


def adaptive_weight(
    picture_loss: torch.Tensor, generator_loss: torch.Tensor, last_layer: torch.Tensor
) -> torch.Tensor:
    """How much larger the gradient of one loss is than that of the other, at the last layer (Esser et al., 2021).

    With it the adversary pulls as hard as the picture, whatever the scale of its verdicts.  Every process computes it
    from the mean gradients of all, so that the number of processes changes nothing.
    """
    of_picture, of_generator = (
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in (picture_loss, generator_loss)
    )
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for gradient in (of_picture, of_generator):
            torch.distributed.all_reduce(gradient)
    return (of_picture.norm() / (of_generator.norm() + 1e-4)).clamp(max=1e4)
