"""How far a run is: its steps, and the time of training over all its sessions."""

import time

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from .config import TrainerConfig


class Progress:
    """Finished steps and seconds, in a form that Accelerate saves and loads with the rest of the state.

    Args:
        config ([`TrainerConfig`]): Has the budget and the schedule of the learning rate.

    Attributes:
        step (`int`): Number of finished steps.
        seconds (`float`): Time of training, over all sessions.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self.config = config
        self.step, self.seconds = 0, 0.0

    def state_dict(self) -> dict[str, float]:
        return {"step": self.step, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.step, self.seconds = int(state["step"]), state["seconds"]

    def start(self) -> None:
        """Start a session."""
        self.started, self.first_step, self.seconds_before = time.monotonic(), self.step, self.seconds

    def finish_step(self, accelerator: Accelerator) -> None:
        """Count a step, and the time until now."""
        self.step += 1
        seconds = self.seconds_before + time.monotonic() - self.started
        timed = self.config.minutes is not None or self.config.save_minutes is not None
        if timed and accelerator.num_processes > 1:  # they have to decide alike
            seconds = broadcast(torch.tensor(seconds, device=accelerator.device)).item()
        self.seconds = seconds

    @property
    def done(self) -> float:
        """The part of the budget that is used up; 1 or more at the end of the run."""
        return self.config.done(self.step, self.seconds)

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return self.config.learning_rate_at(self.step, self.seconds)

    @property
    def steps_per_second(self) -> float:
        """In this session."""
        return (self.step - self.first_step) / (time.monotonic() - self.started)

    def is_due(self, interval: int | None) -> bool:
        """Whether something that happens every `interval` steps happens after this step. The last step counts."""
        return self.done >= 1 or (interval is not None and self.step % interval == 0)

    def check_is_due(self) -> bool:
        """Whether the next step reads numbers from the device to check that they are finite."""
        return (self.step + 1) % self.config.check_every == 0
