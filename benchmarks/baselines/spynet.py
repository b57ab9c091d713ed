"""SPyNet (Ranjan and Black, arXiv 1611.00850): the optical flow of BasicVSR and BasicVSR++."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from keep_hf.models.flow.warp import pixel_grid, warp


LEVELS = 6
CHANNELS = (8, 32, 64, 32, 16, 2)
# The names in mmediting: it numbers the convolutions without the ReLUs between them.
MMEDITING = {rf"(spynet\.basic_module\.\d\.basic_module)\.{index}\.conv\.": rf"\1.{2 * index}." for index in range(5)}


class FlowLevel(nn.Module):
    """Corrects the flow of a level: image, warped image and flow `(b, 8, h, w)` -> correction `(b, 2, h, w)`."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(CHANNELS):
            layers += [nn.Conv2d(inputs, outputs, 7, padding=3), nn.ReLU()]
        self.basic_module = nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.basic_module(x)


class SPyNet(nn.Module):
    """Estimates the flow from coarse to fine, over six levels.

    The flow `(b, 2, h, w)` is in pixels, x first: `reference(p)` is about `support(p + flow(p))`.  Both images are
    RGB in [0, 1], of shape `(b, 3, h, w)`.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList(FlowLevel() for _ in range(LEVELS))
        # Of ImageNet.  The published files contain them.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, reference: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
        height, width = reference.shape[2:]
        coarsest = 2 ** (LEVELS - 1)
        rows, columns = (coarsest * math.ceil(side / coarsest) for side in (height, width))
        references, supports = (self._pyramid(image, (rows, columns)) for image in (reference, support))
        flow = reference.new_zeros(len(reference), 2, rows // coarsest, columns // coarsest)
        for index, level in enumerate(self.basic_module):
            if index > 0:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            warped = warp_repeating_border(supports[index], flow)
            flow = flow + level(torch.cat((references[index], warped, flow), dim=1))
        flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
        return flow * flow.new_tensor((width / columns, height / rows)).view(1, 2, 1, 1)

    def _pyramid(self, image: torch.Tensor, size: tuple[int, int]) -> list[torch.Tensor]:
        """The normalised image at all levels, the coarsest first."""
        image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        images = [(image - self.mean) / self.std]
        for _ in range(LEVELS - 1):
            images.append(F.avg_pool2d(images[-1], 2))
        return images[::-1]


def warp_repeating_border(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """`warp`, but a flow that leaves the image ends at its border."""
    height, width = image.shape[2:]
    grid = pixel_grid(height, width, flow.device)
    x, y = (grid + flow).unbind(1)
    target = torch.stack((x.clamp(0, width - 1), y.clamp(0, height - 1)), dim=1)
    return warp(image, target - grid)
