"""PSNR and SSIM of aligned, degraded faces before and after restoration: the figure by which keep-tiny is accepted.

    python benchmarks/evaluate_tiny.py --videos ../shared/media/hq_eval --report runs/evaluate_tiny.json

Of the beginning of every video the largest face is followed, its landmarks are smoothed, and crops of 512 pixels are
cut: the truth.  It is degraded as a whole and restored with `aligned=True`.  Everything is compared at the size of the
model: the truth shrunk by area, the degraded crops enlarged by cubic interpolation (before), and the restored ones
(after).  Measures are means over the frames of a clip, and then over the clips.
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from keep_hf import KeepPipeline, YuNet
from keep_hf.align import crop_face, estimate_alignment
from keep_hf.degrade import LEVELS, degrade_frames
from keep_hf.follow import FaceFollower
from keep_hf.metrics import compare_videos
from keep_hf.video import VideoReader


VIDEO_SUFFIXES = {".mkv", ".mov", ".mp4", ".webm"}
FACE_SIZE = 512
STRIP_COLUMNS = 4


def cut_faces(path: Path, num_frames: int, detector: Any) -> np.ndarray:
    """Aligned crops (t, 512, 512, 3) of the largest face in the first frames; fewer where it is not seen in all."""
    with VideoReader(path) as reader:
        frames = [frame.image for frame in islice(reader, num_frames)]
    tracks = FaceFollower(detector, float(reader.frame_rate), faces="largest").tracks(frames)
    if not tracks:
        raise ValueError(f"{path}: no face in the first {len(frames)} frames.")
    track = max(tracks, key=len)
    return np.stack(
        [
            crop_face(frames[index], estimate_alignment(points, FACE_SIZE), FACE_SIZE)
            for index, points in zip(track.frames, track.landmarks, strict=True)
        ]
    )


def resize(frames: np.ndarray, size: int, interpolation: int) -> np.ndarray:
    return np.stack([cv2.resize(frame, (size, size), interpolation=interpolation) for frame in frames])


def measure(truth: np.ndarray, frames: np.ndarray) -> dict[str, float]:
    """PSNR in dB and SSIM as first published (Gaussian window, sigma 1.5 pixels), as means over the frames."""
    measures = compare_videos(frames, truth).measures
    return {name: series.mean for name in ("psnr", "ssim") if (series := measures[name]) is not None}


def mean_of(clips: list[dict[str, Any]], which: str) -> dict[str, float]:
    return {name: float(np.mean([clip[which][name] for clip in clips])) for name in ("psnr", "ssim")}


def draw_strip(path: Path, rows: list[np.ndarray]) -> None:
    columns = np.linspace(0, len(rows[0]) - 1, min(STRIP_COLUMNS, len(rows[0]))).round().astype(int)
    Image.fromarray(np.vstack([np.hstack(frames[columns]) for frames in rows])).save(path, quality=92)


def print_row(name: str, frames: int, before: dict[str, float], after: dict[str, float]) -> None:
    psnr, ssim = (f"{before[key]:.{digits}f} | {after[key]:.{digits}f}" for key, digits in (("psnr", 2), ("ssim", 4)))
    print(f"| {name} | {frames} | {psnr} | {ssim} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="folder of sharp videos, one person each")
    parser.add_argument("--model", default="keep-tiny", help="built-in name, folder or Hub id")
    parser.add_argument("--detector", help="YuNet in place of the model's own: an .onnx file or a Hub repository")
    parser.add_argument("--level", choices=list(LEVELS), default="medium")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=48, help="frames of every video")
    parser.add_argument("--fidelity", type=float, help="0 to 1; the model's own where it is left out")
    parser.add_argument("--cache", type=Path, default=Path("runs/evaluation_faces"), help="folder for aligned faces")
    parser.add_argument("--report", type=Path, default=Path("runs/evaluate_tiny.json"))
    parser.add_argument("--strip", type=Path, help="folder for one picture a clip: input, restored, truth")
    args = parser.parse_args()
    paths = sorted(path for path in args.videos.glob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        parser.error(f"there is no video in {args.videos}")
    # What was cut depends on who found the face.
    cache = args.cache / (Path(args.detector).stem if args.detector else Path(args.model).name)
    for folder in (cache, args.report.parent, *([args.strip] if args.strip else [])):
        folder.mkdir(parents=True, exist_ok=True)

    pipe = KeepPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    size = pipe.vq.config.sample_size
    detector = YuNet.from_pretrained(args.detector) if args.detector else pipe.detector
    if detector is None:
        parser.error(f"{args.model} has no detector of its own: name one with --detector")

    print("| clip | frames | PSNR before | PSNR after | SSIM before | SSIM after |")
    print("|---|---:|---:|---:|---:|---:|")
    clips = []
    for path in paths:
        kept = cache / f"{path.stem}_{args.frames}.npy"
        if not kept.exists():
            np.save(kept, cut_faces(path, args.frames, detector))
        sharp = np.load(kept)
        with VideoReader(path) as reader:
            degraded = degrade_frames(sharp, args.level, seed=args.seed, frame_rate=reader.frame_rate)
        result = pipe(degraded, aligned=True, fidelity=args.fidelity, output_type="np").frames[0]

        truth, restored = resize(sharp, size, cv2.INTER_AREA), np.rint(result * 255).astype(np.uint8)
        enlarged = resize(degraded, size, cv2.INTER_CUBIC)
        clip = {
            "clip": path.stem,
            "frames": len(sharp),
            "before": measure(truth, enlarged),
            "after": measure(truth, restored),
        }
        clips.append(clip)
        print_row(clip["clip"], clip["frames"], clip["before"], clip["after"])
        if args.strip:
            draw_strip(args.strip / f"{path.stem}.jpg", [enlarged, restored, truth])
    mean = {which: mean_of(clips, which) for which in ("before", "after")}
    print_row("**mean**", sum(clip["frames"] for clip in clips), mean["before"], mean["after"])

    settings = {name: getattr(args, name) for name in ("model", "level", "seed", "frames", "fidelity")}
    # Its name alone: the report may be published, and where a file lay says nothing to others.
    settings["detector"] = Path(args.detector).name if args.detector else None
    args.report.write_text(json.dumps({"settings": settings, "mean": mean, "clips": clips}, indent=2) + "\n")


if __name__ == "__main__":
    main()
