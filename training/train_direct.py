"""Train the direct path (keep_hf/models/direct.py) on one GPU or CPU for a given time.

    python -m training.train_direct packs/ runs/direct --minutes 10 --face-features package/model

Three stages share the time: single frames with pixel and perceptual losses; clips, through which the filter is
trained (gradients flow through the state); clips with a weak adversary. The degradation runs in the data workers and
the networks in bfloat16. The learning rate depends on the elapsed time, so that the run ends in time on any machine.
Unlike the stages of [`Trainer`], a run cannot be resumed; the weights after every stage are saved.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader

from keep_hf.models.direct import DirectObservation, DirectPath, DirectState
from keep_hf.models.flow.warp import warp

from .data.packed_faces import SIZE, MovingFaces, Source, read_packs
from .losses.adversary import discriminator_loss
from .losses.face_features import FaceFeatures
from .losses.image_loss import charbonnier, gradient_loss


Batch = dict[str, torch.Tensor]
STAGES = ("frames", "clips", "adversary")
# Share of clips from videos, in the stage of single frames and in the others; the rest is made of portraits.
VIDEO_SHARE = {"frames": 0.15, "clips": 0.4, "adversary": 0.4}
HELD_OUT = 40  # every 40th portrait is for validation
VALIDATION_SIZE = 24
WARMUP_STEPS = 200
MAX_GRADIENT_NORM = 0.5
EMA_DECAY = 0.998
LOG_EVERY = 100  # steps
# Centre and radii of the eyes and the mouth in an aligned face of 512 pixels
FEATURES_OF_A_FACE = ((193, 240, 60, 36), (319, 240, 60, 36), (256, 371, 80, 45))


class DirectStage(nn.Module):
    """Restores clips with a direct path."""

    def __init__(self, direct: DirectPath) -> None:
        super().__init__()
        self.direct = direct

    def forward(self, degraded: torch.Tensor, flow: torch.Tensor | None) -> torch.Tensor:
        """Clips `(b, t, 3, h, w)` and flows `(b, t - 1, 2, h, w)` in pixels -> restored clips."""
        b, t = degraded.shape[:2]
        observation = self.direct.observe(degraded.flatten(0, 1))
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
        return self.direct.generate(degraded.flatten(0, 1), filtered).unflatten(0, (b, t))


class Discriminator(nn.Sequential):
    """Scores overlapping patches of images `(b, 3, h, w)`; the score of a real patch should be positive."""

    def __init__(self, channels: int = 48, num_layers: int = 4) -> None:
        layers: list[nn.Module] = []
        widths = [3, *(channels * 2**i for i in range(num_layers))]
        for before, width in itertools.pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(before, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 3, 1, 1))


class DirectLoss(nn.Module):
    """Pixels, gradients, features of a face recognition network at two scales, and steadiness along the motion.

    Args:
        face_features (`Path`, *optional*): Folder for [`FaceFeatures`].
        perceptual_weight, steadiness_weight (`float`): Weights of these terms; pixels and gradients have 1.
    """

    weight: torch.Tensor

    def __init__(self, face_features: Path | None, perceptual_weight: float, steadiness_weight: float) -> None:
        super().__init__()
        self.network = FaceFeatures(face_features) if face_features else None
        self.perceptual_weight, self.steadiness_weight = perceptual_weight, steadiness_weight
        y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        weight = torch.ones(SIZE, SIZE)
        for centre_x, centre_y, radius_x, radius_y in FEATURES_OF_A_FACE:
            weight += 2 * torch.exp(-(((x - centre_x) / radius_x) ** 2) - ((y - centre_y) / radius_y) ** 2)
        self.register_buffer("weight", weight / weight.mean())

    def forward(
        self, restored: torch.Tensor, sharp: torch.Tensor, true_flow: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """The terms for clips `(b, t, 3, h, w)` in [-1, 1], and their weighted sum as "loss"."""
        image, truth = restored.flatten(0, 1).float(), sharp.flatten(0, 1)
        losses = {"l1": ((image - truth).abs() * self.weight).mean(), "gradient": gradient_loss(image, truth)}
        total = losses["l1"] + losses["gradient"]
        if self.network is not None:
            with torch.autocast(image.device.type, torch.bfloat16):
                losses["identity"] = self.network(image, truth)
                losses["texture"] = texture_distance(self.network, image, truth)
            total = total + self.perceptual_weight * (losses["identity"] + losses["texture"])
        if true_flow is not None:
            losses["steadiness"] = change_of_error(restored.float(), sharp, true_flow)
            total = total + self.steadiness_weight * losses["steadiness"]
        return losses | {"loss": total}


def texture_distance(network: FaceFeatures, image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Distance of unit vectors of the first layers of the network, at the full resolution of the crop."""
    hidden = ((torch.cat([image, truth.detach()]) + 1) * 127.5 - network.mean) / 256
    hidden = F.relu(network.entry(hidden))
    distances = []
    for stage in (None, *network.stages[:2]):
        for block in stage or ():
            hidden = block(hidden)
        a, b = (F.normalize(part.float(), dim=1) for part in hidden.chunk(2))
        distances.append((a - b).square().sum(1).mean())
    return torch.stack(distances).mean()


def change_of_error(restored: torch.Tensor, sharp: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """How much the error of clips `(b, t, 3, h, w)` changes along the true motion, where that is known."""
    error = restored - sharp
    current, previous = error[:, 1:].flatten(0, 1), error[:, :-1].flatten(0, 1)
    truth, previous_truth = sharp[:, 1:].flatten(0, 1), sharp[:, :-1].flatten(0, 1)
    flow = flow.flatten(0, 1)
    visible = ((warp(previous_truth, flow) - truth).abs().mean(1, keepdim=True) < 0.08).float()
    return charbonnier((current - warp(previous, flow)) * visible)


class TimedRun:
    """One run: the networks, their optimizers and averages, the log and the time."""

    def __init__(self, args: argparse.Namespace, held_out: list[Source]) -> None:
        self.args = args
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.direct = DirectPath(SIZE, channels=tuple(args.channels), units_per_level=tuple(args.units))
        if args.initial:
            self.direct.load_state_dict(load_file(args.initial))
        self.direct.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stage = DirectStage(self.direct)
        self.loss = DirectLoss(args.face_features, args.perceptual_weight, args.steadiness_weight).to(self.device)
        self.discriminator = Discriminator().to(self.device)
        self.average = {name: value.detach().clone() for name, value in self.direct.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.direct.parameters(), args.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4
        )
        self.discriminator_optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), 4e-4, betas=(0.5, 0.99), weight_decay=0.0
        )
        clips = MovingFaces(held_out, [], 1, 0, seed=999, length=VALIDATION_SIZE)
        self.validation = self.to_device(next(iter(DataLoader(clips, VALIDATION_SIZE))))
        self.step, self.started = 0, time.monotonic()

    @property
    def progress(self) -> float:
        """Elapsed part of the time, from 0."""
        return (time.monotonic() - self.started) / (60 * self.args.minutes)

    def to_device(self, batch: Batch) -> Batch:
        """Images to [-1, 1], flows to pixels of the crop."""
        ready = {}
        for name, value in batch.items():
            value = value.to(self.device)
            if name in ("flow", "true_flow"):
                factor = SIZE / value.shape[-1]
                flow = F.interpolate(value.flatten(0, 1).float(), scale_factor=factor, mode="bilinear") * factor
                ready[name] = flow.unflatten(0, value.shape[:2])
            else:
                ready[name] = value.float() / 127.5 - 1
        return ready

    def train_stage(self, name: str, batches: Iterator[Batch], start: float, end: float) -> None:
        """Train until the progress is `end`, at least one step; then save the averaged weights."""
        for batch in batches:
            figures = self.train_step(name, self.to_device(batch), (self.progress - start) / (end - start))
            if self.step % LOG_EVERY == 1:
                line: dict[str, float | str] = {"stage": name, "step": self.step, "progress": self.progress}
                self.write(line | {key: float(value.detach()) for key, value in figures.items()})
            if self.progress >= end:
                break
        weights = {key: value.cpu().contiguous() for key, value in self.average.items()}
        save_file(weights, self.args.output / f"{name}.safetensors")
        self.validate(name)

    def train_step(self, name: str, batch: Batch, part_of_stage: float) -> dict[str, torch.Tensor]:
        """Do one optimizer step, and return the terms of the loss and the gradient norm."""
        cosine = 0.1 + 0.9 * (1 + math.cos(math.pi * min(1.0, self.progress))) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.learning_rate * min(1.0, (self.step + 1) / WARMUP_STEPS) * cosine
        with torch.autocast(self.device.type, torch.bfloat16):
            restored = self.stage(batch["degraded"], batch.get("flow"))
        losses = self.loss(restored, batch["sharp"], batch.get("true_flow"))
        total = losses["loss"]
        if name == "adversary":
            total = total + self.adversarial_term(losses, restored, batch["sharp"], part_of_stage)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.direct.parameters(), MAX_GRADIENT_NORM)
        if not torch.isfinite(norm):
            raise ValueError(f"The gradient is not finite in step {self.step}: use a lower --learning-rate.")
        self.optimizer.step()
        self.step += 1
        decay = min(EMA_DECAY, (self.step + 1) / (self.step + 20))
        with torch.no_grad():
            for key, value in self.direct.state_dict().items():
                self.average[key].lerp_(value, 1 - decay)
        return losses | {"gradient norm": norm}

    def adversarial_term(
        self, losses: dict[str, torch.Tensor], restored: torch.Tensor, sharp: torch.Tensor, part_of_stage: float
    ) -> torch.Tensor:
        """Train the discriminator, then return the generator's loss, scaled to a share of the other gradients."""
        restored, sharp = restored.float().flatten(0, 1), sharp.flatten(0, 1)
        self.discriminator.requires_grad_(True)
        with torch.autocast(self.device.type, torch.bfloat16):
            scores = self.discriminator(torch.cat([sharp, restored.detach()]))
        losses["discriminator"] = discriminator_loss(scores)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        losses["discriminator"].backward()
        self.discriminator_optimizer.step()
        self.discriminator.requires_grad_(False)
        with torch.autocast(self.device.type, torch.bfloat16):
            losses["adversarial"] = -self.discriminator(restored).float().mean()
        last = self.direct.conv_out.weight
        norms = [
            torch.autograd.grad(loss, last, retain_graph=True)[0].norm()
            for loss in (losses["loss"], losses["adversarial"])
        ]
        ramp = min(1.0, part_of_stage / 0.3)
        weight = ramp * self.args.adversarial_weight * norms[0] / (norms[1] + 1e-8)
        return weight * losses["adversarial"]

    @torch.no_grad()
    def validate(self, name: str) -> None:
        """Measure PSNR on held-out portraits with the averaged weights, and draw degraded, restored and sharp ones."""
        trained = {key: value.clone() for key, value in self.direct.state_dict().items()}
        self.direct.load_state_dict(self.average)
        degraded, sharp = self.validation["degraded"][:, 0], self.validation["sharp"][:, 0]
        restored = torch.cat([self.direct(part) for part in degraded.split(8)]).clamp(-1, 1)
        self.direct.load_state_dict(trained)
        psnr = [
            float((-10 * ((image - sharp).square().mean((1, 2, 3)) / 4).clamp_min(1e-6).log10()).mean())
            for image in (degraded, restored)
        ]
        self.write({"validation": name, "psnr degraded": psnr[0], "psnr restored": psnr[1]})
        strip = torch.cat([degraded, restored, sharp], dim=2)[:12].permute(2, 0, 3, 1).flatten(1, 2)
        levels = ((strip + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()
        cv2.imwrite(str(self.args.output / f"{name}.jpg"), levels[..., ::-1])

    def write(self, figures: Mapping[str, float | str]) -> None:
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()})
        with open(self.args.output / "log.jsonl", "a") as log:
            print(line, file=log)
        print(line, flush=True)


def train(args: argparse.Namespace) -> None:
    # Before the workers are forked: a child of a process with OpenCV threads can hang.
    cv2.setNumThreads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(args.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    portraits, videos = read_packs(args.packs)
    held_out = portraits[::HELD_OUT]
    portraits = [source for i, source in enumerate(portraits) if i % HELD_OUT] or portraits
    # All workers are forked before the GPU is used. They wait with their first batches until their stage starts.
    loaders = {}
    for number, name in enumerate(STAGES):
        length = 1 if name == "frames" else args.clip_length
        clips = MovingFaces(portraits, videos, length, VIDEO_SHARE[name], seed=args.seed + number)
        loader = DataLoader(clips, max(1, args.batch_frames // length), num_workers=args.workers)
        loaders[name] = iter(loader)
    run = TimedRun(args, held_out)
    ends = list(itertools.accumulate(args.shares))
    for number, name in enumerate(STAGES):
        start = ends[number - 1] if number else 0.0
        run.train_stage(name, loaders[name], start / ends[-1], ends[number] / ends[-1])


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packs", type=Path, help="folder of packs from training/pack_faces.py")
    parser.add_argument("output", type=Path, help="folder for the weights, the log and images")
    parser.add_argument("--minutes", type=float, default=10, help="time of the run without reading the packs")
    parser.add_argument("--shares", type=float, nargs=3, default=(0.45, 0.3, 0.25), help="of the time, by stage")
    parser.add_argument("--initial", type=Path, help="weights to continue with")
    parser.add_argument("--face-features", type=Path, help="folder of the network, see losses/face_features.py")
    parser.add_argument("--perceptual-weight", type=float, default=0.5)
    parser.add_argument("--steadiness-weight", type=float, default=2.0)
    parser.add_argument("--adversarial-weight", type=float, default=0.15, help="share of the other losses' gradient")
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--batch-frames", type=int, default=32, help="frames per batch, in clips or alone")
    parser.add_argument("--clip-length", type=int, default=8, help="frames per clip")
    parser.add_argument("--workers", type=int, default=15, help="processes that load data, per stage")
    parser.add_argument("--channels", type=int, nargs="+", default=[48, 96, 192, 384], help="widths of the levels")
    parser.add_argument("--units", type=int, nargs="+", default=[1, 2, 3, 4], help="residual units of the levels")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    train(build_parser().parse_args())
