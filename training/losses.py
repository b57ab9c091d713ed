"""Losses that the stages share.  Clips are (b, t, 3, h, w) in [-1, 1]."""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from keep_hf.models.lpips import LPIPS

from .face_features import FaceFeatures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of stages that make pictures."""
    parser.add_argument("--pixel-weight", type=float, default=1.0, help="of L1")
    parser.add_argument("--gradient-weight", type=float, default=1.0, help="of L1 of the gradients at three sizes")
    parser.add_argument(
        "--lpips", nargs=2, metavar=("BACKBONE", "LINEAR"), help="files for LPIPS.from_checkpoints; the paper's loss"
    )
    parser.add_argument("--face-features", type=Path, metavar="FOLDER", help="see face_features.py")
    parser.add_argument("--perceptual-weight", type=float, default=1.0, help="of --lpips and of --face-features")
    parser.add_argument("--adversarial-weight", type=float, default=0.0, help="0 leaves the discriminator out")
    parser.add_argument("--adversarial-start", type=float, default=0.5, help="part of the run before it begins")
    parser.add_argument("--discriminator-learning-rate", type=float, default=1e-4)


class PictureLoss(nn.Module):
    """What the made picture lacks: L1, L1 of gradients, and distances in the features of trained networks."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.pixel_weight, self.gradient_weight = args.pixel_weight, args.gradient_weight
        self.perceptual_weight = args.perceptual_weight
        perceptual = []
        if args.lpips:
            perceptual.append(LPIPS.from_checkpoints(*args.lpips))
        if args.face_features:
            perceptual.append(FaceFeatures(args.face_features))
        self.perceptual = nn.ModuleList(perceptual).requires_grad_(False)

    def forward(self, made: torch.Tensor, sharp: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses by name, with their weighted sum under "picture"."""
        made, sharp = made.flatten(0, 1).float(), sharp.flatten(0, 1)
        pixel, gradient = F.l1_loss(made, sharp), gradient_loss(made, sharp)
        losses = {"l1": pixel, "picture": self.pixel_weight * pixel + self.gradient_weight * gradient}
        for network in self.perceptual:
            distance = network(made, sharp).mean()
            losses[f"perceptual {type(network).__name__}"] = distance
            losses["picture"] = losses["picture"] + self.perceptual_weight * distance
        return losses


def gradient_loss(made: torch.Tensor, wanted: torch.Tensor, num_scales: int = 3) -> torch.Tensor:
    """L1 of the gradients of pictures `(b, 3, h, w)` along x and y, at halving sizes, where L1 alone is content with
    the mean of two edges.
    """
    loss = made.new_zeros(())
    for scale in range(num_scales):
        if scale:
            made, wanted = F.avg_pool2d(made, 2), F.avg_pool2d(wanted, 2)
        loss = loss + F.l1_loss(made.diff(dim=-1), wanted.diff(dim=-1))
        loss = loss + F.l1_loss(made.diff(dim=-2), wanted.diff(dim=-2))
    return loss


def charbonnier(difference: torch.Tensor, epsilon: float = 1e-3) -> torch.Tensor:
    """Mean of sqrt(d^2 + epsilon^2): L1 that is smooth at zero."""
    return (difference.square() + epsilon**2).sqrt().mean()


def psnr(made: torch.Tensor, sharp: torch.Tensor) -> torch.Tensor:
    """In dB, the mean over the frames."""
    error = (made.detach().float().clamp(-1, 1) - sharp).square().mean(dim=(-3, -2, -1)) / 4
    return -10 * error.log10().mean()
