"""Checkpoints of a run: written completely or not at all, and limited in number."""

import shutil
from pathlib import Path

from accelerate import Accelerator


class Checkpoints:
    """The folders `step_<number>` with the state that [`Accelerator`] saves.

    Args:
        folder (`Path`): Where they are.
        total_limit (`int`): Number of checkpoints that are kept.
    """

    def __init__(self, folder: Path, total_limit: int) -> None:
        self.folder, self.total_limit = folder, total_limit

    def existing(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        return sorted(self.folder.glob("step_*[0-9]"), key=lambda path: int(path.name.removeprefix("step_")))

    def load(self, accelerator: Accelerator, resume: bool) -> None:
        """Load the newest checkpoint if the run is resumed.

        Raises:
            ValueError: If there is none, or if a new run would mix its checkpoints with those of an earlier one.
        """
        existing = self.existing()
        if resume and not existing:
            raise ValueError(f"There is no checkpoint to resume from in {self.folder}: leave --resume out.")
        if existing and not resume:
            raise ValueError(
                f"{self.folder} has checkpoints of an earlier run: add --resume, or use another --output."
            )
        if resume:
            accelerator.load_state(str(existing[-1]))

    def save(self, accelerator: Accelerator, step: int) -> None:
        """Write a checkpoint, and delete the oldest ones beyond the limit. All processes have to call this."""
        folder = self.folder / f"step_{step}"
        # Renamed when it is complete, so that a run is never resumed from what a killed run left.
        unfinished = folder.with_suffix(".unfinished")
        if accelerator.is_main_process:
            shutil.rmtree(unfinished, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(unfinished))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            unfinished.rename(folder)
            for old in self.existing()[: -self.total_limit]:
                shutil.rmtree(old)
