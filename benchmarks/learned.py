"""Has every stage of the training learned something?  Numbers for each, on degraded faces whose truth is known.

    python -m benchmarks.learned --videos ../shared/media/hq_eval --frames 48 --report runs/learned.json

    stage 1   the ceiling: the truth through encoder, codebook and decoder
    stage 2   the codes alone (fidelity 0) against that ceiling; how many are right, how many different ones are used;
              the gains, which should not all be the same
    stage 3   the last layers of the fusion blocks, which started at zero; what the fusion adds (fidelity 1)

PSNR is the mean over frames, then over clips, at the size of the model.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from keep_hf import KeepPipeline, KeepVQModel, YuNet
from keep_hf.degrade import LEVELS
from keep_hf.evaluation.metrics import psnr
from keep_hf.models.recursion import KalmanRecursion
from keep_hf.video.pixels import to_images, to_tensor

from .analyses import describe_gains
from .clips import Clip, find_clips, fit


@torch.no_grad()
def study_clip(pipe: KeepPipeline, truth: np.ndarray, degraded: np.ndarray) -> dict[str, Any]:
    """Restore a clip window by window, the state carried on, and compare with what the true codes would give.

    Args:
        pipe ([`KeepPipeline`]): KEEP.
        truth (`np.ndarray` of shape `(t, size, size, 3)`): Sharp faces of the size of the model, RGB, uint8.
        degraded (`np.ndarray` of shape `(t, h, w, 3)`): The same, degraded, of any size.

    Returns:
        `dict[str, Any]`: PSNR of `ceiling`, `codes alone` and `with fusion` in dB; `right`, the part of the codes that
        are the true ones; `codes`, all that were chosen; `gains`, of every token of every frame but the first.
    """
    size, window = pipe.vq.config.sample_size, pipe.config.gain_window
    crops = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR) for frame in degraded]
    sharp, crops = (to_tensor(frames, pipe.device, pipe.vq.dtype)[None] for frames in (truth, crops))
    recursion = KalmanRecursion(pipe.vq, pipe.kalman, pipe.flow)
    made: dict[str, list[np.ndarray]] = {"ceiling": [], "codes alone": [], "with fusion": []}
    codes, true_codes, gains = [], [], []
    states = dict.fromkeys(("codes alone", "with fusion"))
    for start in range(0, len(truth), window):
        part = slice(start, start + window)
        latents, _ = pipe.vq.encode_hq(sharp[0, part])
        true_codes.append(pipe.vq.nearest_codes(latents))
        made["ceiling"] += list(to_images(pipe.vq.decode(pipe.vq.lookup(true_codes[-1], latents))[0]))
        for name, fidelity in (("codes alone", 0.0), ("with fusion", 1.0)):
            done = recursion(crops[:, part], states[name], fidelity=fidelity)
            states[name] = done.state
            made[name] += list(to_images(done.frames[0]))
            if name == "codes alone":
                codes.append(done.logits[0].argmax(-1))
                gains.append(done.gains[0, 0 if start else 1 :].flatten().float().cpu().numpy())
    chosen, right = torch.cat(codes), torch.cat(true_codes)
    return {
        **{
            name: float(np.mean([psnr(a, b) for a, b in zip(faces, truth, strict=True)]))
            for name, faces in made.items()
        },
        "right": float((chosen == right).float().mean()),
        "codes": chosen.flatten().tolist(),
        "gains": np.concatenate(gains),
    }


def study_fusion(vq: KeepVQModel) -> dict[str, float]:
    """Root mean square of the last layers of the fusion blocks; all of them were zero before stage 3."""
    weights = {
        f"{kind} {size}, {layer}": getattr(block, layer).weight
        for kind, blocks, layers in (
            ("SFT", vq.feature_fusion, ("scale_out", "shift_out")),
            ("update", vq.feature_update, ("correction",)),
            ("cross-frame", vq.cross_frame, ("norm1", "norm2")),
        )
        for size, block in blocks.items()
        for layer in layers
    }
    return {name: float(weight.detach().float().square().mean().sqrt()) for name, weight in weights.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="folder of sharp videos or folders of pictures")
    parser.add_argument("--frames", type=int, help="first frames of every clip; all if left out")
    parser.add_argument("--aligned", action="store_true", help="the clips are aligned faces already")
    parser.add_argument("--detector", help="YuNet in place of the model's own: an .onnx file or a Hub repository")
    parser.add_argument("--cache", type=Path, default=Path("runs/evaluation_faces"), help="folder for aligned faces")
    parser.add_argument("--model", default="keep-tiny", help="built-in name, folder or Hub id")
    parser.add_argument("--level", choices=list(LEVELS), default="medium")
    parser.add_argument("--seed", type=int, default=0, help="of the degradation")
    parser.add_argument("--report", type=Path, default=Path("runs/learned.json"))
    args = parser.parse_args()

    pipe = KeepPipeline.from_pretrained(args.model)
    if pipe.kalman is None:
        parser.error(f"{args.model} is a single-frame model, without gain network")
    detector = None
    if not args.aligned:
        detector = YuNet.from_pretrained(args.detector) if args.detector else pipe.face_detector()
    cache = args.cache / Path(args.detector or args.model).stem
    studies = []
    for path in find_clips(args.videos, None):
        clip = Clip(path, detector, cache, args.frames, args.seed)
        truth = fit(clip.truth, pipe.vq.config.sample_size)
        studies.append(study_clip(pipe, truth, clip.degrade(args.level).frames))
        print(f"{clip.name} done", flush=True)

    means = {
        key: float(np.mean([study[key] for study in studies])) for key in studies[0] if key not in ("codes", "gains")
    }
    report = {
        **means,
        "below the ceiling": means["ceiling"] - means["codes alone"],
        "distinct codes": len({code for study in studies for code in study["codes"]}),
        "gains": describe_gains(np.concatenate([study["gains"] for study in studies])),
        "last layers": study_fusion(pipe.vq),
    }
    args.report.parent.mkdir(parents=True, exist_ok=True)
    args.report.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
