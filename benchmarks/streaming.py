"""Streaming, measured: the pulse at window borders, drift over thousands of frames, memory.

    python -m benchmarks.streaming windows CLIP [CLIP ...]          # which window for the gains
    python -m benchmarks.streaming pulse CLIP [CLIP ...]            # is a border of windows seen? stream, official
    python -m benchmarks.streaming drift CLIP --frames 3000         # does the face change over time?
    python -m benchmarks.streaming memory CLIP --lengths 300 3000   # peak memory against length

Windows, pulse and drift take clips of aligned faces, of any size; memory takes any clip.  Clips are run through
forwards and backwards as often as it takes, so that they have no cut.

What was measured is in benchmarks/streaming.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

from keep_hf import KalmanRecursion, KeepPipeline
from keep_hf.faces.identity import FaceIdentity
from keep_hf.video.pixels import to_tensor
from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter


# Frames of past and of look-ahead; the rest of the gain window is the block
WINDOWS = ((0, 0), (4, 0), (10, 0), (0, 6), (2, 2), (4, 4), (6, 6), (8, 4), (4, 8), (8, 8))


def read_clip(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


def back_and_forth(frames: list[np.ndarray]) -> Iterator[np.ndarray]:
    while True:
        yield from frames
        yield from frames[-2:0:-1]


def face(frame: np.ndarray, size: int) -> np.ndarray:
    """The middle of an aligned crop, where the face is and nothing else."""
    edge = size // 5
    return frame[edge : size - edge, edge : size - edge]


def changes(inputs: list[np.ndarray], outputs: np.ndarray) -> np.ndarray:
    """Motion-compensated change of every frame but the first: mean |y[t] - warp(y[t-1])| over the face, in levels.

    The motion is that of the input, by OpenCV's DIS: a judge that the pipeline has no part in.
    """
    size = outputs.shape[1]
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(cv2.resize(x, (size, size)), cv2.COLOR_RGB2GRAY) for x in inputs]
    places = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).astype(np.float32)
    result = []
    for t in range(1, len(outputs)):
        flow = places + estimator.calc(grey[t], grey[t - 1], None)
        moved = cv2.remap(
            outputs[t - 1].astype(np.float32), flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        result.append(np.abs(face(outputs[t] - moved, size)).mean())
    return np.array(result)


def run_windows(args: argparse.Namespace) -> None:
    """How much the gains jump where one window ends and the next begins, for divisions of the window.

    The jump is |K[t] - K[t-1]|, mean over the tokens, at borders against inside.  Beside it the same for gains without
    borders, each from a window that has the frame in its middle, and the distance to these.
    """
    pipe = load(args)
    window = pipe.config.gain_window
    recursion = KalmanRecursion(pipe.vq, pipe.kalman, pipe.flow)
    size = pipe.vq.config.sample_size
    clips = []
    for path in args.clips:
        crops = [cv2.resize(frame, (size, size)) for frame in islice(back_and_forth(read_clip(path)), args.frames)]
        with torch.no_grad():
            clips.append(recursion.observe(to_tensor(crops, pipe.device, pipe.vq.dtype)[None]).latents)

    def gains(latents: torch.Tensor, past: int, ahead: int) -> torch.Tensor:
        block, length = window - past - ahead, latents.shape[1]
        pieces = []
        for start in range(0, length, block):
            first, stop = max(start - past, 0), min(start + block, length)
            with torch.no_grad():
                seen = pipe.kalman(latents[:, first : min(stop + ahead, length)])
            pieces.append(seen[:, start - first : stop - first])
        return torch.cat(pieces, dim=1)[0, :, 0]

    def faded_gains(latents: torch.Tensor) -> torch.Tensor:
        """Two windows for every frame, as in stream mode: from the one to the other along half a window."""
        block, result = window // 2, []
        earlier = None
        for start in range(0, latents.shape[1], block):
            with torch.no_grad():
                seen = pipe.kalman(latents[:, start : start + window])[0, :, 0]
            part = ((torch.arange(block) + 0.5) / block)[:, None, None][: len(seen)]
            now = seen[:block]
            result.append(now if earlier is None else (1 - part) * earlier + part * now)
            earlier = seen[block:]
        return torch.cat(result)

    centred = [gains(latents, window // 2, window - window // 2 - 1) for latents in clips]
    print(f"mean gain {torch.cat(centred).mean():.4f}, deviation over tokens {torch.cat(centred).std():.4f}\n")
    print("| past | block | look-ahead | at borders | inside | border / inside | the same, centred | off centred |")
    print("|---|---|---|---|---|---|---|---|")
    ways = [(f"{p} | {window - p - a} | {a}", window - p - a, lambda z, p=p, a=a: gains(z, p, a)) for p, a in WINDOWS]
    ways.append((f"two windows | {window // 2} | cross-faded", window // 2, faded_gains))
    for name, block, way in ways:
        border, inside, centre, distance = [], [], [], []
        for latents, reference in zip(clips, centred, strict=True):
            found = way(latents)
            at_border = torch.arange(1, len(found)) % block == 0
            jump, natural = ((values[1:] - values[:-1]).abs().flatten(1).mean(1) for values in (found, reference))
            border.append(jump[at_border].mean().item())
            inside.append(jump[~at_border].mean().item())
            centre.append((natural[at_border].mean() / natural[~at_border].mean()).item())
            distance.append((found - reference).abs().mean().item())
        print(
            f"| {name} | {np.mean(border):.5f} | {np.mean(inside):.5f} | {np.mean(border) / np.mean(inside):.3f} "
            f"| {np.mean(centre):.3f} | {np.mean(distance):.5f} |"
        )


def run_pulse(args: argparse.Namespace) -> None:
    """The change at borders against inside: as it is, and over the change of the input at the same frames.

    The second asks the same question with less noise: where the input changes, so must the result.
    """
    pipe = load(args)
    size = pipe.vq.config.sample_size
    print("| mode | frames between borders | borders | border | inside | border / inside | the same over the input |")
    print("|---|---|---|---|---|---|---|")
    for mode in ("official", "stream"):
        rows = []
        number = 0
        for path in args.clips:
            inputs = list(islice(back_and_forth(read_clip(path)), args.frames))
            stream = pipe.stream(aligned=True, gain_mode=mode)
            block = stream.restorer.block_length
            outputs = np.array([done.image for done in stream.restore(inputs)])
            change = changes(inputs, outputs)
            expected = changes(inputs, np.array([cv2.resize(frame, (size, size)) for frame in inputs]))
            at_border = np.arange(1, len(change) + 1) % block == 0
            number += at_border.sum()
            for values in (change, change / np.maximum(expected, 0.1)):
                rows.append((values[at_border].mean(), values[~at_border].mean()))
        border, inside = np.mean(rows[::2], axis=0)
        border_over_input, inside_over_input = np.mean(rows[1::2], axis=0)
        print(
            f"| {mode} | {block} | {number} | {border:.3f} | {inside:.3f} | {border / inside:.3f} "
            f"| {border_over_input / inside_over_input:.3f} |",
            flush=True,
        )


def run_drift(args: argparse.Namespace) -> None:
    pipe = load(args)
    identity = FaceIdentity.from_pretrained(args.identity) if args.identity else None
    frames = read_clip(args.clips[0])
    period = 2 * len(frames) - 2
    size = pipe.vq.config.sample_size
    first: list[np.ndarray] = []
    now: list[np.ndarray] = []
    print(
        "| pass | mean of the face (R, G, B) | contrast | difference to the first pass | likeness to the first pass |"
    )
    print("|---|---|---|---|---|")
    stream = pipe.stream(aligned=True)
    for i, done in enumerate(stream.restore(islice(back_and_forth(frames), args.frames))):
        now.append(done.image)
        if len(now) == period or i == args.frames - 1:
            first = first or now
            faces = np.array([face(image, size) for image in now], np.float32)
            before = np.array([face(image, size) for image in first[: len(now)]], np.float32)
            likeness = ""
            if identity:
                alike = (identity.embed(now) * identity.embed(first[: len(now)])).sum(axis=1)
                likeness = f"{alike.mean():.4f}"
            colour = ", ".join(f"{value:.2f}" for value in faces.mean(axis=(0, 1, 2)))
            difference = np.abs(faces - before).mean()
            print(f"| {i // period + 1} | {colour} | {faces.std():.2f} | {difference:.3f} | {likeness} |", flush=True)
            now = []


def run_memory(args: argparse.Namespace) -> None:
    print("| road | frames | peak of host memory, MiB | ratio |")
    print("|---|---|---|---|")
    for road in ("restore_video", "stream"):
        least = 0.0
        for number in args.lengths:
            command = [sys.executable, "-m", "benchmarks.streaming", "one", str(args.clips[0])]
            command += ["--frames", str(number), "--road", road, "--model", args.model]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak = json.loads(done.stdout.splitlines()[-1])["host"] / 2**20
            least = least or peak
            print(f"| {road} | {number} | {peak:.0f} | {peak / least:.3f} |", flush=True)


def run_one(args: argparse.Namespace) -> None:
    """One run in a process of its own: the peak of memory is that of the process."""
    pipe = load(args)
    frames = islice(back_and_forth(read_clip(args.clips[0])), args.frames)
    if args.road == "stream":
        stream = pipe.stream()
        number = sum(1 for _ in stream.restore(frames))
        report = stream.report()
    else:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "in.mp4"
            height, width = (first := next(frames)).shape[:2]
            with VideoWriter(
                source, width=width, height=height, frame_rate=Fraction(25), preset="ultrafast"
            ) as writer:
                writer.write(first)
                for frame in frames:
                    writer.write(frame)
            report = pipe.restore_video(source, Path(folder) / "out.mp4")
            number = report["frames"]
    assert number == args.frames
    print(json.dumps(report["peak_memory_bytes"]))


def load(args: argparse.Namespace) -> KeepPipeline:
    pipe = KeepPipeline.from_pretrained(args.model)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run, frames in (
        ("windows", run_windows, 200),
        ("pulse", run_pulse, 200),
        ("drift", run_drift, 3000),
        ("one", run_one, 300),
    ):
        command = commands.add_parser(name)
        command.add_argument("--frames", type=int, default=frames, help="length that clips are run to")
        command.set_defaults(run=run)
    commands.choices["drift"].add_argument("--identity", help="model for the likeness: an .onnx file")
    commands.choices["one"].add_argument("--road", choices=["restore_video", "stream"], default="restore_video")
    memory = commands.add_parser("memory")
    memory.add_argument("--lengths", type=int, nargs="+", default=[300, 3000])
    memory.set_defaults(run=run_memory)
    for command in commands.choices.values():
        command.add_argument("clips", type=Path, nargs="+")
        command.add_argument("--model", default="keep-tiny")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
