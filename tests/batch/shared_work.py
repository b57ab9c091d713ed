"""A process that works in a shared folder without networks; `test_shared_folder.py` starts several of them.

Every video is a file with a number of seconds, which its restoration takes.
"""

import os
import sys
import time
from pathlib import Path

from keep_hf.batch.manifest import RESTORED
from keep_hf.batch.shared_folder import Job, SharedFolder, find_start


def list_jobs(source: Path, target: Path) -> list[Job]:
    return [Job(path, target / path.name, path.name) for path in sorted(source.iterdir())]


def work(source: Path, target: Path) -> None:
    with SharedFolder(target, list_jobs(source, target), find_start(target), resume=True) as folder:
        for job in folder.take_jobs():
            print(job.name, flush=True)
            time.sleep(float(job.source.read_text()))
            part = job.target.with_suffix(f".{os.getpid()}")
            part.write_text(job.name)
            os.replace(part, job.target)
            folder.record(job, RESTORED, frames=1)


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    work(Path(sys.argv[1]), Path(sys.argv[2]))
