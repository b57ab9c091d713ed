"""Restore a folder of short clips with one process and with several, compare the results, and print the times.

    python -m benchmarks.folder_processes --clips 40 --processes 2

The clips are drawn, with 4 to 16 frames each.  The times include the start of the processes; the load of the machine
is printed with them, because they mean little on a busy one.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from keep_hf.drawn_people import draw_video
from keep_hf.video.writer import VideoWriter


@dataclass(frozen=True)
class Run:
    """One restoration of the folder: its wall time in seconds, and the load of the machine at its end."""

    seconds: float
    load: float


def write_clips(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        width, height = 160 + number % 5 * 16, 128  # not all the same
        with VideoWriter(folder / f"{number:03}.mp4", width=width, height=height, frame_rate=25) as writer:
            for index, frame in enumerate(draw_video(1, 4 + number % 4 * 4, width, height)):
                writer.write(frame, index, 1)


def restore(processes: int, source: Path, target: Path, model: str) -> Run:
    command = ["-m", "keep_hf.cli", "restore", str(source), str(target), "--model", model, "--device", "cpu"]
    if processes > 1:
        launcher = ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
        command = ["-m", *launcher, "--nproc-per-node", str(processes), *command]
    started = time.perf_counter()
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], env=variables, check=True, stderr=subprocess.DEVNULL)
    return Run(time.perf_counter() - started, os.getloadavg()[0])


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.mp4"))}


def outcomes(folder: Path) -> Counter[tuple[str, str]]:
    lines = (folder / "keep-hf.jsonl").read_text().splitlines()
    return Counter((entry["target"], entry["outcome"]) for entry in map(json.loads, lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--model", default="keep-tiny")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_clips(folder / "in", args.clips)
        one = restore(1, folder / "in", folder / "one", args.model)
        several = restore(args.processes, folder / "in", folder / "several", args.model)
        equal = digests(folder / "one") == digests(folder / "several")
        counts = outcomes(folder / "several")
    print(f"{args.clips} clips, {args.model}, {os.cpu_count()} cores")
    print(f"one process: {one.seconds:.1f} s at load {one.load:.1f}")
    print(f"{args.processes} processes: {several.seconds:.1f} s at load {several.load:.1f}")
    print(f"ratio: {one.seconds / several.seconds:.2f}")
    print(f"same bytes: {equal}; outcomes: {len(counts)}, each once: {set(counts.values()) == {1}}")


if __name__ == "__main__":
    main()
