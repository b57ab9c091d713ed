"""Phases of a run: parts of its budget, each with samples of its own.

The samples of a phase are numbered and depend on their number only. A step takes the samples of its own number, so a
resumed run needs no other position in the data.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader

from .stage import Batch, TrainingSet


@dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
        name (`str`): For files and messages.
        share (`float`): Share of the budget, relative to those of the other phases; more than 0.
        dataset ([`TrainingSet`]): Practically endless; its items depend on the index only, not on the epoch.
        batch_size (`int`): Items per batch and process.
    """

    name: str
    share: float
    dataset: TrainingSet
    batch_size: int


class Phases:
    """The phases of a run, in their order.

    Raises:
        ValueError: If there are none or a share is not positive.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        if not phases or min(phase.share for phase in phases) <= 0:
            raise ValueError(f"A run needs phases with positive shares, got {[phase.share for phase in phases]}.")
        self.phases = list(phases)
        total = sum(phase.share for phase in phases)
        self.ends = [end / total for end in itertools.accumulate(phase.share for phase in phases)]

    def start_of(self, name: str) -> float:
        """The part of the budget that is used up when the phase of this name starts."""
        names = [phase.name for phase in self.phases]
        return [0.0, *self.ends][names.index(name)]

    def at(self, done: float) -> tuple[Phase, float]:
        """The phase when the part `done` of the budget is used up, and the part of this phase that is over."""
        number = min(sum(done >= end for end in self.ends), len(self.phases) - 1)
        start = self.ends[number - 1] if number else 0.0
        return self.phases[number], min(1.0, (done - start) / (self.ends[number] - start))

    def batches(
        self, accelerator: Accelerator, workers: int, first: int, done: Callable[[], float]
    ) -> Iterator[Batch]:
        """Endless batches from number `first` on, on the device, each of the phase that `done()` is in."""
        current, batches = None, iter(())  # type: ignore[var-annotated]
        for number in itertools.count(first):
            phase, _ = self.at(done())
            if phase is not current:
                # The workers of the phase before end when its iterator is dropped.
                current, batches = phase, iter(make_loader(phase, accelerator, workers, number))
            # From pinned memory a copy to a GPU does not wait for the work that is queued there.
            yield send_to_device(next(batches), accelerator.device, non_blocking=True)


def make_loader(phase: Phase, accelerator: Accelerator, workers: int, first: int) -> DataLoader[Batch]:
    """A loader of the batches from number `first` on; its workers live as long as the phase."""
    processes, process, size = accelerator.num_processes, accelerator.process_index, phase.batch_size
    numbers = (processes * number + process for number in itertools.count(first))
    return DataLoader(
        phase.dataset,
        batch_sampler=(list(range(number * size, (number + 1) * size)) for number in numbers),
        num_workers=workers,
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator(),  # see epochs.py
    )
