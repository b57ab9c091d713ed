"""A broken input: how it is made, and what a command that gets it must do."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .samples import Samples


# Bytes that a command may need with these inputs; the program itself needs a quarter of them.
MAX_MEMORY = 2 * 2**30
MAX_SECONDS = 30.0
# Cases leave a file of this name if code in them is executed.
EXECUTED = "executed"


@dataclass(frozen=True)
class Case:
    """A broken input.

    Args:
        group (`str`): What is broken: "video", "checkpoint", ...
        name (`str`): How.
        build (`Callable[[Path, Samples], list[str]]`): Makes the inputs in an empty folder, and returns the arguments
            of `keep-hf`. The output is `out.mp4` in this folder.
        usable (`bool`, *optional*): Whether the command must succeed; `None` if both are right, as with random damage.
        file_size (`int`, *optional*): Limit of the bytes of a file that the command writes, like a full disk.
        privileged (`bool`, defaults to `True`): `False` if the permissions of files must hold for root, too.
        kept (`tuple[str, ...]`): Names of outputs that may stay after a failure, such as finished segments.
        segment_frames (`int`, *optional*): Frames between two points from which the run can be resumed.
        signals (`tuple[tuple[float, int], ...]`): Seconds after which the command gets a signal, and its number. If it
            fails, it is run again with `--resume`, and that must succeed.
        expected (`Callable[[Samples], set[str]]`, *optional*): SHA-256 that `out.mp4` must have if there is one: one
            of these.
    """

    group: str
    name: str
    build: Callable[[Path, Samples], list[str]]
    usable: bool | None = False
    file_size: int | None = None
    privileged: bool = True
    kept: tuple[str, ...] = ()
    segment_frames: int | None = None
    signals: tuple[tuple[float, int], ...] = ()
    expected: Callable[[Samples], set[str]] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Args:
        code (`int`, *optional*): Exit code; negative for a signal, `None` if it did not end in `MAX_SECONDS`.
        seconds (`float`): How long it ran.
        memory (`int`): Most bytes that it occupied.
        errors (`str`): What it printed on stderr.
        new_files (`tuple[str, ...]`): Files that it left, beside the inputs.
        changed_files (`tuple[str, ...]`): Inputs that it changed.
        is_wrong (`bool`): Whether its result is not the expected one.
    """

    code: int | None
    seconds: float
    memory: int
    errors: str
    new_files: tuple[str, ...]
    changed_files: tuple[str, ...]
    is_wrong: bool = False

    @property
    def line(self) -> str:
        """The line that says why the command failed; empty if it succeeded."""
        lines = self.errors.strip().splitlines()
        return lines[-1] if lines and self.code != 0 else ""


def problems(case: Case, outcome: Outcome) -> list[str]:
    """What is wrong with an outcome; empty if the command did the right thing."""
    found = []
    if outcome.code is None:
        found.append("hang")
    elif outcome.code not in (0, 1, 2):
        found.append(f"exit code {outcome.code}")
    if "Traceback" in outcome.errors or "Error in sys" in outcome.errors:
        found.append("traceback")
    if outcome.memory > MAX_MEMORY:
        found.append(f"{outcome.memory >> 20} MiB of memory")
    if outcome.code == 0 and case.usable is False:
        found.append("succeeded")
    if outcome.code != 0 and case.usable:
        found.append("failed")
    found += ["wrong result"] * outcome.is_wrong
    found += [f"changed {name}" for name in outcome.changed_files]
    found += ["executed code from the input"] * any(EXECUTED in Path(name).name for name in outcome.new_files)
    if outcome.code != 0:
        found += [f"partial {name}" for name in outcome.new_files if not name.startswith(case.kept or os.sep)]
        found += _wrong_lines(outcome)
    elif not any(name.startswith("out") for name in outcome.new_files):
        found.append("no output")
    return found


def _wrong_lines(outcome: Outcome) -> list[str]:
    """A failure is one line after the warnings; a wrong argument is explained by argparse, with the usage."""
    lines = outcome.errors.strip().splitlines()
    if outcome.code == 2:
        return [] if lines and ": error: " in lines[-1] else ["no reason"]
    # What transformers says when it is imported, for pipelines of diffusers that need it, is no part of the message.
    others = [line for line in lines if not line.startswith(("keep-hf: warning: ", "[transformers] "))]
    if len(others) != 1 or not others[0].startswith("keep-hf: "):
        return [f"{len(others)} lines"]
    return ["no clear line"] if len(others[0]) < 20 else []
