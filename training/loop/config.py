"""The options of every training script: a typed configuration, and the command line that fills it."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TrainerConfig:
    """How a stage is trained. The command line options have the same names; `add_arguments` has their help texts.

    A run lasts for `steps` optimizer steps or `minutes` of training, whatever the machine; these are its budget.

    Attributes:
        minutes (`float`, *optional*): Counted over all sessions of the run, without its setup.
        save_every, save_minutes (*optional*): A checkpoint is written after as many steps or minutes, and at the end.
        check_every (`int`): Steps between checks that the loss and the gradients are finite. A check waits for the
            GPU. Weights are checked before every checkpoint.
        command (`dict[str, str]`): All arguments of the script, with those of its stage, for the trackers.
    """

    output: Path
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    learning_rate: float = 4e-4
    final_learning_rate: float = 0.0
    halve_at: Sequence[int] = ()
    warmup: int = 100
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    ema_decay: float = 0.999
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    channels_last: bool = False
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    workers: int = 1
    save_every: int | None = 500
    save_minutes: float | None = None
    check_every: int = 1
    log_every: int = 50
    trackers: Sequence[str] = ()
    checkpoints_total_limit: int = 2
    resume: bool = False
    seed: int = 0
    command: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError(f"A run needs either steps or minutes, got {self.steps} and {self.minutes}.")

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> "TrainerConfig":
        """The configuration from the arguments that `add_arguments` defined."""
        command = {name: str(value) for name, value in vars(args).items()}
        names = [field.name for field in fields(cls) if field.name != "command"]
        return cls(**{name: getattr(args, name) for name in names}, command=command)

    def done(self, step: int, seconds: float) -> float:
        """The part of the budget that is used up after as many steps and seconds; 1 at the end of the run."""
        return step / self.steps if self.steps is not None else seconds / (60 * self.minutes)  # type: ignore[operator]

    def learning_rate_at(self, step: int, seconds: float = 0.0) -> float:
        """The learning rate of the optimizer step number `step`, from 0, after as many seconds of training.

        It rises linearly during `warmup`, falls along a cosine to `final_learning_rate` at the end of the run, and is
        halved at each step in `halve_at`.
        """
        if step < self.warmup:
            return self.learning_rate * (step / self.warmup)
        if self.steps is not None:
            done = (step - self.warmup) / max(1, self.steps - self.warmup)
        else:
            done = min(1.0, self.done(step, seconds))
        final = self.final_learning_rate / self.learning_rate
        cosine = (1 + math.cos(math.pi * done)) / 2
        halvings = sum(step >= milestone for milestone in self.halve_at)
        return self.learning_rate * ((final + (1 - final) * cosine) * 0.5**halvings)


class Parser(argparse.ArgumentParser):
    """A parser that shows defaults in its help and also reads arguments from a file, given as `@file`.

    A line of the file has one or several arguments, such as `--steps=1000`. A comment starts with `#`.
    """

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description,
            formatter_class=HelpFormatter,
            fromfile_prefix_chars="@",
            allow_abbrev=False,
        )

    def convert_arg_line_to_args(self, line: str) -> list[str]:
        return line.split("#")[0].split()


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the lines of the description, and add the default to the help text of an option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default is not None and action.default is not False and action.default != []
        return super()._get_help_string(action) if has_default else action.help


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that the stages share: the data, and those of [`TrainerConfig`]."""
    add, default = parser.add_argument, TrainerConfig
    add("--data", nargs="+", required=True, help="sources to train on, see training/data/face_clips.py")
    add("--validation", nargs="+", default=[], help="sources like --data for validation at every checkpoint")
    add("--output", type=Path, required=True, help="folder for checkpoints, the log and the trained model")
    add("--batch-size", type=positive, default=default.batch_size, help="items per batch and process")
    add("--gradient-checkpointing", action="store_true", help="use less memory and about a third more time")
    add_loop_arguments(parser)


def add_loop_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of [`TrainerConfig`] that do not depend on the kind of data."""
    add, default = parser.add_argument, TrainerConfig
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--steps", type=positive, help="number of optimizer steps of the whole run")
    budget.add_argument("--minutes", type=positive_number, help="time of the whole run, over all its sessions")
    add("--learning-rate", type=positive_number, default=default.learning_rate, help="peak of the cosine schedule")
    add("--final-learning-rate", type=float, default=default.final_learning_rate, help="end of the cosine schedule")
    add("--halve-at", type=int, nargs="*", default=[], help="steps at which the learning rate is halved")
    add("--warmup", type=int, default=default.warmup, help="steps of linear warm-up")
    add("--weight-decay", type=float, default=default.weight_decay, help="of all weights, decoupled")
    add("--max-gradient-norm", type=float, default=default.max_gradient_norm, help="longer gradients are scaled down")
    add("--ema-decay", type=float, default=default.ema_decay, help="of the averaged weights, which are saved")
    add("--mixed-precision", choices=["no", "fp16", "bf16"], default=default.mixed_precision, help="autocast")
    add("--channels-last", action="store_true", help="faster convolutions, less exact norms on a CPU")
    add("--gradient-accumulation", type=positive, default=default.gradient_accumulation, help="batches per step")
    add("--workers", type=int, default=default.workers, help="processes that load data")
    add("--save-every", type=positive, default=default.save_every, help="steps between checkpoints with validation")
    add(
        "--save-minutes",
        type=positive_number,
        default=default.save_minutes,
        help="minutes between further checkpoints",
    )
    add("--check-every", type=positive, default=default.check_every, help="steps between checks for NaN")
    add("--log-every", type=positive, default=default.log_every, help="steps between lines of the log")
    add("--trackers", nargs="+", choices=["tensorboard", "wandb"], default=[], help="where to log besides log.jsonl")
    add("--checkpoints-total-limit", type=positive, default=default.checkpoints_total_limit, help="older are deleted")
    add("--resume", action="store_true", help="continue from the newest checkpoint in --output")
    add("--seed", type=int, default=default.seed, help="of everything random")


def positive_number(text: str) -> float:
    """Parse a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return number


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)
