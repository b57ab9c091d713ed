"""How far the work is, in a form that a page can show."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """How far a phase of the work is.

    Attributes:
        phase (`str`): What is being done.
        share (`float`, *optional*): How much of it is done, 0 to 1; `None` while that is unknown.
        seconds_left (`float`, *optional*): Of this phase.
    """

    phase: str
    share: float | None = None
    seconds_left: float | None = None

    def __str__(self) -> str:
        if self.share is None:
            return f"{self.phase} ..."
        text = f"{self.phase}: {100 * self.share:.0f} %"
        if self.seconds_left is None:
            return text
        minutes, seconds = divmod(max(1, round(self.seconds_left)), 60)
        return f"{text}, about {minutes} min {seconds} s left" if minutes else f"{text}, about {seconds} s left"


class Phase:
    """A phase of the work, from now on; tells the time that is left by its speed so far."""

    def __init__(self, name: str) -> None:
        self.name, self.started = name, time.monotonic()

    def at(self, share: float) -> Progress:
        """The progress when so much is done, 0 to 1."""
        share, passed = min(share, 1.0), time.monotonic() - self.started
        # The first moments say nothing about the speed.
        known = share >= 0.05 and passed >= 1
        return Progress(self.name, share, passed * (1 - share) / share if known else None)


def seldom(steps: Iterator[Any]) -> Iterator[Any]:
    """Leave out progress that follows the last step within a fifth of a second: nobody reads so fast."""
    told = float("-inf")
    for step in steps:
        if not isinstance(step, Progress) or time.monotonic() - told > 0.2:
            yield step
            told = time.monotonic()
