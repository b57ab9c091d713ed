"""A process that runs the command `keep-hf` in children of its own, so that torch is imported once for all cases.

It reads one line of JSON for each run: the arguments, what `Case` calls file_size, privileged, segment_frames and
signals, and the folder to run in. It answers with {"code", "seconds", "memory", "errors"}: the exit code (negative for
a signal, null after 30 seconds), the most bytes that the child occupied, and what it printed on stderr.
"""

import argparse
import contextlib
import ctypes
import faulthandler
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import torch


# Address space in bytes that a child may add: a run that needs more fails, and the machine survives.
MAX_ADDED_MEMORY = 4 * 2**30
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAPABILITY_VERSION_3 = 1, 2, 0x20080522


def warm_up() -> None:
    """Import what the commands import."""
    torch.set_num_threads(1)
    from keep_hf.cli import convert, degrade, evaluate, faces, restore  # noqa: F401


def drop_privileges() -> None:
    """Let the permissions of files hold for root, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    libc.capget(header, sets)
    sets[0] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def limit(job: dict) -> None:
    """Set the limits of a child."""
    occupied = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (occupied + MAX_ADDED_MEMORY, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if job.get("file_size") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_size"], job["file_size"]))
    if not job.get("privileged", True) and os.geteuid() == 0:
        drop_privileges()


def run_child(job: dict, output: int) -> int:
    """Run the command in this process, with stderr in a pipe, which has no limit of a file."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(output, 2)
    os.chdir(job["folder"])
    faulthandler.register(signal.SIGUSR1)
    limit(job)
    from keep_hf import KeepPipeline, cli

    if job.get("segment_frames"):
        KeepPipeline.restore_video.__kwdefaults__["segment_frames"] = job["segment_frames"]
    build_parser = cli.build_parser

    def unblock_signals() -> argparse.ArgumentParser:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)  # a process that has done nothing may be killed
        return build_parser()

    cli.build_parser = unblock_signals
    try:
        return cli.main(job["arguments"])
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 70
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)  # the command has ended


def is_within(child: int, started: float, max_seconds: float) -> bool:
    """Whether a child has computed, and waited for anything else than the processor, for less than a time."""
    if time.monotonic() < started + max_seconds:
        return True
    # Nanoseconds in which it could run, but other processes did
    waited = int(Path(f"/proc/{child}/schedstat").read_text().split()[1])
    return time.monotonic() - started - waited / 1e9 < max_seconds


def drain(pipe: int) -> bytes:
    """What is in a pipe that does not block."""
    content = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(pipe, 2**16):
            content += part
    return content


def run(job: dict, max_seconds: float) -> dict:
    """Run a job in a child, and wait for it."""
    started = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)  # until the command runs
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        code = 71
        try:
            code = run_child(job, write_end)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(write_end)
    os.set_blocking(read_end, False)
    ended, printed, signals = 0, b"", list(job.get("signals", ()))
    # On a machine with other work, the seconds that the child got count, within limits.
    while not ended and time.monotonic() < started + 10 * max_seconds and is_within(child, started, max_seconds):
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if not ended and signals and time.monotonic() > started + signals[0][0]:
            os.kill(child, signals.pop(0)[1])
        printed += drain(read_end)
        time.sleep(0.005)
    seconds = time.monotonic() - started
    if not ended:
        os.kill(child, signal.SIGUSR1)  # prints where it hangs
        time.sleep(0.2)
        os.kill(child, signal.SIGKILL)
        _, _, usage = os.wait4(child, 0)
    printed += drain(read_end)
    os.close(read_end)
    code = os.waitstatus_to_exitcode(status) if ended else None
    errors = printed.decode(errors="replace")
    return {"code": code, "seconds": seconds, "memory": usage.ru_maxrss * 1024, "errors": errors}


if __name__ == "__main__":
    warm_up()
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(run(job, job["max_seconds"])), flush=True)
