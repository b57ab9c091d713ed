"""Progress of a request, in a form that the page can show."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Progress of one phase of a request.

    Attributes:
        phase (`str`): Name of the phase.
        share (`float`, *optional*): Finished share of the phase, from 0 to 1; `None` while it is unknown.
        seconds_left (`float`, *optional*): Estimated time until the end of the phase.
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
    """A phase of a request that starts now; it estimates the time that is left from the time that has passed."""

    def __init__(self, name: str) -> None:
        self.name, self.started = name, time.monotonic()

    def at(self, share: float) -> Progress:
        """The progress when a share of the phase, from 0 to 1, is finished."""
        share, passed = min(share, 1.0), time.monotonic() - self.started
        # The speed of the first second is not representative.
        known = share >= 0.05 and passed >= 1
        return Progress(self.name, share, passed * (1 - share) / share if known else None)
