"""Simulate how many workers a video can use whose scenes are restored one by one, the longest first.

    python -m benchmarks.scale_simulation --hours 1 --frame-ms 327.5

A scene is the smallest unit of work: its frames depend on each other.  The longest scene is therefore a lower bound of
the time, and more workers are idle at the end.  Efficiency is the share of the workers' time that is work.

Two assumptions, not measured here: scene lengths are log-normal, with the mean and the sigma of the arguments; and
every worker needs the same time per frame.  Efficiency does not depend on that time, `--frame-ms` only converts it to
hours.  Planning, storage and joining are not simulated.
"""

import argparse
import heapq
from dataclasses import dataclass

import numpy as np


WORKERS = (1, 8, 64, 1024)


@dataclass(frozen=True)
class Schedule:
    """The end of the last scene, and the share of the workers' time that was work."""

    seconds: float
    efficiency: float


def draw_scenes(seconds: float, mean: float, sigma: float, longest: float, seed: int = 0) -> np.ndarray:
    """Scene lengths in seconds that fill a video; none is longer than `longest`."""
    random = np.random.default_rng(seed)
    count = round(seconds / mean * 4) + 100
    lengths = random.lognormal(np.log(mean) - sigma**2 / 2, sigma, count).clip(0.2, longest)
    ends = np.cumsum(lengths)
    last = int(np.searchsorted(ends, seconds))
    lengths = lengths[: last + 1].copy()
    lengths[-1] -= ends[last] - seconds
    return lengths


def schedule(work: np.ndarray, workers: int) -> Schedule:
    """Every worker that is free takes the longest scene that is left."""
    free = [0.0] * workers
    for seconds in sorted(work.tolist(), reverse=True):
        heapq.heappush(free, heapq.heappop(free) + seconds)
    end = max(free)
    return Schedule(end, float(work.sum()) / (workers * end))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[1.0, 100.0], help="length of all videos together")
    parser.add_argument("--mean", type=float, default=4.0, help="mean length of a scene in seconds: an assumption")
    parser.add_argument("--sigma", type=float, default=0.9, help="of the logarithm of the length: an assumption")
    parser.add_argument("--longest", type=float, nargs="+", default=[60.0, 600.0], help="longest scene in seconds")
    parser.add_argument("--frame-rate", type=float, default=25.0)
    parser.add_argument("--frame-ms", type=float, default=327.5, help="measured time of a worker for a frame")
    args = parser.parse_args()
    print("| hours of video | longest scene, s | workers | time, h | efficiency | without the longest scene |")
    print("|---:|---:|---:|---:|---:|---:|")
    for hours in args.hours:
        for longest in args.longest:
            scenes = draw_scenes(hours * 3600, args.mean, args.sigma, longest)
            scenes[np.argmax(scenes)] = longest  # there is one of this length
            work = scenes * args.frame_rate * args.frame_ms / 1000
            for workers in WORKERS:
                full, rest = schedule(work, workers), schedule(np.delete(work, np.argmax(work)), workers)
                print(
                    f"| {hours:g} | {longest:g} | {workers} | {full.seconds / 3600:.2f} | {full.efficiency:.3f} | "
                    f"{rest.efficiency:.3f} |"
                )


if __name__ == "__main__":
    main()
