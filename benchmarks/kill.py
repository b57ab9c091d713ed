"""Kill a restoration at random times, resume it, and compare the frames with those of an uninterrupted run.

    python -m benchmarks.kill CLIP --times 10

It prints a line per time. The exit code is 0 if the frames were always the same.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from keep_hf import KeepPipeline
from keep_hf.video.open import open_video


REPOSITORY = Path(__file__).resolve().parents[1]


def restore(source: str, target: str, model: str, segment_frames: int, aligned: bool) -> None:
    """The work of the child process."""
    pipe = KeepPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    print("started", flush=True)
    pipe.restore_video(source, target, resume=True, segment_frames=segment_frames, aligned=aligned)


def run_child(arguments: list[str | int | bool], kill_after: float | None = None) -> tuple[float, bool]:
    """Run `restore` in a child process.

    Args:
        arguments (`list[str | int | bool]`): Arguments of `restore`.
        kill_after (`float`, *optional*): Seconds from the start of the restoration until the child is killed.

    Returns:
        `tuple[float, bool]`: Seconds of the restoration, and whether the child was killed.
    """
    call = f"from benchmarks.kill import restore; restore(*{arguments!r})"
    with subprocess.Popen([sys.executable, "-c", call], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        started = time.monotonic()
        try:
            code = child.wait(kill_after)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            code = child.wait()
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the restoration failed with exit code {code}")
    return time.monotonic() - started, code != 0


def compare(source: Path, model: str, times: int, segment_frames: int, aligned: bool, seed: int = 0) -> int:
    """Kill and resume a restoration several times, and print a line for each.

    Returns:
        `int`: How often the resumed restoration had the frames of the uninterrupted one.
    """
    moments = random.Random(seed)
    equal = 0
    with tempfile.TemporaryDirectory() as folder:
        whole, target = Path(folder) / "whole.mp4", Path(folder) / "out.mp4"
        seconds, _ = run_child([str(source), str(whole), model, segment_frames, aligned])
        expected = np.array([frame.image for frame in open_video(whole, 25).read()])
        print(f"{len(expected)} frames in {seconds:.1f} s; a segment has {segment_frames}")
        for number in range(1, times + 1):
            target.unlink(missing_ok=True)
            moment = moments.uniform(0, seconds)
            arguments: list[str | int | bool] = [str(source), str(target), model, segment_frames, aligned]
            _, killed = run_child(arguments, kill_after=moment)
            segments = len(list(Path(f"{target}.part").glob("*.packets")))
            if not target.exists():  # a file with the name of the target is complete
                run_child(arguments)
            restored = np.array([frame.image for frame in open_video(target, 25).read()])
            same = restored.shape == expected.shape and bool((restored == expected).all())
            equal += same
            event = f"killed after {moment:.1f} s with {segments} segments" if killed else "finished before the kill"
            print(f"{number}: {event}; {'the same frames' if same else 'OTHER FRAMES'}", flush=True)
    print(f"{equal} of {times}")
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--times", type=int, default=10, help="number of kills")
    parser.add_argument("--model", default="keep-tiny")
    parser.add_argument("--segment-frames", type=int, default=20, help="frames per segment of the target")
    parser.add_argument("--aligned", action="store_true", help="the frames are aligned face crops already")
    args = parser.parse_args()
    sys.exit(compare(args.clip, args.model, args.times, args.segment_frames, args.aligned) != args.times)


if __name__ == "__main__":
    main()
