"""The progress of a whole job as one number, from the progress of its phases."""

import time

from ..backend import COMPARING, CUTTING, FINDING, RESTORATION_COST, RESTORING
from ..progress import Progress


# Time of each phase, relative to that of finding the faces of all frames.
COSTS = {CUTTING: 0.5, FINDING: 1.0, RESTORING: 1.0 + RESTORATION_COST, COMPARING: 0.5}


class TotalProgress:
    """The finished share of a job that starts now.

    Args:
        phases (`tuple[str, ...]`): Names of its phases in their order, from `COSTS`.
    """

    def __init__(self, phases: tuple[str, ...]) -> None:
        self.phases, self.phase, self.share, self.started = phases, "", 0.0, time.monotonic()

    def advance(self, progress: Progress) -> None:
        """Take the progress of a phase. The share of the job never decreases."""
        self.phase = progress.phase
        if progress.phase in self.phases:
            earlier = self.phases[: self.phases.index(progress.phase)]
            done = sum(COSTS[name] for name in earlier) + COSTS[progress.phase] * (progress.share or 0.0)
            self.share = max(self.share, min(1.0, done / sum(COSTS[name] for name in self.phases)))

    def seconds_left(self) -> float | None:
        """The estimated time until the end; `None` while it is unknown."""
        passed = time.monotonic() - self.started
        # The speed of the first second is not representative.
        return passed * (1 - self.share) / self.share if self.share >= 0.05 and passed >= 1 else None
