"""Does it matter what was mended in the published training?  Three faults, each against its mending, in equal steps.

    python -m benchmarks.mending --data portraits/ faces/ --validation held_out/ \\
        --films films/ --detector face_detection_yunet_2023mar.onnx --output runs/mending

    start      fusion blocks that start at zero altogether / in their last layer only (stage 3)
    codec      codec told 1 frame per second / the true rate, at the published CRF, 25 to 44 (stage 2, single frames);
               each is measured on clips made in both ways
    landmarks  faces cut by the landmarks of other frames: those of the first frames of the film, whatever part of it
               is shown / by their own (stage 2, clips)

All begin with the autoencoder of a trained model and new networks for what they train.
"""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from keep_hf import KalmanGainNetwork, KalmanRecursion, KeepPipeline, KeepVQModel, YuNet
from keep_hf.degrade import TRAINING, degrade_frames
from keep_hf.video.pixels import to_tensor
from keep_hf.video.reader import VideoReader
from training.data.face_clips import FaceClips, open_validation
from training.loop.config import Parser, TrainerConfig, add_arguments
from training.loop.stage import Stage, TrainingSet
from training.loop.trainer import Trainer
from training.loop.validation import Validation
from training.losses.image_loss import ImageLoss
from training.losses.image_loss import add_arguments as add_loss_arguments
from training.networks import KALMAN_NETWORKS
from training.preparation.segments import Segment, cut_segments, find_segments
from training.train_codes import CodesStage
from training.train_keep import FusionStage


# What the official code calls CRF 25 to 44 at 1 frame per second is 14 to 33 at the true rate (degrade.py).
CODECS = {"1 frame per second": TRAINING, "true rate": replace(TRAINING, crf=(25, 44))}
FILM_FRAMES = 64  # of each segment; the faulty variant uses the landmarks of the first of them
HELD_OUT_FILMS = 3


class Windows(TrainingSet):
    """Windows of consecutive aligned frames, with degraded ones.

    Args:
        films (`list[np.ndarray]`): Aligned faces `(t, size, size, 3)`, RGB, uint8.
        length (`int`): Frames a window; windows follow each other without overlap.
    """

    def __init__(self, films: list[np.ndarray], length: int) -> None:
        self.windows = [film[i : i + length] for film in films for i in range(0, len(film) - length + 1, length)]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        sharp = self.windows[index]
        size = sharp.shape[1]
        random = np.random.default_rng((self.epoch, index))
        small = degrade_frames(sharp, TRAINING.at_size(size), seed=int(random.integers(2**31)))
        large = torch.nn.functional.interpolate(to_tensor(small), size=(size, size), mode="bilinear")
        return {"sharp": to_tensor(sharp), "degraded": large}


def cut_films(films: Path, detector: YuNet, size: int, length: int) -> dict[str, list[list[np.ndarray]]]:
    """By way of cutting, for each film: everybody's faces."""
    cut: dict[str, list[list[np.ndarray]]] = {"of other frames": [], "their own": []}
    for path in sorted(films.glob("*.mp4")):
        with VideoReader(path) as reader:
            segments = [segment.divide(FILM_FRAMES)[0] for segment in find_segments(reader, detector, "all")]
        segments = [segment for segment in segments if len(segment) >= length]
        # Frame k of a window takes the landmarks of frame k of the film: the index within the window was used.
        wrong = [
            Segment(s.person, s.scene, s.first_frame, s.sizes, [s.landmarks[i % length] for i in range(len(s))])
            for s in segments
        ]
        for name, parts in (("of other frames", wrong), ("their own", segments)):
            with VideoReader(path) as reader:
                cut[name].append([np.stack(crops) for _, crops, _ in cut_segments(reader, parts, size)])
    return cut


class Bench:
    """What the experiments share.

    Args:
        args (`argparse.Namespace`): Of the program.
    """

    def __init__(self, args: Namespace) -> None:
        self.args = args
        self.pipe = KeepPipeline.from_pretrained(args.model)
        self.size = self.pipe.vq.config.sample_size

    def untrained_codes(self) -> KalmanRecursion:
        """The autoencoder of the model; its other networks as stage 2 begins with them."""
        torch.manual_seed(0)
        vq = KeepVQModel.from_config(self.pipe.vq.config)
        for name in ("hq_encoder", "codebook", "decoder"):
            getattr(vq, name).load_state_dict(getattr(self.pipe.vq, name).state_dict())
        vq.lq_encoder.load_state_dict(vq.hq_encoder.state_dict())
        return KalmanRecursion(vq, KalmanGainNetwork(**KALMAN_NETWORKS["tiny"]), self.pipe.flow)

    def run(
        self, name: str, stage: Stage, dataset: TrainingSet, held_out: dict[str, TrainingSet], batch_size: int
    ) -> dict[str, dict[str, float]]:
        """Train a stage, and measure it on each of the held-out sets."""
        output = self.args.output / name.replace(" ", "_")
        config = replace(TrainerConfig.from_args(self.args), output=output, batch_size=batch_size)
        Trainer(config, stage, dataset, save_models=lambda: None).run()
        return {
            kind: Validation(clips, batch_size, output / "validation").run(stage, config.steps)
            for kind, clips in held_out.items()
        }


def compare_starts(bench: Bench) -> list[str]:
    dataset = FaceClips(bench.args.data, bench.size, 2, TRAINING)
    held_out = {"": open_validation(bench.args.validation, size=bench.size, clip_length=2, degradation=TRAINING)}
    rows = ["| start of the fusion blocks | PSNR | SSIM | weights that moved |", "|---|---:|---:|---:|"]
    for name, zero_all in (("all layers zero, as published", True), ("last layers zero", False)):
        torch.manual_seed(0)
        # Blocks as they were published, untrained, in a network that is trained but for them.
        vq = KeepVQModel.from_config(bench.pipe.vq.config, fusion_layers=1, feature_update_sizes=())
        trained = ("lq_encoder", "hq_encoder", "code_transformer", "codebook", "decoder")
        state = bench.pipe.vq.state_dict()
        vq.load_state_dict({k: v for k, v in state.items() if k.split(".")[0] in trained}, strict=False)
        blocks = nn.ModuleList([vq.feature_fusion, vq.cross_frame])
        if zero_all:
            for parameter in blocks.parameters():
                nn.init.zeros_(parameter)
        weights = [parameter for parameter in blocks.parameters() if parameter.ndim > 1]
        before = [weight.detach().clone() for weight in weights]
        stage = FusionStage(
            KalmanRecursion(vq, bench.pipe.kalman, bench.pipe.flow),
            ImageLoss.from_args(bench.args),
            temporal_weight=0.0,
        )
        figures = bench.run(f"start {name[:4]}", stage, dataset, held_out, batch_size=4)[""]
        moved = sum(not torch.equal(a, b) for a, b in zip(weights, before, strict=True))
        rows.append(
            f"| {name} | {figures['validation psnr']:.2f} | {figures['validation ssim']:.4f} "
            f"| {moved} of {len(weights)} |"
        )
    return rows


def compare_codecs(bench: Bench) -> list[str]:
    settings = {"size": bench.size, "clip_length": 1}
    held_out = {
        name: open_validation(bench.args.validation, **settings, degradation=codec) for name, codec in CODECS.items()
    }
    rows = ["| trained with | measured with | codes right | PSNR of the codes alone |", "|---|---|---:|---:|"]
    for name, codec in CODECS.items():
        stage = CodesStage(bench.untrained_codes(), single_frames=True)
        dataset = FaceClips(bench.args.data, **settings, degradation=codec)
        measured = bench.run(f"codec {name}", stage, dataset, held_out, batch_size=8)
        for kind, figures in measured.items():
            right = figures["validation code accuracy"]
            rows.append(f"| {name} | {kind} | {right:.1%} | {figures['validation psnr']:.2f} |")
    return rows


def compare_landmarks(bench: Bench) -> list[str]:
    length = 4
    films = cut_films(bench.args.films, YuNet.from_pretrained(bench.args.detector), bench.size, length)
    held_out = {"": Windows([face for film in films["their own"][-HELD_OUT_FILMS:] for face in film], length)}
    rows = ["| landmarks | codes right | PSNR of the codes alone | mean gain |", "|---|---:|---:|---:|"]
    for name, cut in films.items():
        dataset = Windows([face for film in islice(cut, len(cut) - HELD_OUT_FILMS) for face in film], length)
        stage = CodesStage(bench.untrained_codes(), single_frames=False)
        figures = bench.run(f"landmarks {name}", stage, dataset, held_out, batch_size=2)[""]
        rows.append(
            f"| {name} | {figures['validation code accuracy']:.1%} | {figures['validation psnr']:.2f} "
            f"| {figures['validation mean gain']:.3f} |"
        )
    return rows


EXPERIMENTS: dict[str, Callable[[Bench], list[str]]] = {
    "start": compare_starts,
    "codec": compare_codecs,
    "landmarks": compare_landmarks,
}


def build_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("--experiments", nargs="+", choices=list(EXPERIMENTS), default=list(EXPERIMENTS))
    parser.add_argument("--model", default="keep-tiny", help="pipeline whose autoencoder all begin with")
    parser.add_argument("--films", type=Path, required=True, help="plain videos, for the landmarks")
    parser.add_argument("--detector", required=True, help="YuNet, for the landmarks")
    add_loss_arguments(parser)
    add_arguments(parser)
    return parser


def main() -> None:
    args = build_parser().parse_args()
    bench = Bench(args)
    tables = ["\n".join(EXPERIMENTS[name](bench)) for name in args.experiments]
    print("", *tables, sep="\n\n")


if __name__ == "__main__":
    main()
