"""Measurements of streaming: changes at the borders of windows, drift over thousands of frames, memory.

    python -m benchmarks.streaming windows CLIP [CLIP ...]          # which division of the gain window
    python -m benchmarks.streaming pulse CLIP [CLIP ...]            # is a window border visible: stream, official
    python -m benchmarks.streaming drift CLIP --frames 3000         # does the face change over time
    python -m benchmarks.streaming memory CLIP --lengths 300 3000   # peak memory by length

Windows, pulse and drift take clips of aligned faces of any size, memory takes any clip.  Clips are played forwards and
backwards until they have the requested length, so that they contain no cut.

Results are in benchmarks/streaming.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

from keep_hf import KalmanGainNetwork, KalmanRecursion, KeepPipeline
from keep_hf.faces.identity import FaceIdentity
from keep_hf.video.pixels import to_tensor
from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter


# Frames of past and of look-ahead; the rest of the gain window is the block.
WINDOWS = ((0, 0), (4, 0), (10, 0), (0, 6), (2, 2), (4, 4), (6, 6), (8, 4), (4, 8), (8, 8))


# --- Clips -----------------------------------------------------------------------------------------------------------


def read_clip(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


def back_and_forth(frames: list[np.ndarray]) -> Iterator[np.ndarray]:
    while True:
        yield from frames
        yield from frames[-2:0:-1]


def crop_centre(frame: np.ndarray, size: int) -> np.ndarray:
    """The centre of an aligned crop, which contains only the face."""
    edge = size // 5
    return frame[edge : size - edge, edge : size - edge]


# --- Gains at the borders of windows ---------------------------------------------------------------------------------


def run_windows(args: argparse.Namespace) -> None:
    """Print how much the gains change where one window ends and the next begins, for divisions of the window.

    The change is |K[t] - K[t-1]|, averaged over the tokens, at borders and inside.  It is compared with that of gains
    without borders, for which every frame is in the middle of a window of its own.
    """
    pipe = load(args)
    if pipe.kalman is None:
        raise ValueError(f"{args.model} restores single frames, it has no gain network.")
    kalman, window = pipe.kalman, pipe.config.gain_window
    recursion = KalmanRecursion(pipe.vq, kalman, pipe.flow)
    size = pipe.vq.config.sample_size
    clips = []
    for path in args.clips:
        crops = [cv2.resize(frame, (size, size)) for frame in islice(back_and_forth(read_clip(path)), args.frames)]
        with torch.no_grad():
            observed = recursion.observe(to_tensor(crops, pipe.device, pipe.vq.dtype)[None])
        assert observed.latents is not None
        clips.append(observed.latents)

    centred = [windowed_gains(kalman, z, window, window // 2, window - window // 2 - 1) for z in clips]
    print(f"mean gain {torch.cat(centred).mean():.4f}, deviation over tokens {torch.cat(centred).std():.4f}\n")
    print("| past | block | look-ahead | at borders | inside | border / inside | the same, centred | off centred |")
    print("|---|---|---|---|---|---|---|---|")
    for past, ahead in WINDOWS:
        block = window - past - ahead
        found = [windowed_gains(kalman, latents, window, past, ahead) for latents in clips]
        print_window(f"{past} | {block} | {ahead}", block, found, centred)
    found = [cross_faded_gains(kalman, latents, window) for latents in clips]
    print_window(f"two windows | {window // 2} | cross-faded", window // 2, found, centred)


@torch.no_grad()
def windowed_gains(
    kalman: KalmanGainNetwork, latents: torch.Tensor, window: int, past: int, ahead: int
) -> torch.Tensor:
    """Gains `(t, grid, grid)` of latents `(1, t, c, grid, grid)`, block by block, with its past and look-ahead."""
    block, length = window - past - ahead, latents.shape[1]
    blocks = []
    for start in range(0, length, block):
        first, stop = max(start - past, 0), min(start + block, length)
        gains = kalman(latents[:, first : min(stop + ahead, length)]).gains
        blocks.append(gains[:, start - first : stop - first])
    return torch.cat(blocks, dim=1)[0, :, 0]


@torch.no_grad()
def cross_faded_gains(kalman: KalmanGainNetwork, latents: torch.Tensor, window: int) -> torch.Tensor:
    """Gains of two windows per frame as in stream mode, cross-faded over half a window."""
    block, result = window // 2, []
    earlier = None
    for start in range(0, latents.shape[1], block):
        gains = kalman(latents[:, start : start + window]).gains[0, :, 0]
        weight = ((torch.arange(block) + 0.5) / block)[:, None, None][: len(gains)]
        current = gains[:block]
        result.append(current if earlier is None else (1 - weight) * earlier + weight * current)
        earlier = gains[block:]
    return torch.cat(result)


def print_window(name: str, block: int, found: list[torch.Tensor], centred: list[torch.Tensor]) -> None:
    """Print a row: the changes of the gains, the changes of the centred gains, and the distance between both."""
    border, inside, expected_ratio, distance = [], [], [], []
    for gains, reference in zip(found, centred, strict=True):
        at_border = torch.arange(1, len(gains)) % block == 0
        change, expected = ((values[1:] - values[:-1]).abs().flatten(1).mean(1) for values in (gains, reference))
        border.append(change[at_border].mean().item())
        inside.append(change[~at_border].mean().item())
        expected_ratio.append((expected[at_border].mean() / expected[~at_border].mean()).item())
        distance.append((gains - reference).abs().mean().item())
    print(
        f"| {name} | {np.mean(border):.5f} | {np.mean(inside):.5f} | {np.mean(border) / np.mean(inside):.3f} "
        f"| {np.mean(expected_ratio):.3f} | {np.mean(distance):.5f} |"
    )


# --- Output at the borders of windows --------------------------------------------------------------------------------


def run_pulse(args: argparse.Namespace) -> None:
    """Print the change of the output at borders and inside, and both divided by the change of the input.

    The second ratio has less noise: where the input changes, the output must change, too.
    """
    pipe = load(args)
    size = pipe.vq.config.sample_size
    print("| mode | frames between borders | borders | border | inside | border / inside | the same over the input |")
    print("|---|---|---|---|---|---|---|")
    for mode in ("official", "stream"):
        rows = []
        num_borders = 0
        for path in args.clips:
            inputs = list(islice(back_and_forth(read_clip(path)), args.frames))
            stream = pipe.stream(aligned=True, gain_mode=mode, strength=1.0)
            block = stream.restorer.gains.block_length
            change = changes(inputs, np.array([frame.image for frame in stream.restore(inputs)]))
            expected = changes(inputs, np.array([cv2.resize(frame, (size, size)) for frame in inputs]))
            at_border = np.arange(1, len(change) + 1) % block == 0
            num_borders += at_border.sum()
            for values in (change, change / np.maximum(expected, 0.1)):
                rows.append((values[at_border].mean(), values[~at_border].mean()))
        border, inside = np.mean(rows[::2], axis=0)
        border_over_input, inside_over_input = np.mean(rows[1::2], axis=0)
        print(
            f"| {mode} | {block} | {num_borders} | {border:.3f} | {inside:.3f} | {border / inside:.3f} "
            f"| {border_over_input / inside_over_input:.3f} |",
            flush=True,
        )


def changes(inputs: list[np.ndarray], outputs: np.ndarray) -> np.ndarray:
    """Motion-compensated change of every frame except the first: mean |y[t] - warp(y[t-1])| over the face, in levels.

    The motion is that of the input, estimated by OpenCV's DIS, which the pipeline does not use.
    """
    size = outputs.shape[1]
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(cv2.resize(x, (size, size)), cv2.COLOR_RGB2GRAY) for x in inputs]
    x, y = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    result = []
    for t in range(1, len(outputs)):
        # An array in place of None would be the initial flow.
        flow = estimator.calc(grey[t], grey[t - 1], None)  # type: ignore[call-overload]
        origin = x + flow[..., 0], y + flow[..., 1]
        previous = outputs[t - 1].astype(np.float32)
        moved = cv2.remap(previous, *origin, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        result.append(np.abs(crop_centre(outputs[t] - moved, size)).mean())
    return np.array(result)


# --- Drift -----------------------------------------------------------------------------------------------------------


def run_drift(args: argparse.Namespace) -> None:
    """Print, for every pass through the clip, how much the output differs from that of the first pass."""
    pipe = load(args)
    identity = FaceIdentity.from_pretrained(args.identity) if args.identity else None
    frames = read_clip(args.clips[0])
    period = 2 * len(frames) - 2
    size = pipe.vq.config.sample_size
    first: list[np.ndarray] = []
    current: list[np.ndarray] = []
    print("| pass | mean of the face (R, G, B) | contrast | difference from the first pass | similarity to it |")
    print("|---|---|---|---|---|")
    stream = pipe.stream(aligned=True, strength=1.0)
    for i, restored in enumerate(stream.restore(islice(back_and_forth(frames), args.frames))):
        current.append(restored.image)
        if len(current) == period or i == args.frames - 1:
            first = first or current
            same = first[: len(current)]
            faces, first_faces = (
                np.array([crop_centre(image, size) for image in images], np.float32) for images in (current, same)
            )
            similarity = ""
            if identity:
                similarity = f"{(identity.embed(current) * identity.embed(same)).sum(axis=1).mean():.4f}"
            colour = ", ".join(f"{value:.2f}" for value in faces.mean(axis=(0, 1, 2)))
            difference = np.abs(faces - first_faces).mean()
            print(
                f"| {i // period + 1} | {colour} | {faces.std():.2f} | {difference:.3f} | {similarity} |", flush=True
            )
            current = []


# --- Memory ----------------------------------------------------------------------------------------------------------


def run_memory(args: argparse.Namespace) -> None:
    """Print the peak memory of the pipeline for clips of several lengths."""
    print("| method | frames | peak of host memory, MiB | ratio |")
    print("|---|---|---|---|")
    for method in ("restore_video", "stream"):
        first_peak = 0.0
        for number in args.lengths:
            command = [sys.executable, "-m", "benchmarks.streaming", "run", str(args.clips[0])]
            command += ["--frames", str(number), "--method", method, "--model", args.model]
            completed = subprocess.run(command, capture_output=True, text=True, check=True)
            peak = json.loads(completed.stdout.splitlines()[-1])["host"] / 2**20
            first_peak = first_peak or peak
            print(f"| {method} | {number} | {peak:.0f} | {peak / first_peak:.3f} |", flush=True)


def run_once(args: argparse.Namespace) -> None:
    """One run in a process of its own, because peak memory is that of the process."""
    pipe = load(args)
    frames = islice(back_and_forth(read_clip(args.clips[0])), args.frames)
    if args.method == "stream":
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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    runs: dict[str, tuple[Callable[[argparse.Namespace], None], int]] = {
        "windows": (run_windows, 200),
        "pulse": (run_pulse, 200),
        "drift": (run_drift, 3000),
        "run": (run_once, 300),
    }
    for name, (run, frames) in runs.items():
        command = commands.add_parser(name, help=run.__doc__.splitlines()[0] if run.__doc__ else None)
        command.add_argument("--frames", type=int, default=frames, help="length of the played clips")
        command.set_defaults(run=run)
    commands.choices["drift"].add_argument("--identity", help="model that measures similarity: an .onnx file")
    commands.choices["run"].add_argument("--method", choices=["restore_video", "stream"], default="restore_video")
    memory = commands.add_parser("memory")
    memory.add_argument("--lengths", type=int, nargs="+", default=[300, 3000])
    memory.set_defaults(run=run_memory)
    for command in commands.choices.values():
        command.add_argument("clips", type=Path, nargs="+")
        command.add_argument("--model", default="keep-tiny")
    args = parser.parse_args(arguments)
    args.run(args)


if __name__ == "__main__":
    main()
