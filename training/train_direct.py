"""Train the direct path (keep_hf/models/direct.py) on one GPU or CPU, for a given time or number of steps.

    python -m training.train_direct packs/ runs/direct --minutes 10 --face-features package/model
    python -m training.train_direct packs/ runs/direct --minutes 10 --face-features package/model --resume

Three phases share the budget: single frames with pixel and perceptual losses; clips, through which the filter is
trained (gradients flow through the state); clips with a weak adversary. `direct.safetensors` in the output folder has
the averaged weights of the last checkpoint, `PHASE.safetensors` those at the end of each phase.

With `--clip-length 1` all phases use single frames: the same network without its filter, to compare with.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from keep_hf.models.direct import DirectObservation, DirectPath, DirectState

from .data.degradations.clips import DEFAULT_SHARES, DegradationShares
from .data.packed_faces import SIZE, MovingFaces, Source, read_packs
from .loop.config import Parser, TrainerConfig, add_loop_arguments, positive
from .loop.muon import make_muon
from .loop.phases import Phase, Phases
from .loop.stage import Batch, Stage, StageOutput
from .loop.trainer import Trainer
from .losses.adversary import Adversary, ImageDiscriminator, ratio_of_norms
from .losses.direct_loss import DirectLoss
from .losses.image_loss import psnr
from .networks import add_units, average_directs


PHASES = ("frames", "clips", "adversary")
# Share of clips from videos, in the phase of single frames and in the others; the rest is made of portraits.
VIDEO_SHARE = {"frames": 0.15, "clips": 0.4, "adversary": 0.4}
HELD_OUT = 40  # every 40th portrait is for validation
VALIDATION_SIZE = 24
RAMP = 0.3  # part of its phase in which the adversary rises to its weight


class DirectStage(Stage):
    """Restores clips with a direct path.

    Args:
        direct ([`DirectPath`]): The network.
        loss ([`DirectLoss`]): Distance of restored from sharp clips.
        phases ([`Phases`]): Of the run.
        adversary ([`Adversary`], *optional*): Its generator loss gets `weight` times the gradient of the other losses.
    """

    def __init__(self, direct: DirectPath, loss: DirectLoss, phases: Phases, adversary: Adversary | None) -> None:
        super().__init__()
        self.direct, self.loss, self.phases, self.adversary = direct, loss, phases, adversary
        self.phase, self.part = phases.at(0.0)
        self.observe: Callable[[torch.Tensor], DirectObservation] = direct.observe
        self.generate: Callable[[torch.Tensor, DirectState], torch.Tensor] = direct.generate

    def compile_networks(self) -> None:
        """Compile what runs for all frames at once, for training. The filter runs frame by frame."""
        # The adversary needs the gradients of the last layer twice, which this optimization does not allow.
        torch._functorch.config.donated_buffer = False  # type: ignore[attr-defined]
        self.observe, self.generate = torch.compile(self.direct.observe), torch.compile(self.direct.generate)

    def make_optimizer(self, weight_decay: float) -> torch.optim.Optimizer:
        # AdamW needs about three times as many frames.
        return make_muon(self.direct, weight_decay)

    def before_step(self, step: int, done: float) -> None:
        self.phase, self.part = self.phases.at(done)

    def forward(self, batch: Batch) -> StageOutput:
        sharp, degraded = (batch[name].float() / 127.5 - 1 for name in ("sharp", "degraded"))
        flow, true_flow = (enlarge_flow(batch[name]) if name in batch else None for name in ("flow", "true_flow"))
        restored = self.restore(degraded, flow).float()
        figures = self.loss(restored, sharp, true_flow)
        loss = figures["image"]
        if self.training and self.adversary is not None and self.adversary.active:
            figures["adversarial"] = self.adversary.generator_loss(restored)
            weight = self.adversary.weight * min(1.0, self.part / RAMP)
            loss = with_gradient_of(loss, figures["adversarial"], weight, restored, self.direct.conv_out.weight)
        if not self.training:
            figures |= {"psnr of the input": psnr(degraded, sharp).clamp_max(60)}  # some are not degraded
        return StageOutput(loss, figures, {"degraded": degraded, "restored": restored, "sharp": sharp})

    def restore(self, degraded: torch.Tensor, flow: torch.Tensor | None) -> torch.Tensor:
        """Clips `(b, t, 3, h, w)` and flows `(b, t - 1, 2, h, w)` in pixels -> restored clips."""
        b, t = degraded.shape[:2]
        # Batches of the validation have another size, for which compiled networks would be compiled again.
        network = self if self.training else self.direct
        observation = network.observe(degraded.flatten(0, 1))
        features, log_variance = (
            tensor.unflatten(0, (b, t)) for tensor in (observation.features, observation.log_variance)
        )
        states: list[DirectState] = []
        for i in range(t):
            observed = DirectObservation(features[:, i], log_variance[:, i])
            if i == 0 or flow is None:
                states.append(self.direct.update(observed, None, None, degraded[:, i], None))
            else:
                states.append(
                    self.direct.update(observed, states[-1], flow[:, i - 1], degraded[:, i], degraded[:, i - 1])
                )
        # (t, b, ...) -> (b * t, ...)
        filtered = DirectState(
            torch.stack([state.features for state in states], dim=1).flatten(0, 1),
            torch.stack([state.variance for state in states], dim=1).flatten(0, 1),
        )
        return network.generate(degraded.flatten(0, 1), filtered).unflatten(0, (b, t))


def enlarge_flow(flow: torch.Tensor) -> torch.Tensor:
    """Flows `(b, t, 2, h, w)` in pixels of smaller frames -> `(b, t, 2, 512, 512)` in pixels of the crop."""
    factor = SIZE / flow.shape[-1]
    large = F.interpolate(flow.flatten(0, 1).float(), scale_factor=factor, mode="bilinear") * factor
    return large.unflatten(0, flow.shape[:2])


def with_gradient_of(
    image_loss: torch.Tensor, generator_loss: torch.Tensor, weight: float, image: torch.Tensor, last: torch.Tensor
) -> torch.Tensor:
    """A loss with the value of `image_loss` whose gradient is that of image_loss + k * generator_loss.

    k is `weight` times the ratio of the gradient norms at the last layer, as in `adaptive_weight`. Both losses depend
    on the network through `image` only, so each is differentiated once, down to the image.
    """
    gradients = [torch.autograd.grad(loss, image)[0] for loss in (image_loss, generator_loss)]
    at_last = [torch.autograd.grad(image, last, gradient, retain_graph=True)[0] for gradient in gradients]
    gradient = gradients[0] + weight * ratio_of_norms(*at_last) * gradients[1]
    product = (image * gradient).sum()
    return image_loss.detach() + product - product.detach()


def make_phases(args: argparse.Namespace, portraits: list[Source], videos: list[Source]) -> Phases:
    """The phases whose share is not 0, each with samples of its own."""
    degradations = DegradationShares(*args.degradations)
    phases = []
    for number, (name, share) in enumerate(zip(PHASES, args.shares, strict=True)):
        length = 1 if name == "frames" else args.clip_length
        clips = MovingFaces(portraits, videos, length, VIDEO_SHARE[name], seed=args.seed + number, shares=degradations)
        if share:
            phases.append(Phase(name, share, clips, max(1, args.batch_frames // length)))
    return Phases(phases)


def make_adversary(args: argparse.Namespace, phases: Phases) -> Adversary | None:
    """The adversary of the last phase, unless it has no share or no weight."""
    if not args.adversarial_weight or phases.phases[-1].name != "adversary":
        return None
    start = phases.start_of("adversary")
    return Adversary(ImageDiscriminator(), args.adversarial_weight, start, args.discriminator_learning_rate)


def build_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("packs", type=Path, help="folder of packs from training/pack_faces.py")
    add("output", type=Path, help="folder for checkpoints, the weights, the log and images")
    add("--shares", type=float, nargs=3, default=(0.45, 0.3, 0.25), help="of the budget, by phase")
    add("--initial", type=Path, nargs="+", help="weights to start with; of several files, the mean; sizes are theirs")
    add("--new-units", type=positive, help="residual units to add to those of --initial, at the coarsest level")
    add("--face-features", type=Path, help="folder of the network, see losses/face_features.py")
    add("--identity-weight", type=float, default=1.0, help="of the distance in the features of the face")
    add("--texture-weight", type=float, default=0.3, help="of the distance in the first layers of the same network")
    add("--steadiness-weight", type=float, default=0.5, help="of changes of the error along the motion")
    add("--adversarial-weight", type=float, default=0.15, help="share of the other losses' gradient")
    add("--discriminator-learning-rate", type=float, default=4e-4, help="constant during the run")
    shares = (DEFAULT_SHARES.clear, DEFAULT_SHARES.paper, DEFAULT_SHARES.enlarged, DEFAULT_SHARES.real)
    names = ("CLEAR", "PAPER", "ENLARGED", "REAL")
    add("--degradations", type=float, nargs=4, default=shares, metavar=names, help="shares of clips")
    add("--batch-frames", type=positive, default=8, help="frames per batch, in clips or alone")
    add("--clip-length", type=positive, default=8, help="frames per clip; 1 trains without the filter")
    add("--channels", type=positive, nargs="+", default=[32, 64, 128, 192], help="widths, multiples of 8")
    add("--units", type=positive, nargs="+", default=[1, 2, 2, 3], help="residual units of the levels")
    add("--compile", action="store_true", help="torch.compile; starts later, then is faster")
    add_loop_arguments(parser)
    parser.set_defaults(
        learning_rate=2e-3,
        final_learning_rate=None,  # a tenth of the peak
        warmup=40,
        weight_decay=1e-4,
        max_gradient_norm=0.5,
        ema_decay=0.998,
        mixed_precision="bf16",
        channels_last=True,
        workers=max(1, (os.cpu_count() or 1) - 1),
        save_every=None,
        save_minutes=10.0,
        # A check waits for the GPU
        check_every=100 if torch.cuda.is_available() else 1,
        log_every=100 if torch.cuda.is_available() else 10,
        batch_size=8,  # of the validation
        gradient_checkpointing=False,
    )
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(arguments)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        parser.error("the direct path is trained in one process: start it without accelerate launch or torchrun")
    if args.new_units and not args.initial:
        parser.error("--new-units adds to the network of --initial: without it, use --units")
    if args.final_learning_rate is None:
        args.final_learning_rate = args.learning_rate / 10
    # Before the workers are forked: a child of a process with OpenCV threads can hang.
    cv2.setNumThreads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True  # all batches of a phase have one shape
    torch.manual_seed(args.seed)
    portraits, videos = read_packs(args.packs)
    held_out = portraits[::HELD_OUT]
    portraits = [source for i, source in enumerate(portraits) if i % HELD_OUT] or portraits
    phases = make_phases(args, portraits, videos)
    if args.initial:
        direct = average_directs(args.initial, SIZE)
        direct = (add_units(direct, args.new_units, SIZE) if args.new_units else direct).train()
    else:
        direct = DirectPath(SIZE, channels=args.channels, units_per_level=args.units)
    loss = DirectLoss(args.face_features, args.identity_weight, args.texture_weight, args.steadiness_weight)
    stage = DirectStage(direct, loss, phases, make_adversary(args, phases))
    if args.compile:
        stage.compile_networks()
    config = TrainerConfig.from_args(args)

    def save_models() -> None:
        """Write the weights beside their files, and rename them."""
        weights = {name: weight.detach().cpu().contiguous() for name, weight in direct.state_dict().items()}
        for name in (stage.phase.name, "direct"):
            unfinished = config.output / f"{name}.unfinished"
            save_file(weights, unfinished)
            unfinished.replace(config.output / f"{name}.safetensors")

    validation = MovingFaces(held_out, [], 1, 0, seed=999, length=VALIDATION_SIZE) if held_out else None
    Trainer(config, stage, phases, save_models, validation).run()


if __name__ == "__main__":
    main()
