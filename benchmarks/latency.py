"""What `latency="low"` costs: look-ahead, quality, flicker and speed beside the default, on whole frames.

    python -m benchmarks.latency --videos DIR --clips A B C D --frames 40 --models keep-small keep-tiny

    clip ──> shrunk to --height: the truth ──> degraded to half the size ──> pipe.stream(latency=...), frame by frame
                                                                                  │
               the largest face, cropped from truth and results alike ──> compared

The face is found in the truth, with the default tracker, so that all results are compared in the same places.  "input"
is the degraded clip, enlarged by cubic interpolation.  The look-ahead is counted: the largest number of frames that a
stream holds after a step.  Both latencies of a clip run one after the other in the same process; their speed is given
per second of CPU time, which other work on the machine changes less than seconds.

Results are in benchmarks/streaming.md.
"""

import argparse
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers.utils.logging import disable_progress_bar

from keep_hf import FaceDetector, KeepPipeline, YuNet
from keep_hf.degrade import LEVELS, degrade_frames
from keep_hf.evaluation.compare import compare_videos
from keep_hf.evaluation.networks import Networks
from keep_hf.evaluation.series import VideoMetrics
from keep_hf.faces.alignment import crop_face, estimate_alignment
from keep_hf.faces.follower import FaceFollower
from keep_hf.faces.tracking.tracks import FaceTrack
from keep_hf.models.flow.dis import DISFlow
from keep_hf.options import LATENCIES
from keep_hf.video.open import open_video

from .clips import clip_name, find_clips


# Side of the compared faces, and by how much the published degradation reduces frames with such faces
FACE_SIZE, SCALE = 256, 2
METRICS = ("psnr", "ssim", "ids", "flicker")


@dataclass(frozen=True)
class Row:
    """A row of the table: the metrics of a result, and what it took.

    Args:
        values (`tuple[float, ...]`): The measured ones of `METRICS`; means over the frames.
        look_ahead (`int`): Largest number of frames that were held.
        rate (`float`): Frames per second of CPU time.
    """

    values: tuple[float, ...]
    look_ahead: int
    rate: float


def read_truth(path: Path, height: int, frames: int) -> tuple[np.ndarray, float]:
    """The first frames of a clip, shrunk to a height by area, and the frame rate."""
    with open_video(path, 25.0) as reader:
        images = [frame.image for frame in islice(reader.read(), frames)]
        rate = float(reader.frame_rate)
    width = SCALE * round(images[0].shape[1] * height / images[0].shape[0] / SCALE)
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]), rate


def find_face(detector: FaceDetector | YuNet, truth: np.ndarray, rate: float, name: str) -> FaceTrack:
    tracks = FaceFollower(detector, rate, faces="largest").tracks(truth)
    if not tracks:
        raise ValueError(f"{name} has no face in its first {len(truth)} frames: name other clips with --clips.")
    return max(tracks, key=len)


def crop(frames: np.ndarray, track: FaceTrack) -> list[np.ndarray]:
    """The aligned face in the frames of its track."""
    return [
        crop_face(frames[index], estimate_alignment(points, FACE_SIZE), FACE_SIZE)
        for index, points in zip(track.frames, track.landmarks, strict=True)
    ]


def restore(pipe: KeepPipeline, frames: np.ndarray, rate: float, latency: str) -> tuple[np.ndarray, int, float]:
    """The restored frames, enlarged to the size of the truth; the look-ahead; and the seconds of CPU time."""
    restored, held = [], 0
    started = time.process_time()
    with pipe.stream(frame_rate=rate, latency=latency, upscale=SCALE, strength=1.0) as stream:
        for frame in frames:
            restored += stream.step(frame)
            held = max(held, stream.num_in - stream.num_out)
        restored += stream.flush()
    return np.stack(restored), held, time.process_time() - started


def measure_clip(
    path: Path, args: argparse.Namespace, pipes: dict[str, KeepPipeline], networks: Networks
) -> dict[str, Row]:
    """The rows of a clip, by name."""
    truth, rate = read_truth(path, args.height, args.frames)
    track = find_face(args.detector, truth, rate, path.name)
    faces = crop(truth, track)
    degraded = degrade_frames(truth, LEVELS[args.level].at_size(FACE_SIZE), seed=args.seed, frame_rate=rate)

    def measure(frames: np.ndarray) -> tuple[float, ...]:
        return mean_values(compare_videos(crop(frames, track), faces, **vars(networks)))

    size = truth.shape[2], truth.shape[1]
    enlarged = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in degraded])
    rows = {"input": Row(measure(enlarged), 0, 0.0)}
    for name, pipe in pipes.items():
        restore(pipe, degraded[:2], rate, "low")  # the first frames take longer
        for latency in LATENCIES:
            restored, held, seconds = restore(pipe, degraded, rate, latency)
            rows[f"{name}, {latency}"] = Row(measure(restored), held, len(degraded) / seconds)
    return rows


def mean_values(metrics: VideoMetrics) -> tuple[float, ...]:
    means = (metrics.mean[key] for key in METRICS)
    return tuple(mean for mean in means if mean is not None)


def print_row(clip: str, name: str, row: Row) -> None:
    cells = [f"{value:.3f}" for value in row.values]
    cells += [str(row.look_ahead), f"{row.rate:.2f}"] if row.rate else ["", ""]
    print(f"| {clip} | {name} | {' | '.join(cells)} |", flush=True)


def average(rows: list[Row]) -> Row:
    """The mean over clips; the largest look-ahead; the rate of all frames together, for clips of one length."""
    values = tuple(float(value) for value in np.mean([row.values for row in rows], axis=0))
    rate = len(rows) / sum(1 / row.rate for row in rows) if rows[0].rate else 0.0
    return Row(values, max(row.look_ahead for row in rows), rate)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="folder of sharp videos or folders of images")
    parser.add_argument("--clips", nargs="+", metavar="NAME", help="clips in the folder; all by default")
    parser.add_argument("--frames", type=int, default=40, help="number of frames from the start of each clip")
    parser.add_argument("--height", type=int, default=540, help="of the truth, in pixels; even")
    parser.add_argument("--level", choices=list(LEVELS), default="medium")
    parser.add_argument("--seed", type=int, default=0, help="of the degradation")
    parser.add_argument("--models", nargs="+", default=["keep-small", "keep-tiny"])
    parser.add_argument(
        "--detector", help="YuNet for the faces of the truth: .onnx file; that of the models by default"
    )
    parser.add_argument("--identity", help="for IDS: an .onnx file, a folder or a Hub repository")
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipes = {name: KeepPipeline.from_pretrained(name).to(device) for name in args.models}
    first = pipes[args.models[0]]
    args.detector = YuNet.from_pretrained(args.detector) if args.detector else first.face_detector()
    networks = Networks.load(identity=args.identity, flow=DISFlow(), device=device)
    labels = [label for label in METRICS if label != "ids" or args.identity]
    print(f"| clip | result | {' | '.join(labels)} | look-ahead | frames per CPU second |")
    print("|---|---|" + "---:|" * (len(labels) + 2))
    results = {}
    for path in find_clips(args.videos, args.clips):
        results[clip_name(path)] = rows = measure_clip(path, args, pipes, networks)
        for name, row in rows.items():
            print_row(clip_name(path), name, row)
    for name in rows:
        print_row("mean", name, average([clip_rows[name] for clip_rows in results.values()]))


if __name__ == "__main__":
    main()
