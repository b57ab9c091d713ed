"""What a training script gives to the [`Trainer`]: a stage and its data."""

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import Dataset

from ..losses.adversary import Adversary


Batch = dict[str, torch.Tensor]


class StageOutput(NamedTuple):
    """The result of a stage for one batch.

    Attributes:
        loss (`torch.Tensor`): A scalar, the loss to minimize.
        figures (`dict[str, torch.Tensor]`): Scalars for the log, such as the terms of the loss.
        images (`dict[str, torch.Tensor]`): Clips `(b, t, 3, h, w)` in [-1, 1], or nothing. "restored" and "sharp" are
            what the adversary and PSNR and SSIM of the validation compare; the validation image shows all of them.
    """

    loss: torch.Tensor
    figures: dict[str, torch.Tensor]
    images: dict[str, torch.Tensor]


class Stage(nn.Module):
    """A module whose `forward` computes the loss of one batch; its parameters with `requires_grad` are trained.

    Everything with a gradient has to happen inside `forward`: with several processes, gradients are averaged only for
    what runs inside the `forward` of the wrapped module.

    Attributes:
        adversary ([`Adversary`], *optional*): Trained on the images "sharp" and "restored" of every step.
    """

    adversary: Adversary | None = None

    def before_step(self, step: int, done: float) -> None:
        """Prepare for the optimizer step number `step` (from 0), when the part `done` of the run is over."""

    def make_optimizer(self, weight_decay: float) -> torch.optim.Optimizer:
        """The optimizer of all parameters that require gradients. The trainer sets its learning rate."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(
            parameters, betas=(0.9, 0.99), weight_decay=weight_decay, fused=torch.cuda.is_available()
        )

    def forward(self, batch: Batch) -> StageOutput:
        raise NotImplementedError


class TrainingSet(Dataset[Batch]):
    """A dataset of known length whose items depend only on its seed, the epoch and the index.

    Attributes:
        epoch (`int`): Set by the trainer, so that every epoch draws other random numbers and a resumed run the same
            ones as an uninterrupted run.
    """

    epoch = 0

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Batch:
        raise NotImplementedError
