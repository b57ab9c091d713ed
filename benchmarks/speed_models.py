"""Compare the speed of models from file to file, in turns, on one video with a face of about 512 pixels.

    OMP_NUM_THREADS=2 python -m benchmarks.speed_models keep-tiny keep-small --frames 24 --rounds 3

The models take turns (A B A B) after a warm-up, so that other work on the machine slows all of them down.  CPU seconds
are the cost of the work even on a busy machine; frames per second are those of an idle one only if it is idle.  The
video is synthetic unless `--video` names a file.  `benchmarks.speed` compares two versions of the code.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from diffusers.utils.logging import disable_progress_bar

from keep_hf import KeepPipeline
from keep_hf.allocator import keep_freed_memory
from keep_hf.benchmark import FRAME_RATE, WARM_UP_FRAMES
from keep_hf.drawn_people import draw_video
from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter


# The aligned crop of the drawn face has about 512 pixels in frames of this size.
WIDTH, HEIGHT = 1396, 930


@dataclass(frozen=True)
class Run:
    """Seconds per frame of one restoration from file to file.

    Args:
        cpu (`float`): Of all threads together.
        wall (`float`): As it passes.
        stages (`dict[str, float]`): By stage, as they pass; decoding and encoding run beside the others.
    """

    cpu: float
    wall: float
    stages: dict[str, float]


def restore(pipe: KeepPipeline, source: Path, target: Path) -> tuple[Run, dict[str, Any]]:
    """Restore a video; returns the times and the report of the pipeline."""
    cpu_started, started = time.process_time(), time.perf_counter()
    report = pipe.restore_video(source, target)
    cpu, wall, frames = time.process_time() - cpu_started, time.perf_counter() - started, report["frames"]
    stages = {stage: seconds / frames for stage, seconds in report["seconds"].items() if stage != "total"}
    return Run(cpu / frames, wall / frames, stages), report


def compare_models(names: list[str], frames: list[np.ndarray], rounds: int) -> dict[str, list[Run]]:
    """Restore a video by every model in turns, after a warm-up of a few frames.

    Raises:
        ValueError: If a model finds no face in the video; its time would mean nothing.
    """
    pipes = {name: KeepPipeline.from_pretrained(name) for name in names}
    runs: dict[str, list[Run]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        short, source, target = (Path(folder) / name for name in ("short.mp4", "in.mp4", "out.mp4"))
        write_video(short, frames[:WARM_UP_FRAMES])
        write_video(source, frames)
        for turn in range(rounds + 1):
            for name, pipe in pipes.items():
                pipe.set_progress_bar_config(disable=True)
                run, report = restore(pipe, source if turn else short, target)
                if not report["tracks"]:
                    raise ValueError(f"{name} finds no face in the video: pass another one.")
                if turn:
                    runs[name].append(run)
    return runs


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    height, width = frames[0].shape[:2]
    with VideoWriter(path, width=width, height=height, frame_rate=Fraction(FRAME_RATE)) as writer:
        for frame in frames:
            writer.write(frame)


def read_frames(video: Path | None, count: int) -> list[np.ndarray]:
    """The first frames of a video, or of a drawn one."""
    if video is None:
        return list(draw_video(1, count, WIDTH, HEIGHT, FRAME_RATE))
    with VideoReader(video) as reader:
        return [frame.image for frame in islice(reader.read(), count)]


def make_table(runs: dict[str, list[Run]]) -> Iterator[str]:
    """The medians over the rounds, and each model's CPU time relative to the first model, round by round."""
    yield "| model | CPU ms per frame | frames per second | CPU time relative to the first | least | most |"
    yield "|---|---:|---:|---:|---:|---:|"
    first, *_ = runs.values()
    for name, own in runs.items():
        ratios = [run.cpu / base.cpu for run, base in zip(own, first, strict=True)]
        yield (
            f"| {name} | {1000 * median(run.cpu for run in own):.1f} | {1 / median(run.wall for run in own):.2f} "
            f"| {median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} |"
        )
    yield ""
    for name, own in runs.items():
        stages = {stage: median(run.stages[stage] for run in own) for stage in own[0].stages}
        yield f"{name}, ms per frame: {', '.join(f'{stage} {1000 * value:.1f}' for stage, value in stages.items())}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="built-in names, folders or Hub ids; the first is the reference")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--video", type=Path, help="a video with a face; a drawn one by default")
    args = parser.parse_args(arguments)
    disable_progress_bar()
    keep_freed_memory()
    frames = read_frames(args.video, args.frames)
    height, width = frames[0].shape[:2]
    print(f"{len(frames)} frames of {width} x {height}, {args.rounds} rounds, {torch.get_num_threads()} thread(s)\n")
    print(*make_table(compare_models(args.models, frames, args.rounds)), sep="\n")


if __name__ == "__main__":
    main()
