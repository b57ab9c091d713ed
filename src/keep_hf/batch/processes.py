"""The identity of a process, by which other processes recognize that it has ended.

The number of a process is used again after its end, and it means nothing on another machine or in another container.
A process is therefore identified by the boot of its machine, its process namespace, its number, and when it started.
"""

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path


# Fields of /proc/PID/stat after the name of the program, see man 5 proc.
STATE, START_TIME = 0, 19


@dataclass(frozen=True)
class Process:
    """A process on any machine.

    Args:
        host (`str`): Name of the machine, for messages.
        system (`str`): The boot of the machine and the process namespace; empty where the system does not name them.
        pid (`int`): Number of the process.
        started (`int`): When it started, in clock ticks since the boot; 0 where the system does not say.
    """

    host: str
    system: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@cache
def this_system() -> str:
    """The boot of this machine and the process namespace, or nothing where there is no /proc."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def this_process() -> Process:
    """The process that calls this function."""
    fields = _stat(os.getpid())
    return Process(platform.node(), this_system(), os.getpid(), int(fields[START_TIME]) if fields else 0)


def has_ended(process: Process) -> bool | None:
    """Whether a process has ended; `None` if this machine cannot know."""
    if not process.system or process.system != this_system():
        return None
    fields = _stat(process.pid)
    # A zombie has ended; only its exit code is still there.
    return not fields or fields[STATE] in "ZX" or int(fields[START_TIME]) != process.started


def _stat(pid: int) -> list[str]:
    try:
        # The name of the program is in brackets and may contain spaces and brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
