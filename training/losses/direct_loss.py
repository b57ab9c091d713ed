"""The loss of the direct path: pixels, gradients, features of a face recognition network, steadiness along the motion.

Clips are `(b, t, 3, h, w)` in [-1, 1].
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from keep_hf.models.flow.warp import warp

from ..data.packed_faces import SIZE
from .face_features import FaceFeatures
from .image_loss import charbonnier, gradient_loss


# Centre and radii of the eyes and the mouth in an aligned face of 512 pixels
FEATURES_OF_A_FACE = ((193, 240, 60, 36), (319, 240, 60, 36), (256, 371, 80, 45))


class DirectLoss(nn.Module):
    """Pixels, gradients, features of a face recognition network at two scales, and steadiness along the motion.

    Args:
        face_features (`Path`, *optional*): Folder for [`FaceFeatures`].
        identity_weight, texture_weight, steadiness_weight (`float`): Weights of these terms; pixels and gradients
            have 1.
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
        losses = {"l1": ((image - truth).abs() * self.weight).mean(), "gradient": gradient_loss(image, truth)}
        total = losses["l1"] + losses["gradient"]
        if self.network is not None:
            losses["identity"] = self.network(image, truth)
            losses["texture"] = texture_distance(self.network, image, truth)
            total = total + self.identity_weight * losses["identity"] + self.texture_weight * losses["texture"]
        if true_flow is not None:
            losses["steadiness"] = change_of_error(restored.float(), sharp, true_flow)
            total = total + self.steadiness_weight * losses["steadiness"]
        return losses | {"image": total}


def texture_distance(network: FaceFeatures, image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Distance of unit vectors of the first layers of the network, at the full resolution of the crop."""
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
