"""Speed, compared: two versions of the code in turns, precisions against each other, memory of long clips.

    python -m benchmarks.speed compare OLD NEW                      # folders `src` of two checkouts, A B A B
    python -m benchmarks.speed precision --videos DIR --detector F  # PSNR of bf16 against fp32
    python -m benchmarks.speed memory --frames 60                   # peak of a long aligned clip

`keep-hf benchmark` measures one version on one machine; what was measured is in benchmarks/results_speed.md.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch


PUBLISHED_SIZE = "published-size"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PARTS = ("observe", "flow", "gains", "recursion")


# --- compare ---------------------------------------------------------------------------------------------------------


def run_compare(args: argparse.Namespace) -> None:
    """Both versions in processes of their own that take turns; seconds are those of the CPU, summed over threads.

    On a machine that others use, too, they are what the work costs; on a quiet one with one thread, what it takes.
    """
    names = {"old": (args.old, args.old_dtype, args.old_keeps), "new": (args.new, args.new_dtype, args.new_keeps)}
    workers = {}
    for name, (source, dtype, keeps) in names.items():
        command = [sys.executable, "-m", "benchmarks.speed", "worker", args.model]
        command += ["--dtype", dtype, "--frames", str(args.frames)]
        command += ["--compile"] * (args.new_compiles and name == "new")
        command += ["--keep-memory"] * keeps + ["--weights", str(args.weights)] * bool(args.weights)
        workers[name] = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(source)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    runs: dict[str, list[dict[str, Any]]] = {"old": [], "new": []}
    for turn in range(args.rounds + 1):
        for name, worker in workers.items():
            assert worker.stdin and worker.stdout
            print("go", file=worker.stdin, flush=True)
            run = json.loads(worker.stdout.readline())
            if turn:  # the first is for warming up
                runs[name].append(run)
    for worker in workers.values():
        worker.communicate("")

    print(f"{args.model}, {args.frames} frames, {args.rounds} rounds, {torch.get_num_threads()} thread(s)\n")
    print("| part | old, CPU s a frame | new, CPU s a frame | old / new | least | most |")
    print("|---|---:|---:|---:|---:|---:|")
    for part in (*PARTS, "all"):
        old, new = (np.array([run["seconds"][part] for run in runs[name]]) / args.frames for name in ("old", "new"))
        ratios = old / new
        print(
            f"| {part} | {np.median(old):.4f} | {np.median(new):.4f} | {np.median(ratios):.2f} "
            f"| {ratios.min():.2f} | {ratios.max():.2f} |"
        )
    outputs = {name: np.load(run[-1]["output"]) for name, run in runs.items()}
    frames, codes = ([outputs[name][what] for name in ("old", "new")] for what in ("frames", "codes"))
    old_peak, new_peak = (runs[name][-1]["peak"] / 2**30 for name in ("old", "new"))
    print(f"\npeak memory: old {old_peak:.2f} GiB, new {new_peak:.2f} GiB")
    print(f"codes that differ: {(codes[0] != codes[1]).sum()} of {codes[0].size}")
    print(f"largest difference of the output: {np.abs(frames[0] - frames[1]).max():.2e}")
    error = np.square(np.clip(frames[0], -1, 1) - np.clip(frames[1], -1, 1)).mean() / 4
    print(f"PSNR of new against old: {-10 * np.log10(error) if error else np.inf:.1f} dB")


def run_worker(args: argparse.Namespace) -> None:
    """One of the two: at every line of input, a clip through the recursion; nothing but the networks."""
    from keep_hf import GMFlow, KalmanGainNetwork, KalmanRecursion, KeepPipeline, KeepVQModel
    from keep_hf.restoration.summary import peak_memory

    if args.keep_memory:
        from keep_hf.allocator import keep_freed_memory

        assert keep_freed_memory()
    torch.manual_seed(0)
    if args.model == PUBLISHED_SIZE:
        parts = [KeepVQModel(), KalmanGainNetwork(), GMFlow()]
        if args.weights:
            parts = published(args.weights)
    else:
        pipe = KeepPipeline.from_pretrained(args.model)
        parts = [pipe.vq, pipe.kalman, pipe.flow]
    dtype = DTYPES[args.dtype]
    vq, kalman, flow = (torch.nn.Module.to(part, dtype).eval() for part in parts)
    if args.compile:
        KeepPipeline(vq, kalman, flow).compile()
    recursion = KalmanRecursion(vq, kalman, flow)
    frames = moving_picture(args.frames, vq.config.sample_size).to(dtype)

    output = Path(args.scratch) / f"speed-{os.getpid()}.npz"
    while sys.stdin.readline():
        seconds, made, codes = run_clip(recursion, frames)
        np.savez(output, frames=made, codes=codes)
        peak = peak_memory(torch.device("cpu"))["host"]
        print(json.dumps({"seconds": seconds, "peak": peak, "output": str(output)}), flush=True)


@torch.no_grad()
def run_clip(recursion: Any, frames: torch.Tensor) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """CPU seconds by part, the restored frames and their codes."""
    seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        started = time.process_time()
        yield
        seconds[part] += time.process_time() - started

    with timed("observe"):
        seen = recursion.observe(frames)
    with timed("flow"):
        flows = recursion.flows(frames, None)
    with timed("gains"):
        gains = recursion.kalman(seen.latents)
    state, made, codes = None, [], []
    for i in range(frames.shape[1]):
        back = flows[:, i - 1] if i else None
        with timed("recursion"):
            step = recursion.step(frames[:, i], seen[:, i], state, gain=gains[:, i], flow=back)
        state = step.state
        made.append(state.output.float().numpy())
        codes.append(step.logits.argmax(-1).numpy())
    return seconds | {"all": sum(seconds.values())}, np.stack(made), np.stack(codes)


def published(reference: Path) -> list[torch.nn.Module]:
    """Networks of the published size with the weights of the golden data: `fill_weights.py` says how they are made."""
    from keep_hf.models.conversion import convert_checkpoint

    fill = runpy.run_path(str(reference / "fill_weights.py"))["fill_array"]
    tensors = json.loads((reference / "manifest_full.json").read_text())["tensors"]
    weights = {entry["key"]: torch.from_numpy(fill(entry["key"], entry["shape"], "g")) for entry in tensors}
    components = convert_checkpoint(weights)
    return [components[name] for name in ("vq", "kalman", "flow")]


def moving_picture(num_frames: int, size: int) -> torch.Tensor:
    """A smooth random picture that drifts: (1, t, 3, size, size) in [-1, 1]."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, size // 8, size // 8, generator=random) * 2 - 1
    picture = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic").clamp(-1, 1)
    return torch.stack([picture.roll((i, 2 * i), dims=(2, 3))[0] for i in range(num_frames)])[None]


# --- precision -------------------------------------------------------------------------------------------------------


def run_precision(args: argparse.Namespace) -> None:
    """PSNR of restored faces in lower precision against those in fp32, and of both against the truth."""
    from keep_hf import KeepPipeline, YuNet
    from keep_hf.evaluation.compare import compare_videos

    from .clips import Clip, find_clips, fit

    detector = YuNet.from_pretrained(args.detector)
    pipes = {name: KeepPipeline.from_pretrained(args.model, dtype=DTYPES[name]) for name in ("fp32", args.dtype)}
    for pipe in pipes.values():
        pipe.set_progress_bar_config(disable=True)
    rows = []
    print(f"| clip | {args.dtype} against fp32 | worst frame | fp32 against the truth | {args.dtype} |")
    print("|---|---:|---:|---:|---:|", flush=True)
    for path in find_clips(args.videos, None):
        clip = Clip(path, detector, args.cache / Path(args.detector).stem, args.frames)
        degraded = clip.degrade("medium")
        made = {
            name: np.rint(
                255 * pipe(degraded.frames, aligned=True, frame_rate=clip.frame_rate, output_type="np").frames[0]
            ).astype(np.uint8)
            for name, pipe in pipes.items()
        }
        truth = fit(clip.truth, pipes["fp32"].vq.config.sample_size)

        def psnr(a: np.ndarray, b: np.ndarray) -> Any:
            return compare_videos(a, b).metrics["psnr"]

        between = psnr(made[args.dtype], made["fp32"])
        row = [between.mean, min(between.values), *(psnr(frames, truth).mean for frames in made.values())]
        rows.append(row)
        print(f"| {clip.name} | {' | '.join(f'{value:.2f}' for value in row)} |", flush=True)
    print(f"| **mean** | {' | '.join(f'{value:.2f}' for value in np.mean(rows, axis=0))} |")


# --- memory ----------------------------------------------------------------------------------------------------------


def run_memory(args: argparse.Namespace) -> None:
    """Peak memory of an aligned clip in stream mode, told as it goes: it must not grow."""
    from keep_hf.benchmark import Setup, load_pipeline
    from keep_hf.drawn_people import draw_video

    pipe = load_pipeline(Setup(args.model, "cpu", args.dtype, 1, True, args.frames))
    size = pipe.vq.config.sample_size
    stream = pipe.stream(aligned=True)
    started = time.perf_counter()
    for done, _ in enumerate(stream.restore(draw_video(1, args.frames, size, size)), start=1):
        if done % 5 == 0:
            peak = stream.report()["peak_memory_bytes"]["host"] / 2**30
            print(f"{done} frames, {time.perf_counter() - started:.0f} s, peak {peak:.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    compare = commands.add_parser("compare")
    compare.add_argument("old", type=Path, help="folder with the package keep_hf of one version")
    compare.add_argument("new", type=Path, help="and of the other")
    compare.add_argument("--old-dtype", choices=DTYPES, default="fp32")
    compare.add_argument("--new-dtype", choices=DTYPES, default="fp32")
    for name in ("old", "new"):
        compare.add_argument(f"--{name}-keeps", action="store_true", help="keeps freed memory, as keep-hf does")
    compare.add_argument("--new-compiles", action="store_true", help="its networks that work frame by frame")
    compare.add_argument("--rounds", type=int, default=3)
    compare.set_defaults(run=run_compare)
    worker = commands.add_parser("worker")
    worker.add_argument("--dtype", choices=DTYPES, default="fp32")
    worker.add_argument("--keep-memory", action="store_true")
    worker.add_argument("--compile", action="store_true")
    worker.add_argument("--scratch", default="/tmp", help="folder for outputs")
    worker.set_defaults(run=run_worker)
    for command in (compare, worker):
        command.add_argument("--frames", type=int, default=4)
        command.add_argument("--weights", type=Path, help="folder of fill_weights.py, for the published size")
    worker.add_argument("model")
    compare.add_argument("--model", default="keep-tiny", help=f"or {PUBLISHED_SIZE}")
    precision = commands.add_parser("precision")
    precision.add_argument("--videos", type=Path, required=True, help="folder of sharp videos, one person each")
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
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
