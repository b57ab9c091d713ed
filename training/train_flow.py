"""Train a small GMFlow on degraded faces that move by a known flow (see flow_pairs.py).

    accelerate launch -m training.train_flow --data faces/ --output runs/flow_128 --size 128 --steps 2000
    accelerate launch -m training.train_flow --data faces/ --output runs/flow --initial runs/flow_128/flow --steps 2000

`faces/` is a folder of portraits. Start with small crops, whose steps are cheap: the resulting network needs only a
short training at the full size. With `--validation`, the end-point error is logged beside that of no motion and that
of OpenCV's DIS flow.
"""

import math

import torch
from torch.nn import functional as F

from keep_hf import GMFlow
from keep_hf.models.flow.dis import DISFlow
from keep_hf.models.flow.gmflow import REDUCTION, match
from keep_hf.models.flow.warp import pixel_grid

from .data.flow_pairs import FlowPairs
from .loop.config import Parser, TrainerConfig, add_arguments
from .loop.stage import Batch, Stage, StageOutput
from .loop.trainer import Trainer


TINY = {
    "backbone_channels": (16, 32, 64),
    "feature_channels": 64,
    "num_layers": 3,
    "feedforward_expansion": 2,
    "upsampler_channels": 96,
}


class FlowStage(Stage):
    """Trains the flow network on the final flow and on those after matching and propagation.

    Args:
        flow ([`GMFlow`]): The network.
    """

    def __init__(self, flow: GMFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, batch: Batch) -> StageOutput:
        image1, image2, truth = batch["image1"], batch["image2"], batch["flow"]
        features = self.flow.encode(torch.cat((image1, image2)))
        features1, features2 = self.flow.transformer(*features.chunk(2))
        matched = match(features1, features2)
        propagated = self.flow.propagation(matched, features1)
        fine = self.flow.upsampler(propagated, features1)

        # The flow of hidden pixels is known too: propagation learns to fill it in. Matching cannot find it.
        coarse_truth = F.avg_pool2d(truth, REDUCTION) / REDUCTION
        findable = (F.avg_pool2d(batch["visible"], REDUCTION) > 0.5).float() * ends_inside(coarse_truth)
        # Errors are weighted relative to the motion; otherwise long flows dominate and short ones are taken for zero.
        weight = 4 / (2 + truth.norm(dim=1).mean((1, 2)))[:, None, None, None]
        fine_loss = (weight * charbonnier(fine - truth)).mean()
        propagated_loss = (weight * REDUCTION * charbonnier(propagated - coarse_truth)).mean()
        matched_loss = (weight * REDUCTION * charbonnier(matched - coarse_truth) * findable).mean()
        cross_entropy = matching_cross_entropy(features1, features2, coarse_truth, findable)
        figures = {"end-point error": end_point_error(fine, truth)}
        if not self.training:
            figures |= errors_without_network(image1, image2, truth)
        return StageOutput(fine_loss + 0.5 * propagated_loss + 0.3 * matched_loss + 0.5 * cross_entropy, figures, {})


def charbonnier(error: torch.Tensor) -> torch.Tensor:
    """sqrt(|error|^2 + 1e-4) at every position, `(b, 1, h, w)`."""
    return (error.square().sum(1, keepdim=True) + 1e-4).sqrt()


def end_point_error(flow: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The mean length of the difference of two flows `(b, 2, h, w)`, in pixels."""
    return (flow - truth).norm(dim=1).mean()


def errors_without_network(image1: torch.Tensor, image2: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
    """End-point errors to compare with: of no motion, and of OpenCV's DIS flow."""
    dis = DISFlow()
    pairs = zip(image1.cpu(), image2.cpu(), strict=True)
    flows = torch.cat([dis(a[None], b[None], return_dict=False)[0] for a, b in pairs])
    return {
        "end-point error of no motion": end_point_error(torch.zeros_like(truth), truth),
        "end-point error of DIS": end_point_error(flows.to(truth.device), truth),
    }


def ends_inside(flow: torch.Tensor) -> torch.Tensor:
    """1 where the flow `(b, 2, h, w)` ends inside the image and 0 elsewhere, `(b, 1, h, w)`."""
    height, width = flow.shape[2:]
    x, y = (pixel_grid(height, width, flow.device) + flow).split(1, dim=1)
    return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).float()


def matching_cross_entropy(
    features1: torch.Tensor, features2: torch.Tensor, flow: torch.Tensor, findable: torch.Tensor
) -> torch.Tensor:
    """-log of the probability that matching gives to the true position.

    The probability is shared bilinearly by the four grid positions around the true one.

    Args:
        features1, features2 (`torch.Tensor` of shape `(b, c, h, w)`): Features of both images.
        flow (`torch.Tensor` of shape `(b, 2, h, w)`): The true flow, in positions of the grid.
        findable (`torch.Tensor` of shape `(b, 1, h, w)`): 1 where the true position is visible, 0 elsewhere.

    Returns:
        `torch.Tensor`: a scalar.
    """
    height, width = flow.shape[2:]
    with torch.autocast(features1.device.type, enabled=False):
        scores = features1.float().flatten(2).transpose(1, 2) @ features2.float().flatten(2)
        log_probability = (scores / math.sqrt(features1.shape[1])).log_softmax(-1)
    target = (pixel_grid(height, width, flow.device) + flow).flatten(2)
    x, y = target[:, 0].clamp(0, width - 1.001), target[:, 1].clamp(0, height - 1.001)
    left, top = x.floor(), y.floor()
    total = torch.zeros_like(x)
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        share = (1 - (x - column).abs()) * (1 - (y - row).abs())
        index = (row * width + column).long()
        total = total + share * log_probability.gather(2, index[..., None])[..., 0]
    return -(total * findable.flatten(1)).mean()


def build_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("--size", type=int, default=256, help="side of the crops in pixels")
    parser.add_argument("--initial", help="GMFlow to start from, instead of a new one: a folder or a Hub id")
    add_arguments(parser)
    parser.set_defaults(learning_rate=1e-3)
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    config = TrainerConfig.from_args(args)
    torch.manual_seed(args.seed)
    flow = GMFlow.from_pretrained(args.initial) if args.initial else GMFlow(**TINY)
    Trainer(
        config,
        FlowStage(flow),
        FlowPairs(args.data, args.size, args.seed),
        save_models=lambda: flow.save_pretrained(config.output / "flow"),
        validation_set=FlowPairs(args.validation, args.size, seed=1) if args.validation else None,
    ).run()


if __name__ == "__main__":
    main()
