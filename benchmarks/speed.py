"""Compare the speed of two versions of the code, the output of two precisions, and memory over a long clip.

    python -m benchmarks.speed compare OLD NEW                      # folders `src` of two checkouts, in turns
    python -m benchmarks.speed precision --videos DIR --detector F  # PSNR of bf16 against fp32
    python -m benchmarks.speed memory --frames 60                   # peak memory of a long aligned clip

`keep-hf benchmark` measures one version on one machine.  Results are in benchmarks/results_speed.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from keep_hf import KeepPipeline, YuNet
from keep_hf.benchmark import Setup, load_pipeline
from keep_hf.drawn_people import draw_video
from keep_hf.evaluation.compare import compare_videos
from keep_hf.evaluation.series import Series

from .clips import Clip, find_clips, resize_faces
from .speed_worker import DTYPES, PARTS, PUBLISHED_SIZE, WorkerRun


def run_compare(args: argparse.Namespace) -> None:
    """Run both versions in processes of their own, in turns, and print the ratios of their CPU seconds.

    CPU seconds are the cost of the work even on a busy machine; on an idle one with one thread they are the latency.
    """
    workers = {
        "old": start_worker(args, args.old, args.old_dtype, args.old_keeps, compiles=False),
        "new": start_worker(args, args.new, args.new_dtype, args.new_keeps, compiles=args.new_compiles),
    }
    runs: dict[str, list[WorkerRun]] = {"old": [], "new": []}
    for turn in range(args.rounds + 1):
        for name, worker in workers.items():
            assert worker.stdin
            assert worker.stdout
            print("go", file=worker.stdin, flush=True)
            run = WorkerRun(**json.loads(worker.stdout.readline()))
            if turn:  # the first run is a warm-up
                runs[name].append(run)
    for worker in workers.values():
        worker.communicate("")

    print(f"{args.model}, {args.frames} frames, {args.rounds} rounds, {torch.get_num_threads()} thread(s)\n")
    print_seconds(runs["old"], runs["new"], args.frames)
    print_differences(runs["old"][-1], runs["new"][-1])


def start_worker(
    args: argparse.Namespace, source: Path, dtype: str, keeps: bool, compiles: bool
) -> "subprocess.Popen[str]":
    """Start a process with the package of a folder `src`, see speed_worker.py."""
    command = [sys.executable, "-m", "benchmarks.speed_worker", args.model]
    command += ["--dtype", dtype, "--frames", str(args.frames)]
    command += ["--compile"] * compiles + ["--keep-memory"] * keeps
    command += ["--weights", str(args.weights)] * bool(args.weights)
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(source)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def print_seconds(old_runs: list[WorkerRun], new_runs: list[WorkerRun], num_frames: int) -> None:
    print("| part | old, CPU s per frame | new, CPU s per frame | old / new | least | most |")
    print("|---|---:|---:|---:|---:|---:|")
    for part in (*PARTS, "all"):
        old, new = (np.array([run.seconds[part] for run in runs]) / num_frames for runs in (old_runs, new_runs))
        ratios = old / new
        print(
            f"| {part} | {np.median(old):.4f} | {np.median(new):.4f} | {np.median(ratios):.2f} "
            f"| {ratios.min():.2f} | {ratios.max():.2f} |"
        )


def print_differences(old: WorkerRun, new: WorkerRun) -> None:
    with np.load(old.output) as old_arrays, np.load(new.output) as new_arrays:
        frames, codes = ([arrays[name] for arrays in (old_arrays, new_arrays)] for name in ("frames", "codes"))
    old_peak, new_peak = (run.peak_memory / 2**30 for run in (old, new))
    print(f"\npeak memory: old {old_peak:.2f} GiB, new {new_peak:.2f} GiB")
    print(f"codes that differ: {(codes[0] != codes[1]).sum()} of {codes[0].size}")
    print(f"largest difference of the output: {np.abs(frames[0] - frames[1]).max():.2e}")
    error = np.square(np.clip(frames[0], -1, 1) - np.clip(frames[1], -1, 1)).mean() / 4
    print(f"PSNR of new against old: {-10 * np.log10(error) if error else np.inf:.1f} dB")


def run_precision(args: argparse.Namespace) -> None:
    """Print the PSNR of faces restored in lower precision against those in fp32, and of both against the truth."""
    detector = YuNet.from_pretrained(args.detector)
    pipes = {name: KeepPipeline.from_pretrained(args.model, dtype=DTYPES[name]) for name in ("fp32", args.dtype)}
    for pipe in pipes.values():
        pipe.set_progress_bar_config(disable=True)
    size = pipes["fp32"].vq.config.sample_size
    rows = []
    print(f"| clip | {args.dtype} against fp32 | worst frame | fp32 against the truth | {args.dtype} |")
    print("|---|---:|---:|---:|---:|", flush=True)
    for path in find_clips(args.videos):
        clip = Clip(path, detector, args.cache / Path(args.detector).stem, args.frames)
        degraded = clip.degrade("medium")
        restored = {}
        for name, pipe in pipes.items():
            with pipe.stream(aligned=True, frame_rate=clip.frame_rate) as stream:
                restored[name] = np.stack([frame.image for frame in stream.restore(degraded.frames)])
        between = measure_psnr(restored[args.dtype], restored["fp32"])
        truth = resize_faces(clip.truth, size)
        row = [between.mean, min(between.values), *(measure_psnr(faces, truth).mean for faces in restored.values())]
        rows.append(row)
        print(f"| {clip.name} | {' | '.join(f'{value:.2f}' for value in row)} |", flush=True)
    print(f"| **mean** | {' | '.join(f'{value:.2f}' for value in np.mean(rows, axis=0))} |")


def measure_psnr(frames: np.ndarray, reference: np.ndarray) -> Series:
    series = compare_videos(frames, reference).metrics["psnr"]
    assert series is not None
    return series


def run_memory(args: argparse.Namespace) -> None:
    """Print the peak memory of an aligned clip in stream mode while it is restored: it must not grow."""
    pipe = load_pipeline(Setup(args.model, "cpu", args.dtype, 1, True, args.frames))
    size = pipe.vq.config.sample_size
    stream = pipe.stream(aligned=True)
    started = time.perf_counter()
    for count, _ in enumerate(stream.restore(draw_video(1, args.frames, size, size)), start=1):
        if count % 5 == 0:
            peak = stream.report()["peak_memory_bytes"]["host"] / 2**30
            print(f"{count} frames, {time.perf_counter() - started:.0f} s, peak {peak:.2f} GiB", flush=True)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    compare = commands.add_parser("compare")
    compare.add_argument("old", type=Path, help="folder with the package keep_hf of one version")
    compare.add_argument("new", type=Path, help="folder with the package keep_hf of the other version")
    for name in ("old", "new"):
        compare.add_argument(f"--{name}-dtype", choices=DTYPES, default="fp32")
        compare.add_argument(f"--{name}-keeps", action="store_true", help="keep freed memory, as keep-hf does")
    compare.add_argument("--new-compiles", action="store_true", help="compile the networks of the recursion")
    compare.add_argument("--rounds", type=int, default=3)
    compare.add_argument("--frames", type=int, default=4)
    compare.add_argument("--model", default="keep-tiny", help=f"built-in name, folder, or {PUBLISHED_SIZE}")
    compare.add_argument("--weights", type=Path, help="folder of fill_weights.py, for the published size")
    compare.set_defaults(run=run_compare)
    precision = commands.add_parser("precision")
    precision.add_argument("--videos", type=Path, required=True, help="folder of sharp videos of one person each")
    precision.add_argument("--detector", required=True, help="YuNet: an .onnx file")
    precision.add_argument("--model", default="keep-tiny")
    precision.add_argument("--dtype", choices=["bf16", "fp16"], default="bf16")
    precision.add_argument("--frames", type=int, default=48)
    precision.add_argument(
        "--cache", type=Path, default=Path("runs/evaluation_faces"), help="folder for aligned faces"
    )
    precision.set_defaults(run=run_precision)
    memory = commands.add_parser("memory")
    memory.add_argument("--model", default=PUBLISHED_SIZE)
    memory.add_argument("--dtype", choices=DTYPES, default="fp32")
    memory.add_argument("--frames", type=int, default=60)
    memory.set_defaults(run=run_memory)
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    args.run(args)


if __name__ == "__main__":
    main()
