"""Ctrl-C and SIGTERM at several moments: the run stops cleanly, and is resumed to the same bits."""

import signal
from collections.abc import Iterator
from pathlib import Path

from .case import Case
from .samples import SEGMENT, Samples


MOMENTS = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)


def cases() -> Iterator[Case]:
    """All cases of this module."""
    for number in (signal.SIGINT, signal.SIGTERM):
        for moment in MOMENTS:
            yield _case(f"{number.name} after {moment} s", ((moment, number),))
    yield _case("SIGINT twice", ((0.8, signal.SIGINT), (0.82, signal.SIGINT)))
    yield _case("SIGTERM twice", ((1.2, signal.SIGTERM), (1.21, signal.SIGTERM)))
    yield _case("SIGINT, then SIGTERM", ((1.0, signal.SIGINT), (1.01, signal.SIGTERM)))


def _case(name: str, signals: tuple[tuple[float, int], ...]) -> Case:
    return Case(
        "signal",
        name,
        restore_long_video,
        None,
        kept=("out.mp4",),  # the output, which is complete and compared, and the unfinished work
        segment_frames=SEGMENT,
        signals=signals,
        expected=lambda samples: samples.results,
    )


def restore_long_video(folder: Path, samples: Samples) -> list[str]:
    return samples.restore_to(samples.long_video, folder / "out.mp4")
