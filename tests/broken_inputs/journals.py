"""Unfinished work of an interrupted run that was damaged before the run is resumed."""

import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .case import EXECUTED, Case
from .checkpoints import Code
from .samples import SEGMENT, Samples


NAN = float("nan")


def cases() -> Iterator[Case]:
    """All cases of this module: a failure leaves the work as it was, a success has the same bits."""
    for kept in (0.0, 0.01, 0.5, 0.99):
        yield _case(f"{kept:.0%} of the state", partial(cut, "state.pt", kept))
    for seed in range(8):
        yield _case(f"wrong bits in the state, seed {seed}", partial(flip, "state.pt", seed))
    for kept in (0.0, 0.001, 0.5, 0.99):
        yield _case(f"{kept:.1%} of a segment", partial(cut, "00001.packets", kept))
    for seed in range(4):
        yield _case(f"wrong bits in a segment, seed {seed}", partial(flip, "00000.packets", seed))
    for path in STATE_PATHS:
        for value in (None, -1, 10**12, NAN, "x", [], {}):
            yield _case(f"state, {'.'.join(path)}: {value}", partial(edit, path, value))
    for name, change in CHANGES:
        yield _case(name, change)


def _case(name: str, change: Callable[[Path], object]) -> Case:
    return Case(
        "unfinished work",
        name,
        partial(damaged, change),
        None,
        kept=("out.mp4.part",),
        segment_frames=SEGMENT,
        expected=lambda samples: samples.results,
    )


def damaged(change: Callable[[Path], object], folder: Path, samples: Samples) -> list[str]:
    part = folder / "out.mp4.part"
    shutil.copytree(samples.unfinished, part)
    (part / "unfinished.packets").unlink(missing_ok=True)  # is always deleted
    change(part)
    return samples.restore_to(samples.long_video, folder / "out.mp4", "--resume")


def cut(name: str, kept: float, part: Path) -> None:
    content = (part / name).read_bytes()
    (part / name).write_bytes(content[: int(kept * len(content))])


def flip(name: str, seed: int, part: Path) -> None:
    content, chance = bytearray((part / name).read_bytes()), random.Random(seed)
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    (part / name).write_bytes(content)


STATE_PATHS: list[tuple[str, ...]] = [
    ("version",),
    ("settings",),
    ("content",),
    ("content", "version"),
    ("content", "checksums"),
    ("content", "num_written"),
    ("content", "last_pts"),
    ("content", "caller_state"),
    ("content", "caller_state", "job"),
    ("content", "caller_state", "stream"),
    ("content", "caller_state", "stream", "restorer"),
    ("content", "caller_state", "stream", "num_out"),
    ("content", "caller_state", "report"),
]


def edit(path: tuple[str, ...], value: Any, part: Path) -> None:
    """Replace a value in the state, and save it with right checksums."""
    state = torch.load(part / "state.pt", weights_only=True)
    place = state
    for name in path[:-1]:
        place = place[name]
    assert path[-1] in place
    place[path[-1]] = value
    torch.save(state, part / "state.pt")


def replace_state(content: Any, part: Path) -> None:
    torch.save(content, part / "state.pt")


def to_folder(name: str, part: Path) -> None:
    (part / name).unlink()
    (part / name).mkdir()


def to_loop(name: str, part: Path) -> None:
    (part / name).unlink()
    (part / name).symlink_to(name)


def to_fifo(name: str, part: Path) -> None:
    (part / name).unlink()
    os.mkfifo(part / name)


def with_code(part: Path) -> None:
    replace_state({"version": 1, "settings": {}, "content": Code(part.parent / EXECUTED)}, part)


def with_pickle(part: Path) -> None:
    (part / "state.pt").write_bytes(pickle.dumps(Code(part.parent / EXECUTED)))


def swap_segments(part: Path) -> None:
    (part / "00000.packets").rename(part / "a")
    (part / "00001.packets").rename(part / "00000.packets")
    (part / "a").rename(part / "00001.packets")


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("nothing", lambda part: None),
    ("no state", lambda part: (part / "state.pt").unlink()),
    ("no lock", lambda part: (part / "lock").unlink()),
    ("no lock and no state", lambda part: ((part / "lock").unlink(), (part / "state.pt").unlink())),
    ("no first segment", lambda part: (part / "00000.packets").unlink()),
    ("no segments", lambda part: [path.unlink() for path in part.glob("*.packets")]),
    ("segments swapped", swap_segments),
    ("empty folder", lambda part: [path.unlink() for path in part.iterdir()]),
    *((f"{name} is a folder", partial(to_folder, name)) for name in ("state.pt", "lock", "00001.packets")),
    *((f"{name} is a symlink loop", partial(to_loop, name)) for name in ("state.pt", "lock", "00001.packets")),
    *((f"{name} is a fifo", partial(to_fifo, name)) for name in ("state.pt", "00001.packets")),
    ("half a new state beside the old one", lambda part: (part / "state.pt.new").write_bytes(b"half")),
    ("a folder for the new state", lambda part: (part / "state.pt.new").mkdir()),
    ("foreign files", lambda part: (part / "letter.txt").touch()),
    ("state with code", with_code),
    ("state is a pickle with code", with_pickle),
    ("state is a list", partial(replace_state, [])),
    ("state is a number", partial(replace_state, 5)),
    ("state of nothing", partial(replace_state, {})),
    ("state of a newer version", partial(edit, ("version",), 999)),
]
