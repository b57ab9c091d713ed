"""Kill a restoration at random moments, resume it, and compare the frames with those of a run that was left alone.

    python -m benchmarks.kill CLIP --times 10

Prints a line for each time; the exit code is 0 if all were the same.
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
    """What the child process does."""
    pipe = KeepPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    print("begun", flush=True)
    pipe.restore_video(source, target, resume=True, segment_frames=segment_frames, aligned=aligned)


def run(arguments: list[str], kill_after: float | None = None) -> tuple[float, bool]:
    """Run a child, and kill it so many seconds after it has begun; gives its seconds and whether it was killed."""
    call = f"from benchmarks.kill import restore; restore(*{arguments!r})"
    with subprocess.Popen([sys.executable, "-c", call], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "begun\n"
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
    """Number of times that killing and resuming gave the same frames; prints a line for each."""
    moments = random.Random(seed)
    equal = 0
    with tempfile.TemporaryDirectory() as folder:
        whole, target = Path(folder) / "whole.mp4", Path(folder) / "out.mp4"
        seconds, _ = run([str(source), str(whole), model, segment_frames, aligned])
        expected = np.array([frame.image for frame in open_video(whole, 25).read()])
        print(f"{len(expected)} frames in {seconds:.1f} s; a segment has {segment_frames}")
        for number in range(1, times + 1):
            target.unlink(missing_ok=True)
            moment = moments.uniform(0, seconds)
            arguments = [str(source), str(target), model, segment_frames, aligned]
            _, killed = run(arguments, kill_after=moment)
            segments = len(list(Path(f"{target}.part").glob("*.packets")))
            if not target.exists():  # what has its name must be whole
                run(arguments)
            found = np.array([frame.image for frame in open_video(target, 25).read()])
            same = found.shape == expected.shape and bool((found == expected).all())
            equal += same
            what = f"killed after {moment:.1f} s with {segments} segments" if killed else "not killed in time"
            print(f"{number}: {what}; {'the same frames' if same else 'OTHER FRAMES'}", flush=True)
    print(f"{equal} of {times}")
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--model", default="keep-tiny")
    parser.add_argument("--segment-frames", type=int, default=20)
    parser.add_argument("--aligned", action="store_true")
    args = parser.parse_args()
    sys.exit(compare(args.clip, args.model, args.times, args.segment_frames, args.aligned) != args.times)


if __name__ == "__main__":
    main()
