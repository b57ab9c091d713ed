"""Restore a folder of short clips with one process and with several workers, compare the results, and print the times.

    python -m benchmarks.folder_processes --clips 40 --processes 2

The workers are processes of torchrun, and actors of Ray.  The clips are drawn, with 4 to 16 frames each.  The times
include the start of all processes.  The load of the machine is printed with them: they mean little on a busy one.
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keep_hf.batch.manifest import MANIFEST
from keep_hf.drawn_people import draw_video
from keep_hf.video.writer import VideoWriter


@dataclass(frozen=True)
class Run:
    """One restoration of the folder.

    Args:
        seconds (`float`): Wall time.
        load (`float`): Load of the machine at its end, over one minute.
        digests (`dict[str, str]`): SHA-256 of every result.
        counts (`Counter[str]`): How often every result was recorded as restored.
    """

    seconds: float
    load: float
    digests: dict[str, str]
    counts: Counter[str]


def write_clips(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        width, height = 160 + number % 5 * 16, 128  # not all the same
        with VideoWriter(folder / f"{number:03}.mp4", width=width, height=height, frame_rate=25) as writer:
            for index, frame in enumerate(draw_video(1, 4 + number % 4 * 4, width, height)):
                writer.write(frame, index, 1)


def restore(launcher: Sequence[str], options: Sequence[str], source: Path, target: Path, model: str) -> Run:
    words = ["-m", "keep_hf.cli", "restore", str(source), str(target), "--model", model, "--device", "cpu", *options]
    started = time.perf_counter()
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *launcher, *words], env=variables, check=True, stderr=subprocess.DEVNULL)
    seconds, load = time.perf_counter() - started, os.getloadavg()[0]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(target.glob("*.mp4"))}
    return Run(seconds, load, digests, count_restored(target))


def count_restored(folder: Path) -> Counter[str]:
    """How often every result is in the manifest, or in the journal of a cluster."""
    (path,) = folder.glob("keep-hf*.jsonl")
    entries = map(json.loads, path.read_text().splitlines())
    outcomes = {"restored", "no faces"} if path.name == MANIFEST else {"finished"}
    key = "outcome" if path.name == MANIFEST else "event"
    return Counter(Path(entry["target"]).name for entry in entries if entry[key] in outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--model", default="keep-tiny")
    args = parser.parse_args()
    number = str(args.processes)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", number]
    ways: dict[str, tuple[list[str], list[str]]] = {
        "one process": ([], []),
        f"torchrun, {number} processes": (torchrun, []),
        f"Ray, {number} workers": ([], ["--ray", "local", "--workers", number]),
    }
    print(f"{args.clips} clips, {args.model}, {os.cpu_count()} cores\n")
    print("| | seconds | ratio | load | same bytes | each restored once |")
    print("|---|---:|---:|---:|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder, first = Path(temporary), None
        write_clips(folder / "in", args.clips)
        for index, (name, (launcher, options)) in enumerate(ways.items()):
            run = restore(launcher, options, folder / "in", folder / str(index), args.model)
            first = first or run
            same = "yes" if run.digests == first.digests else "no"
            once = "yes" if run.counts == Counter(run.digests.keys()) and len(run.digests) == args.clips else "no"
            ratio = first.seconds / run.seconds
            print(f"| {name} | {run.seconds:.1f} | {ratio:.2f} | {run.load:.1f} | {same} | {once} |", flush=True)


if __name__ == "__main__":
    main()
