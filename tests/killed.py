"""A program that writes videos in child processes which are killed; `test_killed.py` starts it.

It reads jobs from its standard input, one line of JSON each, {"source", "target", "end"}, runs each in a child
process, and answers with the exit status of the child. `end` is null, {"seconds": s} (SIGKILL after this time),
{"step": n} (SIGKILL just before the n-th time that a file is opened, renamed or deleted in the unfinished folder) or
{"packet": n} (before the n-th packet of the final file).
"""

import heapq
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from keep_hf.video.image_folder import ImageFolderReader, ImageFolderWriter
from keep_hf.video.reader import VideoReader, prefetch
from keep_hf.video.segments import muxer
from keep_hf.video.writer import VideoWriter


SEGMENT = 4


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def work(source: Path, target: Path) -> None:
    """Brighten each frame by a mean over the previous frames, so that a wrong state is visible in the images."""
    reader = ImageFolderReader(source) if source.is_dir() else VideoReader(source)
    write = VideoWriter if target.suffix else ImageFolderWriter
    with reader, write(target, reader, width=reader.width, height=reader.height, resume=True) as writer:
        state = writer.resumed or {"mean": torch.zeros(()), "count": 0, "past": ([], None)}
        assert state["count"] == writer.num_written
        for frame in prefetch(reader.read(writer.num_written)):
            image = np.clip(frame.image + float(state["mean"]), 0, 255).astype(np.uint8)
            writer.write(image, frame.pts, frame.duration)
            state["mean"] = 0.5 * state["mean"] + 0.1 * frame.image.mean()
            state["count"] += 1
            if state["count"] % SEGMENT == 0:
                writer.end_segment(state)


def kill_at_step(number: int, folder: str) -> None:
    steps = 0

    def count(event: str, arguments: tuple) -> None:
        nonlocal steps
        if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir") and folder in str(arguments[0]):
            steps += 1
            if steps == number:
                die()

    sys.addaudithook(count)


def kill_at_packet(number: int) -> None:
    def merge(*packets, key):
        for index, packet in enumerate(heapq.merge(*packets, key=key)):
            if index == number:
                die()
            yield packet

    muxer.heapq = SimpleNamespace(merge=merge, heappushpop=heapq.heappushpop)


def run_child(job: dict) -> None:
    end = job["end"] or {}
    if "step" in end:
        kill_at_step(end["step"], Path(job["target"]).name + ".part")
    if "packet" in end:
        kill_at_packet(end["packet"])
    work(Path(job["source"]), Path(job["target"]))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run_child(job)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        if job["end"] and "seconds" in job["end"]:
            time.sleep(job["end"]["seconds"])
            os.kill(child, signal.SIGKILL)
        print(os.waitpid(child, 0)[1], flush=True)
