"""Simulate a run on many workers: the scheduler is the real one, the time is not.

    keep-hf restore in.mp4 out.mp4 --ray --workers 1     # its journal has the seconds of all tasks on this machine
    python -m benchmarks.scale_simulation --journal out.mp4.journal.jsonl

A video is planned by one worker, which reads all of it; its scenes are restored by all workers, and joined by one.  A
scene is the smallest unit of work, because its frames depend on each other.  So the longest scene limits the time, and
so do planning and joining.  Efficiency is the share of the workers' time that is work.

Scene lengths are log-normal: an assumption, with the mean and the sigma of the arguments; each video has one scene of
the length `--longest`.  Every worker needs the same time per frame.  Storage is not simulated: any number of workers
reads and writes frames at the measured speed.
"""

import argparse
import heapq
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keep_hf.cluster.journal import Journal
from keep_hf.cluster.plan import Scene, VideoPlan
from keep_hf.cluster.schedule import Schedule
from keep_hf.cluster.tasks import JOIN, PLAN, Task, TaskResult, Video


WORKERS = (1, 8, 64, 1024)
LEAD = 4  # scenes that may wait per worker before further videos are planned, as in `restore_videos`


@dataclass(frozen=True)
class Rates:
    """Milliseconds of a worker per frame of video, by kind of task."""

    plan: float
    restore: float
    join: float

    @property
    def all(self) -> float:
        """Of all tasks."""
        return self.plan + self.restore + self.join

    @classmethod
    def read(cls, journal: Path) -> "Rates":
        """From the journal of a run that has divided at least one video into scenes.

        Raises:
            ValueError: If it has not.
        """
        entries = [json.loads(line) for line in journal.read_text().splitlines()]
        plans = {entry["target"]: entry["plan"] for entry in entries if entry["event"] == "planned"}
        plans = {target: plan for target, plan in plans.items() if plan["scenes"]}
        seconds: dict[str, float] = defaultdict(float)
        for entry in entries:
            if entry["target"] in plans:
                seconds[entry["event"]] += entry["seconds"]
        frames = sum(plan["num_frames"] for plan in plans.values())
        if not frames or not seconds["finished"]:
            raise ValueError(f"{journal}: no video was divided and finished; use a longer one, or --longest-whole 1.")
        return cls(*(1000 * seconds[event] / frames for event in ("planned", "restored", "finished")))


@dataclass(frozen=True)
class Run:
    """What came of a simulated run.

    Attributes:
        seconds (`float`): Its time.
        work (`float`): Seconds of all tasks together.
        longest (`float`): Seconds of its longest scene.
    """

    seconds: float
    work: float
    longest: float


class MemoryJournal(Journal):
    """A journal without a file: nothing has happened before."""

    def __init__(self) -> None:
        self.plans, self.scenes, self.reports, self.messages = {}, {}, {}, {}

    def add(self, event: str, task: Task, result: TaskResult) -> None:
        """Keep the report of a finished video, which the scheduler reads."""
        if result.report is not None:
            self.reports[str(task.video.target)] = result.report


def draw_plan(seconds: float, mean: float, sigma: float, longest: float, frame_rate: float, seed: int) -> VideoPlan:
    """Scenes that fill a video, in random order; one has the length `longest`, all others are shorter."""
    random = np.random.default_rng(seed)
    lengths = [min(longest, seconds)]
    while sum(lengths) < seconds:
        drawn = random.lognormal(np.log(mean) - sigma**2 / 2, sigma)
        lengths.append(min(max(drawn, 0.2), longest, seconds - sum(lengths)))
    random.shuffle(lengths)
    ends = np.rint(np.cumsum(lengths) * frame_rate).astype(int)
    starts = [0, *ends[:-1]]
    pairs = enumerate(zip(starts, ends, strict=True))
    scenes = [Scene(number, int(start), int(end), int(start), 0, True) for number, (start, end) in pairs]
    return VideoPlan({}, scenes, int(ends[-1]), {})


def simulate(plans: Iterable[VideoPlan], workers: int, rates: Rates) -> Run:
    """Carry out the tasks of the scheduler in simulated time."""
    by_video = {Video(Path(f"{number}.mp4"), Path(f"{number}.out.mp4")): plan for number, plan in enumerate(plans)}
    schedule = Schedule(list(by_video), MemoryJournal(), LEAD * workers)
    running: list[tuple[float, int, Task, TaskResult]] = []  # heap, by the time of the end
    now = work = longest = 0.0
    number = 0
    while not schedule.is_over:
        while len(running) < workers and (task := schedule.next()) is not None:
            result = carry_out(task, by_video[task.video], rates)
            work += result.seconds
            longest = max(longest, result.seconds if task.scene else 0.0)
            number += 1
            heapq.heappush(running, (now + result.seconds, number, task, result))
        now, _, task, result = heapq.heappop(running)
        schedule.finish(task, result)
    return Run(now, work, longest)


def carry_out(task: Task, plan: VideoPlan, rates: Rates) -> TaskResult:
    """The result of a task that took its time."""
    if task.kind == PLAN:
        return TaskResult("", plan.num_frames * rates.plan / 1000, plan=plan)
    if task.kind == JOIN:
        return TaskResult("", plan.num_frames * rates.join / 1000, report={})
    assert task.scene is not None
    return TaskResult("", len(task.scene) * rates.restore / 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journal", type=Path, required=True, help="of a real run, from which the rates are taken")
    parser.add_argument("--videos", type=int, nargs="+", default=[1, 100], help="number of videos")
    parser.add_argument("--hours", type=float, default=1.0, help="length of each video")
    parser.add_argument("--mean", type=float, default=4.0, help="mean length of a scene in seconds: an assumption")
    parser.add_argument("--sigma", type=float, default=0.9, help="of the logarithm of the length: an assumption")
    parser.add_argument("--longest", type=float, nargs="+", default=[60.0, 600.0], help="longest scene in seconds")
    parser.add_argument("--frame-rate", type=float, default=25.0)
    args = parser.parse_args()
    rates = Rates.read(args.journal)
    print(f"ms per frame: plan {rates.plan:.2f}, restore {rates.restore:.2f}, join {rates.join:.3f}\n")
    print("| videos | longest scene, s | workers | time, h | worker hours per hour | efficiency | least time, h |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for number in args.videos:
        for longest in args.longest:
            plans = [
                draw_plan(args.hours * 3600, args.mean, args.sigma, longest, args.frame_rate, seed)
                for seed in range(number)
            ]
            for workers in WORKERS:
                run = simulate(plans, workers, rates)
                # With any number of workers: planning, the longest scene and joining follow each other.
                least = max(plan.num_frames for plan in plans) * (rates.plan + rates.join) / 1000 + run.longest
                print(
                    f"| {number} | {longest:g} | {workers} | {run.seconds / 3600:.2f} | "
                    f"{workers * run.seconds / 3600 / (number * args.hours):.1f} | "
                    f"{run.work / workers / run.seconds:.3f} | {least / 3600:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
