"""The loss of the direct path: pixels, gradients, features of a face recognition network, steadiness along the motion.

In a degraded video the finest scale is mostly lost, so pixels are also compared at half the size.

Clips are `(b, t, 3, h, w)` in [-1, 1].
"""

from pathlib import Path
from types import EllipsisType

import torch
import torch.nn.functional as F
from torch import nn

from keep_hf.models.flow.warp import warp

from ..data.packed_faces import SIZE
from .face_features import FaceFeatures
from .image_loss import charbonnier, gradient_loss


# Centre and radii of the eyes and the mouth in an aligned face of 512 pixels
FEATURES_OF_A_FACE = ((193, 240, 60, 36), (319, 240, 60, 36), (256, 371, 80, 45))
GRADIENT_WEIGHT = 0.5
# Side of the window in which textures are compared. In the whole crop that takes as long as the network.
TEXTURE_WINDOW = 128


class DirectLoss(nn.Module):
    """The weighted sum of the terms in the module docstring.

    Textures are compared in one window, at a random place in training and in the centre otherwise.

    Args:
        face_features (`Path`, *optional*): Folder for [`FaceFeatures`].
        identity_weight, texture_weight, steadiness_weight (`float`): Weights of these terms; pixels have 1.
    """

    weight: torch.Tensor

    def __init__(
        self, face_features: Path | None, identity_weight: float, texture_weight: float, steadiness_weight: float
    ) -> None:
        super().__init__()
        self.network = FaceFeatures(face_features).requires_grad_(False) if face_features else None
        self.identity_weight, self.texture_weight = identity_weight, texture_weight
        self.steadiness_weight = steadiness_weight
        y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        weight = torch.ones(SIZE, SIZE)
        for centre_x, centre_y, radius_x, radius_y in FEATURES_OF_A_FACE:
            weight += 2 * torch.exp(-(((x - centre_x) / radius_x) ** 2) - ((y - centre_y) / radius_y) ** 2)
        self.register_buffer("weight", weight / weight.mean())

    def forward(
        self, restored: torch.Tensor, sharp: torch.Tensor, true_flow: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """The terms by name, and their weighted sum as "image"."""
        image, truth = restored.flatten(0, 1).float(), sharp.flatten(0, 1)
        losses = {
            "l1": ((image - truth).abs() * self.weight).mean(),
            "half size": self.distance_at_half_size(image, truth),
            "gradient": gradient_loss(image, truth),
        }
        total = losses["l1"] + losses["half size"] + GRADIENT_WEIGHT * losses["gradient"]
        if self.network is not None:
            losses["identity"] = self.network(image, truth)
            window = self.texture_window()
            losses["texture"] = texture_distance(self.network, image[window], truth[window])
            total = total + self.identity_weight * losses["identity"] + self.texture_weight * losses["texture"]
        if true_flow is not None:
            losses["steadiness"] = change_of_error(restored.float(), sharp, true_flow)
            total = total + self.steadiness_weight * losses["steadiness"]
        return losses | {"image": total}

    def distance_at_half_size(self, image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """L1 plus half the root of the mean square, which is what PSNR measures."""
        error = F.avg_pool2d(image - truth, 2)
        weight = F.avg_pool2d(self.weight[None], 2)
        return (error.abs() * weight).mean() + 0.5 * ((error.square() * weight).mean() + 1e-8).sqrt()

    def texture_window(self) -> tuple[slice | EllipsisType, ...]:
        """An index of images."""
        most = SIZE - TEXTURE_WINDOW
        top, left = torch.randint(most + 1, (2,)).tolist() if self.training else (most // 2, most // 2)
        return (..., slice(top, top + TEXTURE_WINDOW), slice(left, left + TEXTURE_WINDOW))


def texture_distance(network: FaceFeatures, image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Distance of unit vectors of the first layers of the network, at the resolution of the images."""
    features = textures(network, image)
    with torch.no_grad():
        true_features = textures(network, truth)
    distances = [(a - b).square().sum(1).mean() for a, b in zip(features, true_features, strict=True)]
    return torch.stack(distances).mean()


def textures(network: FaceFeatures, image: torch.Tensor) -> list[torch.Tensor]:
    """Unit vectors after the first layer and the first two stages, for images `(b, 3, h, w)`."""
    hidden = F.relu(network.entry(((image + 1) * 127.5 - network.mean) / 256))
    features = [hidden]
    for stage in network.stages[:2]:
        hidden = stage(hidden)
        features.append(hidden)
    return [F.normalize(each.float(), dim=1) for each in features]


def change_of_error(restored: torch.Tensor, sharp: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """How much the error of clips `(b, t, 3, h, w)` changes along the true motion, where that is known."""
    error = restored - sharp
    current, previous = error[:, 1:].flatten(0, 1), error[:, :-1].flatten(0, 1)
    truth, previous_truth = sharp[:, 1:].flatten(0, 1), sharp[:, :-1].flatten(0, 1)
    flow = flow.flatten(0, 1)
    visible = ((warp(previous_truth, flow) - truth).abs().mean(1, keepdim=True) < 0.08).float()
    return charbonnier((current - warp(previous, flow)) * visible)
