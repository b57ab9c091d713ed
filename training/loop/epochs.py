"""The batches of a set of known length, which is shuffled in every epoch."""

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from .stage import Batch, TrainingSet


def epoch_batches(
    dataset: TrainingSet, batch_size: int, accelerator: Accelerator, workers: int, first: int
) -> Iterator[Batch]:
    """Endless batches from number `first` on. The order of an epoch depends on the seed and the epoch only.

    Raises:
        ValueError: If there is less data than one batch.
    """
    needed = batch_size * accelerator.num_processes
    if len(dataset) < needed:
        raise ValueError(
            f"There are {len(dataset)} training items; one step needs {needed} ({batch_size} in "
            f"each of {accelerator.num_processes} processes). Use a smaller --batch-size or more data."
        )
    loader = accelerator.prepare(
        DataLoader(
            dataset,
            batch_size,
            shuffle=True,
            # Workers end with the epoch, because those that live on would not see the next `epoch` of the dataset.
            num_workers=workers,
            drop_last=True,
            pin_memory=accelerator.device.type == "cuda",
            # A loader draws a random number whenever it is iterated over. A resumed run does so in the middle of an
            # epoch, and the random numbers of the stage must not depend on it.
            generator=torch.Generator(),
        )
    )
    number = first
    while True:
        epoch, skipped = divmod(number, len(loader))
        loader.set_epoch(epoch)
        dataset.epoch = epoch
        for batch in accelerator.skip_first_batches(loader, skipped) if skipped else loader:
            yield batch
            number += 1
