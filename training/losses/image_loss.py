"""Losses that the stages share. Clips are `(b, t, 3, h, w)` in [-1, 1]."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from keep_hf.models.lpips import LPIPS

from .face_features import FaceFeatures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of stages that output images."""
    add = parser.add_argument
    add("--pixel-weight", type=float, default=1.0, help="weight of the L1 loss")
    add("--gradient-weight", type=float, default=1.0, help="weight of the L1 loss of the gradients at three scales")
    add("--lpips", nargs=2, metavar=("BACKBONE", "LINEAR"), help="files for LPIPS.from_checkpoints; the paper's loss")
    add("--face-features", type=Path, metavar="FOLDER", help="files of the network, see losses/face_features.py")
    add("--perceptual-weight", type=float, default=1.0, help="weight of --lpips and of --face-features")
    add("--adversarial-weight", type=float, default=0.0, help="weight of the discriminator; 0 for none")
    add("--adversarial-start", type=float, default=0.5, help="fraction of the run before the discriminator starts")
    add("--discriminator-learning-rate", type=float, default=1e-4, help="constant during the run")


class ImageLoss(nn.Module):
    """The distance of restored from sharp clips: L1, L1 of gradients, and distances in features of trained networks.

    Args:
        pixel_weight (`float`, *optional*, defaults to 1.0): Weight of the L1 loss.
        gradient_weight (`float`, *optional*, defaults to 1.0): Weight of [`gradient_loss`].
        perceptual_weight (`float`, *optional*, defaults to 1.0): Weight of each of `networks`.
        networks (`Sequence[nn.Module]`, *optional*): Take restored and sharp images and return distances.
    """

    def __init__(
        self,
        pixel_weight: float = 1.0,
        gradient_weight: float = 1.0,
        perceptual_weight: float = 1.0,
        networks: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.pixel_weight, self.gradient_weight = pixel_weight, gradient_weight
        self.perceptual_weight = perceptual_weight
        self.networks = nn.ModuleList(networks).requires_grad_(False)

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> "ImageLoss":
        """The loss from the options of `add_arguments`."""
        networks: list[nn.Module] = []
        if args.lpips:
            networks.append(LPIPS.from_checkpoints(*args.lpips))
        if args.face_features:
            networks.append(FaceFeatures(args.face_features))
        return cls(args.pixel_weight, args.gradient_weight, args.perceptual_weight, networks)

    def forward(self, restored: torch.Tensor, sharp: torch.Tensor) -> dict[str, torch.Tensor]:
        """The terms by name, and their weighted sum under "image"."""
        restored, sharp = restored.flatten(0, 1).float(), sharp.flatten(0, 1)
        pixel, gradient = F.l1_loss(restored, sharp), gradient_loss(restored, sharp)
        losses = {"l1": pixel, "image": self.pixel_weight * pixel + self.gradient_weight * gradient}
        for network in self.networks:
            distance = network(restored, sharp).mean()
            losses[f"perceptual {type(network).__name__}"] = distance
            losses["image"] = losses["image"] + self.perceptual_weight * distance
        return losses


def gradient_loss(restored: torch.Tensor, sharp: torch.Tensor, num_scales: int = 3) -> torch.Tensor:
    """L1 of the differences of neighbouring pixels of images `(b, 3, h, w)` along x and y, at halving sizes.

    Where an edge is uncertain, L1 of the pixels is minimal for a blurred one; this loss is not.
    """
    loss = restored.new_zeros(())
    for scale in range(num_scales):
        if scale:
            restored, sharp = F.avg_pool2d(restored, 2), F.avg_pool2d(sharp, 2)
        loss = loss + F.l1_loss(restored.diff(dim=-1), sharp.diff(dim=-1))
        loss = loss + F.l1_loss(restored.diff(dim=-2), sharp.diff(dim=-2))
    return loss


def charbonnier(difference: torch.Tensor, epsilon: float = 1e-3) -> torch.Tensor:
    """Mean of sqrt(d^2 + epsilon^2), which is L1 but smooth at zero."""
    return (difference.square() + epsilon**2).sqrt().mean()


def psnr(restored: torch.Tensor, sharp: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB, the mean over the frames."""
    error = (restored.detach().float().clamp(-1, 1) - sharp).square().mean(dim=(-3, -2, -1)) / 4
    return -10 * error.log10().mean()
