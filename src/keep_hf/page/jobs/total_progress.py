"""The time of a whole job: expected before it starts, and as one share while it runs."""

import threading
import time
from collections.abc import Mapping

from ..backend import COMPARING, CUTTING, FINDING, RESTORATION_COST, RESTORING
from ..progress import Progress


# Time of each phase for a unit of its work, relative to the others, before anything was measured. The units are those
# of `work_of`.
COSTS = {CUTTING: 0.5, FINDING: 1.0, RESTORING: 1.0 + RESTORATION_COST, COMPARING: 0.5}
MIN_SHARE, MIN_SECONDS = 0.05, 1.0  # of a job, before its own speed is representative


def work_of(phase: str, num_frames: int, num_faces: float, upscale: int) -> float:
    """The work of a phase: encoding takes time for every pixel, restoration for every face.

    Args:
        phase (`str`): A key of `COSTS`.
        num_frames (`int`): Number of frames.
        num_faces (`float`): Mean number of faces in a frame.
        upscale (`int`): Factor by which the frames are enlarged.
    """
    factors = {RESTORING: num_faces, COMPARING: float(upscale**2)}
    return num_frames * factors.get(phase, 1.0)


class Speed:
    """The measured speed of this machine; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}  # for a unit of work of each phase

    def learn(self, phase: str, work: float, seconds: float) -> None:
        """Take the time that some work has taken; later measurements count more."""
        with self._lock:
            new = seconds / work
            self._seconds[phase] = 0.5 * (self._seconds.get(phase, new) + new)

    def expect(self, work: Mapping[str, float]) -> dict[str, float] | None:
        """The expected time of each phase in seconds; `None` before a restoration was measured."""
        with self._lock:
            if RESTORING not in self._seconds:
                return None
            scale = self._seconds[RESTORING] / COSTS[RESTORING]
            return {name: amount * self._seconds.get(name, scale * COSTS[name]) for name, amount in work.items()}


class TotalProgress:
    """The finished share of a job that starts now, and the time that is left.

    Args:
        work (`Mapping[str, float]`): The work of its phases, in their order; see `work_of`.
        speed ([`Speed`]): The speed of this machine; it learns from the phases that end.
    """

    def __init__(self, work: Mapping[str, float], speed: Speed) -> None:
        self.work, self.speed = work, speed
        self.phase, self.share, self.started = "", 0.0, time.monotonic()
        self._expected = speed.expect(work)
        costs = self._expected or {name: amount * COSTS[name] for name, amount in work.items()}
        total = sum(costs.values())
        # A job of a phase whose work is not measured is that phase.
        self._shares = {name: cost / total if total else 1 / len(costs) for name, cost in costs.items()}
        self._phase_started = self.started

    def advance(self, progress: Progress) -> None:
        """Take the progress of a phase. The share of the job never decreases."""
        if progress.phase != self.phase:
            self._end_phase()
            self.phase, self._phase_started = progress.phase, time.monotonic()
        if progress.phase in self._shares:
            names = list(self._shares)
            done = sum(self._shares[name] for name in names[: names.index(progress.phase)])
            self.share = max(self.share, min(1.0, done + self._shares[progress.phase] * (progress.share or 0.0)))

    def finish(self) -> None:
        """The job is done."""
        self._end_phase()
        self.share = 1.0

    def seconds_left(self) -> float | None:
        """The estimated time until the end; `None` while it is unknown.

        The expectation counts less and less against the speed of the job itself.
        """
        passed = time.monotonic() - self.started
        expected = sum(self._expected.values()) if self._expected else None
        own = passed / self.share if self.share >= MIN_SHARE and passed >= MIN_SECONDS else None
        left = 1 - self.share
        if own is not None and expected is not None:
            return left * (self.share * own + left * expected)
        total = own or expected
        return None if total is None else left * total

    def _end_phase(self) -> None:
        seconds = time.monotonic() - self._phase_started
        if self.work.get(self.phase, 0.0) > 0 and seconds > 0:
            self.speed.learn(self.phase, self.work[self.phase], seconds)
