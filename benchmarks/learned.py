"""What each stage of training has learned, as numbers: measured on degraded faces with a known reference.

    python -m benchmarks.learned --videos ../shared/media/hq_eval --frames 48 --report runs/learned.json

    stage 1   the upper limit of the codes: the reference through encoder, codebook and decoder
    stage 2   the codes alone (fidelity 0) against this limit; how many are correct, how many different ones are used;
              the gains, which should not all be equal
    stage 3   the last layers of the fusion blocks, which started at zero; the effect of the fusion (fidelity 1)

PSNR is the mean over frames, then over clips, at the size of the model.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from keep_hf import KeepPipeline, KeepVQModel
from keep_hf.degrade import LEVELS
from keep_hf.evaluation.metrics import psnr
from keep_hf.models.kalman import KalmanState
from keep_hf.models.recursion import KalmanRecursion
from keep_hf.video.pixels import to_images, to_tensor

from .analyses import describe_gains
from .clips import add_clip_arguments, clip_loader, find_clips, resize_faces


FIDELITIES = {"codes alone": 0.0, "with fusion": 1.0}


@dataclass
class ClipStudy:
    """Results of a clip.

    Args:
        psnr (`dict[str, float]`): In dB, of the `ceiling`, the `codes alone` and `with fusion`.
        correct (`float`): Share of the codes that are those of the reference.
        codes (`np.ndarray` of shape `(frames * tokens,)`): All predicted codes.
        gains (`np.ndarray` of shape `((frames - 1) * tokens,)`): Of all tokens of all frames except the first.
    """

    psnr: dict[str, float]
    correct: float
    codes: np.ndarray
    gains: np.ndarray


@torch.no_grad()
def study_clip(pipe: KeepPipeline, truth: np.ndarray, degraded: np.ndarray) -> ClipStudy:
    """Restore a clip window by window with the state carried over, and compare it with the codes of the reference.

    Args:
        pipe ([`KeepPipeline`]): KEEP.
        truth (`np.ndarray` of shape `(t, size, size, 3)`): Sharp faces of the size of the model, RGB, uint8.
        degraded (`np.ndarray` of shape `(t, h, w, 3)`): The same faces, degraded, of any size.
    """
    size, window = pipe.vq.config.sample_size, pipe.config.gain_window
    crops = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR) for frame in degraded]
    sharp, inputs = (to_tensor(frames, pipe.device, pipe.vq.dtype)[None] for frames in (truth, crops))
    recursion = KalmanRecursion(pipe.vq, pipe.kalman, pipe.flow)
    images: dict[str, list[np.ndarray]] = {name: [] for name in ("ceiling", *FIDELITIES)}
    codes, true_codes, gains = [], [], []
    states: dict[str, KalmanState | None] = dict.fromkeys(FIDELITIES)
    for start in range(0, len(truth), window):
        part = slice(start, start + window)
        latents, _ = pipe.vq.encode_hq(sharp[0, part])
        true_codes.append(pipe.vq.nearest_codes(latents))
        images["ceiling"] += list(to_images(pipe.vq.decode(pipe.vq.lookup(true_codes[-1], latents))[0]))
        for name, fidelity in FIDELITIES.items():
            result = recursion(inputs[:, part], states[name], fidelity=fidelity)
            states[name] = result.state
            images[name] += list(to_images(result.frames[0]))
            if name == "codes alone":
                codes.append(result.logits[0].argmax(-1))
                gains.append(result.gains[0, 0 if start else 1 :].flatten().float().cpu().numpy())
    predicted, true = torch.cat(codes), torch.cat(true_codes)
    return ClipStudy(
        psnr={
            name: float(np.mean([psnr(image, reference) for image, reference in zip(faces, truth, strict=True)]))
            for name, faces in images.items()
        },
        correct=float((predicted == true).float().mean()),
        codes=predicted.flatten().cpu().numpy(),
        gains=np.concatenate(gains),
    )


def study_fusion(vq: KeepVQModel) -> dict[str, float]:
    """Root mean square of the weights of the last layers in the fusion blocks, which all were zero before stage 3."""
    layers = (
        ("SFT", vq.feature_fusion, ("scale_out", "shift_out")),
        ("update", vq.feature_update, ("correction",)),
        ("cross-frame", vq.cross_frame, ("norm1", "norm2")),
    )
    weights = {
        f"{kind} {size}, {layer}": getattr(block, layer).weight
        for kind, blocks, names in layers
        for size, block in blocks.items()
        for layer in names
    }
    return {name: float(weight.detach().float().square().mean().sqrt()) for name, weight in weights.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_clip_arguments(parser)
    parser.add_argument("--level", choices=list(LEVELS), default="medium")
    parser.add_argument("--report", type=Path, default=Path("runs/learned.json"), help="JSON file to write")
    args = parser.parse_args(arguments)

    pipe = KeepPipeline.from_pretrained(args.model)
    if pipe.kalman is None:
        parser.error(f"{args.model} restores single frames, it has no gain network")
    open_clip = clip_loader(args, pipe)
    studies = []
    for path in find_clips(args.videos, args.clips):
        clip = open_clip(path)
        truth = resize_faces(clip.truth, pipe.vq.config.sample_size)
        studies.append(study_clip(pipe, truth, clip.degrade(args.level).frames))
        print(f"{clip.name} done", flush=True)

    means = {name: float(np.mean([study.psnr[name] for study in studies])) for name in studies[0].psnr}
    report = {
        **means,
        "correct": float(np.mean([study.correct for study in studies])),
        "below the ceiling": means["ceiling"] - means["codes alone"],
        "distinct codes": len(np.unique(np.concatenate([study.codes for study in studies]))),
        "gains": describe_gains(np.concatenate([study.gains for study in studies])),
        "last layers": study_fusion(pipe.vq),
    }
    args.report.parent.mkdir(parents=True, exist_ok=True)
    args.report.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
