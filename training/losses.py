"""Losses that the stages share.  Images are (b, 3, h, w) in [-1, 1]."""

import torch
import torch.nn.functional as F


def charbonnier(difference: torch.Tensor, epsilon: float = 1e-3) -> torch.Tensor:
    """Mean of sqrt(d^2 + epsilon^2): L1 that is smooth at zero."""
    return (difference.square() + epsilon**2).sqrt().mean()


def image_loss(made: torch.Tensor, wanted: torch.Tensor, num_scales: int = 3) -> torch.Tensor:
    """L1, plus L1 of the gradients along x and y at halving sizes.

    The gradients keep edges sharp where L1 alone is content with their mean; they stand in for the perceptual loss of
    the paper, whose VGG weights may not be at hand.
    """
    loss = F.l1_loss(made, wanted)
    for scale in range(num_scales):
        if scale:
            made, wanted = F.avg_pool2d(made, 2), F.avg_pool2d(wanted, 2)
        loss = loss + F.l1_loss(made.diff(dim=-1), wanted.diff(dim=-1))
        loss = loss + F.l1_loss(made.diff(dim=-2), wanted.diff(dim=-2))
    return loss
