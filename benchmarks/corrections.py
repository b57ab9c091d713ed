"""The effect of three corrections to the published training, each compared with the fault in the same number of steps.

    python -m benchmarks.corrections --data portraits/ faces/ --validation held_out/ \\
        --videos videos/ --detector face_detection_yunet_2023mar.onnx --output runs/corrections

    start      fusion blocks that start with all layers / only their last layers at zero (stage 3)
    codec      training clips encoded at 1 frame per second / at the true rate, with the published CRF of 25 to 44
               (stage 2, single frames); each network is measured on clips of both
    landmarks  faces aligned by the landmarks of other frames, those of the first frames of the video / by their own
               (stage 2, clips)

All experiments start from the autoencoder of a trained model, with new networks for what they train.
"""

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from keep_hf import KalmanGainNetwork, KalmanRecursion, KeepPipeline, KeepVQModel, YuNet
from keep_hf.degrade import TRAINING, Degradation, degrade_frames
from keep_hf.video.pixels import to_tensor
from keep_hf.video.reader import VideoReader
from training.data.face_clips import FaceClips, open_validation
from training.loop.config import Parser, TrainerConfig, add_arguments
from training.loop.stage import Stage, TrainingSet
from training.loop.trainer import Trainer
from training.loop.validation import Validation
from training.losses.image_loss import ImageLoss
from training.losses.image_loss import add_arguments as add_loss_arguments
from training.preparation.segments import Segment, cut_segments, find_segments
from training.train_codes import CodesStage
from training.train_keep import FusionStage


# CRF 25 to 44 of the official code, at 1 frame per second, corresponds to 14 to 33 at the true rate (degrade.py).
CODECS = {"1 frame per second": TRAINING, "true rate": replace(TRAINING, crf=(25, 44))}
SEGMENT_FRAMES = 64
HELD_OUT_VIDEOS = 3


# --- Clips whose landmarks are known ---------------------------------------------------------------------------------


class Windows(TrainingSet):
    """Windows of consecutive aligned frames, sharp and degraded.

    Args:
        faces (`list[np.ndarray]`): Aligned faces `(t, size, size, 3)`, RGB, uint8.
        length (`int`): Frames per window; windows do not overlap.
    """

    def __init__(self, faces: list[np.ndarray], length: int) -> None:
        self.windows = [clip[i : i + length] for clip in faces for i in range(0, len(clip) - length + 1, length)]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        sharp = self.windows[index]
        size = sharp.shape[1]
        random = np.random.default_rng((self.epoch, index))
        small = degrade_frames(sharp, TRAINING.at_size(size), seed=int(random.integers(2**31)))
        large = torch.nn.functional.interpolate(to_tensor(small), size=(size, size), mode="bilinear")
        return {"sharp": to_tensor(sharp), "degraded": large}


def align_faces(videos: Path, detector: YuNet, size: int, length: int) -> dict[str, list[list[np.ndarray]]]:
    """Align the faces of videos, with the fault and without it.

    Args:
        videos (`Path`): Folder of videos (`.mp4`).
        detector ([`YuNet`]): Detector.
        size (`int`): Side of the aligned faces in pixels.
        length (`int`): Frames per window.

    Returns:
        `dict[str, list[list[np.ndarray]]]`: By variant (`"of other frames"`, `"of the same frames"`) and video, the
        faces `(t, size, size, 3)` of all segments.
    """
    aligned: dict[str, list[list[np.ndarray]]] = {"of other frames": [], "of the same frames": []}
    for path in sorted(videos.glob("*.mp4")):
        with VideoReader(path) as reader:
            segments = [segment.divide(SEGMENT_FRAMES)[0] for segment in find_segments(reader, detector, "all")]
        segments = [segment for segment in segments if len(segment) >= length]
        # The fault: landmarks were indexed by the position in the window, so that every window used the first ones.
        faulty = [
            Segment(s.person, s.scene, s.first_frame, s.sizes, [s.landmarks[i % length] for i in range(len(s))])
            for s in segments
        ]
        for name, variant in (("of other frames", faulty), ("of the same frames", segments)):
            with VideoReader(path) as reader:
                aligned[name].append([np.stack(crops) for _, crops, _ in cut_segments(reader, variant, size)])
    return aligned


def join(videos: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The faces of all videos in one list."""
    return [faces for video in videos for faces in video]


# --- Experiments -----------------------------------------------------------------------------------------------------


class Bench:
    """What the experiments share.

    Args:
        args (`argparse.Namespace`): Arguments of the program.
    """

    def __init__(self, args: Namespace) -> None:
        self.args = args
        self.pipe = KeepPipeline.from_pretrained(args.model)
        self.size = self.pipe.vq.config.sample_size

    def held_out_clips(self, clip_length: int, degradation: Degradation) -> FaceClips:
        """The clips of `--validation`."""
        clips = open_validation(self.args.validation, self.size, clip_length, degradation)
        if clips is None:
            raise ValueError("the experiments need held-out clips: pass --validation.")
        return clips

    def untrained_codes(self) -> KalmanRecursion:
        """The autoencoder of the model; the other networks as at the start of stage 2."""
        torch.manual_seed(0)
        vq = KeepVQModel.from_config(self.pipe.vq.config)
        for name in ("hq_encoder", "codebook", "decoder"):
            getattr(vq, name).load_state_dict(getattr(self.pipe.vq, name).state_dict())
        vq.lq_encoder.load_state_dict(vq.hq_encoder.state_dict())
        assert self.pipe.kalman is not None
        return KalmanRecursion(vq, KalmanGainNetwork.from_config(self.pipe.kalman.config), self.pipe.flow)

    def untrained_fusion(self, zero_all: bool) -> KeepVQModel:
        """The face model, with the fusion blocks of the published network as at the start of stage 3."""
        torch.manual_seed(0)
        vq = KeepVQModel.from_config(self.pipe.vq.config, fusion_layers=1, feature_update_sizes=())
        trained = ("lq_encoder", "hq_encoder", "code_transformer", "codebook", "decoder")
        state = self.pipe.vq.state_dict()
        vq.load_state_dict({k: v for k, v in state.items() if k.split(".")[0] in trained}, strict=False)
        if zero_all:
            for parameter in (*vq.feature_fusion.parameters(), *vq.cross_frame.parameters()):
                nn.init.zeros_(parameter)
        return vq

    def run(
        self, name: str, stage: Stage, dataset: TrainingSet, held_out: Mapping[str, TrainingSet], batch_size: int
    ) -> dict[str, dict[str, float]]:
        """Train a stage, and evaluate it on each of the held-out sets."""
        output = self.args.output / name.replace(" ", "_")
        config = replace(TrainerConfig.from_args(self.args), output=output, batch_size=batch_size)
        trainer = Trainer(config, stage, dataset, save_models=lambda: None)
        trainer.run()
        return {
            kind: Validation(clips, batch_size, output / "validation").run(stage, trainer.progress.step)
            for kind, clips in held_out.items()
        }


def compare_starts(bench: Bench) -> list[str]:
    dataset = FaceClips(bench.args.data, bench.size, 2, TRAINING)
    held_out = {"": bench.held_out_clips(2, TRAINING)}
    rows = ["| start of the fusion blocks | PSNR | SSIM | weights that changed |", "|---|---:|---:|---:|"]
    for name, zero_all in (("all layers zero, as published", True), ("last layers zero", False)):
        vq = bench.untrained_fusion(zero_all)
        blocks = (*vq.feature_fusion.parameters(), *vq.cross_frame.parameters())
        weights = [parameter for parameter in blocks if parameter.ndim > 1]
        before = [weight.detach().clone() for weight in weights]
        recursion = KalmanRecursion(vq, bench.pipe.kalman, bench.pipe.flow)
        stage = FusionStage(recursion, ImageLoss.from_args(bench.args), temporal_weight=0.0)
        figures = bench.run(f"start {name[:4]}", stage, dataset, held_out, batch_size=4)[""]
        changed = sum(not torch.equal(a, b) for a, b in zip(weights, before, strict=True))
        rows.append(
            f"| {name} | {figures['validation psnr']:.2f} | {figures['validation ssim']:.4f} "
            f"| {changed} of {len(weights)} |"
        )
    return rows


def compare_codecs(bench: Bench) -> list[str]:
    held_out = {name: bench.held_out_clips(1, codec) for name, codec in CODECS.items()}
    rows = [
        "| frame rate of the codec in training | in the test | code accuracy | PSNR of the codes alone |",
        "|---|---|---:|---:|",
    ]
    for name, codec in CODECS.items():
        stage = CodesStage(bench.untrained_codes(), single_frames=True)
        dataset = FaceClips(bench.args.data, bench.size, 1, codec)
        for kind, figures in bench.run(f"codec {name}", stage, dataset, held_out, batch_size=8).items():
            accuracy = figures["validation code accuracy"]
            rows.append(f"| {name} | {kind} | {accuracy:.1%} | {figures['validation psnr']:.2f} |")
    return rows


def compare_landmarks(bench: Bench) -> list[str]:
    length = 4
    variants = align_faces(bench.args.videos, YuNet.from_pretrained(bench.args.detector), bench.size, length)
    held_out = {"": Windows(join(variants["of the same frames"][-HELD_OUT_VIDEOS:]), length)}
    rows = ["| landmarks | code accuracy | PSNR of the codes alone | mean gain |", "|---|---:|---:|---:|"]
    for name, videos in variants.items():
        stage = CodesStage(bench.untrained_codes(), single_frames=False)
        dataset = Windows(join(videos[:-HELD_OUT_VIDEOS]), length)
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
    parser.add_argument("--model", default="keep-tiny", help="pipeline with the autoencoder of all experiments")
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos with faces, for the landmarks")
    parser.add_argument("--detector", required=True, help="YuNet, for the landmarks")
    add_loss_arguments(parser)
    add_arguments(parser)
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    bench = Bench(args)
    tables = ["\n".join(EXPERIMENTS[name](bench)) for name in args.experiments]
    print("", *tables, sep="\n\n")


if __name__ == "__main__":
    main()
