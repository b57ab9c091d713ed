"""The one training loop of all stages, on Accelerate: from one CPU to many GPUs, resumable to the bit.

A stage is ONE module whose `forward(batch)` returns a dict of losses, with their sum under "loss", and a dict of
pictures to look at: under data parallelism only what runs inside the prepared module's forward has its gradients
averaged.  It may have

- `before_step(step, steps)`, called before each step of the optimizer;
- `adversary` ([`Adversary`]), which then learns from the pictures "sharp" and "made" of every step.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import ProjectConfiguration, set_seed
from diffusers.training_utils import EMAModel
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .adversary import discriminator_loss
from .validation import Validation


class Parser(argparse.ArgumentParser):
    """A parser that also takes arguments from `@file`, one a line: `--steps=1000`; `#` begins a comment."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            fromfile_prefix_chars="@",
            allow_abbrev=False,
        )

    def convert_arg_line_to_args(self, line: str) -> list[str]:
        return line.split("#")[0].split()


def add_arguments(parser: argparse.ArgumentParser, *, learning_rate: float) -> None:
    """The arguments that every stage takes."""
    parser.add_argument("--data", nargs="+", required=True, help="what to train on (see training/data.py)")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints and the trained model")
    parser.add_argument("--steps", type=positive, required=True, help="optimizer steps in all")
    parser.add_argument("--batch-size", type=positive, default=8, help="clips a step and process")
    parser.add_argument("--learning-rate", type=float, default=learning_rate, help="peak; falls along a cosine")
    parser.add_argument("--final-learning-rate", type=float, default=0.0, help="at the end of the cosine")
    parser.add_argument("--halve-at", type=int, nargs="*", default=[], help="steps at which the rate is halved")
    parser.add_argument("--warmup", type=int, default=100, help="steps of linear warm-up")
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--ema-decay", type=float, default=0.999, help="of the averaged weights that are saved")
    parser.add_argument("--mixed-precision", choices=["no", "fp16", "bf16"], default="no")
    parser.add_argument("--channels-last", action="store_true", help="faster convolutions; less exact norms on CPU")
    parser.add_argument("--gradient-accumulation", type=positive, default=1)
    parser.add_argument("--gradient-checkpointing", action="store_true", help="less memory for a third more time")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare data")
    parser.add_argument("--validation", nargs="+", default=[], help="as --data, not trained on: measured and drawn")
    parser.add_argument("--save-every", type=positive, default=500, help="steps between checkpoints, with validation")
    parser.add_argument("--log-every", type=positive, default=50, help="steps between lines of the log")
    parser.add_argument("--trackers", nargs="+", choices=["tensorboard", "wandb"], default=[], help="log there, too")
    parser.add_argument("--checkpoints-total-limit", type=positive, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --output")
    parser.add_argument("--seed", type=int, default=0)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


class Progress:
    """The step, as something that is saved and loaded with the rest."""

    def __init__(self) -> None:
        self.step = 0

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]


def train(
    args: argparse.Namespace,
    stage: nn.Module,
    dataset: Dataset,
    save: Callable[[], None],
    validation_set: Dataset | None = None,
) -> None:
    """Train what requires gradients in `stage`; at the end, and at every checkpoint, call `save` with the EMA weights.

    Args:
        args: From `add_arguments`.
        stage (`nn.Module`): `forward(batch)` -> losses, pictures; see above.
        dataset (`Dataset`): Has an `epoch` that its random numbers depend on.
        save: Writes the components of the stage to `args.output`.
        validation_set (`Dataset`, *optional*): Measured and drawn at every checkpoint.

    Raises:
        ValueError: If the data are fewer than one batch, there is nothing to resume, or the loss is no number.
    """
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation,
        log_with=args.trackers or None,
        # Without the seedable sampler a resumed run shuffles differently from the run it goes on with.
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=args.seed),
        project_config=ProjectConfiguration(
            project_dir=str(args.output), automatic_checkpoint_naming=True, total_limit=args.checkpoints_total_limit
        ),
    )
    # Every process draws other random numbers where the stage draws any; the weights were made before.
    set_seed(args.seed, device_specific=True)
    if len(dataset) < args.batch_size * accelerator.num_processes:
        raise ValueError(
            f"There are {len(dataset)} clips to train on; one step needs {args.batch_size} on each of "
            f"{accelerator.num_processes} processes. Take a smaller --batch-size or more data."
        )
    if args.channels_last:
        stage.to(memory_format=torch.channels_last)
    if args.gradient_checkpointing:
        for model in stage.modules():
            if getattr(model, "_supports_gradient_checkpointing", False):
                model.enable_gradient_checkpointing()

    adversary = getattr(stage, "adversary", None)
    trainable = [parameter for parameter in stage.parameters() if parameter.requires_grad]
    ema = EMAModel(trainable, decay=args.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=0.75, foreach=True)
    optimizer = torch.optim.AdamW(trainable, args.learning_rate, betas=(0.9, 0.99), weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(args, step))
    loader = DataLoader(dataset, args.batch_size, shuffle=True, num_workers=args.workers, drop_last=True)
    prepared, optimizer, loader = accelerator.prepare(stage, optimizer, loader)
    if adversary is not None:
        discriminator = adversary.discriminator
        discriminator_optimizer = torch.optim.AdamW(
            discriminator.parameters(), args.discriminator_learning_rate, betas=(0.5, 0.99), weight_decay=0.0
        )
        discriminator, discriminator_optimizer = accelerator.prepare(discriminator, discriminator_optimizer)
    ema.to(accelerator.device)
    progress = Progress()
    # Not prepared: accelerate would step a scheduler once for every process.
    accelerator.register_for_checkpointing(ema, scheduler, progress)

    checkpoints = args.output / "checkpoints"
    if args.resume:
        newest = max(checkpoints.glob("checkpoint_*"), key=lambda path: int(path.name.split("_")[1]), default=None)
        if newest is None:
            raise ValueError(f"There is no checkpoint in {checkpoints} to resume from; leave --resume out to begin.")
        accelerator.load_state(str(newest))
        accelerator.project_configuration.iteration = int(newest.name.split("_")[1]) + 1
    elif checkpoints.exists():
        raise ValueError(f"{checkpoints} holds an earlier run: --resume it or choose another --output.")
    accelerator.init_trackers("keep_hf", {name: str(value) for name, value in vars(args).items()})
    validation = Validation(validation_set, args) if validation_set is not None else None

    batches_an_epoch = len(loader)
    log = accelerator.is_main_process and open_log(args.output)
    started, counted_from = time.monotonic(), progress.step
    while progress.step < args.steps:
        done = progress.step * args.gradient_accumulation
        epoch, skip = divmod(done, batches_an_epoch)
        loader.set_epoch(epoch)
        dataset.epoch = epoch
        for batch in accelerator.skip_first_batches(loader, skip) if skip else loader:
            if accelerator.sync_gradients:
                for part in (stage, adversary):
                    if hasattr(part, "before_step"):
                        part.before_step(progress.step, args.steps)
            with accelerator.accumulate(prepared):
                losses, pictures = prepared(batch)
                accelerator.backward(losses["loss"])
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(trainable, 1.0)
                optimizer.step()
                optimizer.zero_grad()
            if adversary is not None and adversary.active:
                with accelerator.accumulate(discriminator):
                    verdicts = discriminator(torch.cat([pictures["sharp"], pictures["made"].detach()]))
                    losses["discriminator"] = discriminator_loss(verdicts)
                    accelerator.backward(losses["discriminator"])
                    discriminator_optimizer.step()
                    discriminator_optimizer.zero_grad()
            if not accelerator.sync_gradients:
                continue
            scheduler.step()
            ema.step(trainable)
            progress.step += 1
            if progress.step % args.log_every == 0 or progress.step == args.steps:
                figures = {name: accelerator.reduce(value.detach(), "mean").item() for name, value in losses.items()}
                if not math.isfinite(figures["loss"]):
                    raise ValueError(f"The loss is {figures['loss']} at step {progress.step}: lower --learning-rate.")
                figures["steps/s"] = (progress.step - counted_from) / (time.monotonic() - started)
                accelerator.log(figures, step=progress.step)
                if log:
                    write_line(log, progress.step, figures)
            if progress.step % args.save_every == 0 or progress.step == args.steps:
                accelerator.save_state()
                if accelerator.is_main_process:
                    ema.store(trainable)
                    ema.copy_to(trainable)
                    save()
                    if validation is not None:
                        figures = validation.run(stage, progress.step)
                        accelerator.log(figures, step=progress.step)
                        write_line(log, progress.step, figures)
                    ema.restore(trainable)
                accelerator.wait_for_everyone()
            if progress.step == args.steps:
                break
    leave_together(accelerator)


def leave_together(accelerator: Accelerator) -> None:
    """End all processes of a run, surely.

    One that leaves without a word may take another down with it: so they meet.  After that a thread of gloo lets go of
    what it did, and seems to need Python's global lock for it, which the main thread holds while it takes the process
    group apart and waits for this very thread.  About once in a hundred runs on busy cores both waited for ever: so
    the thread is given time.
    """
    accelerator.wait_for_everyone()
    if accelerator.num_processes > 1:
        time.sleep(1)
    accelerator.end_training()


def learning_rate_factor(args: argparse.Namespace, step: int) -> float:
    """Of the peak: a linear rise, then a cosine down to the final rate; halved at the steps of `--halve-at`."""
    if step < args.warmup:
        return step / args.warmup
    final = args.final_learning_rate / args.learning_rate
    cosine = (1 + math.cos(math.pi * (step - args.warmup) / max(1, args.steps - args.warmup))) / 2
    return (final + (1 - final) * cosine) * 0.5 ** sum(step >= place for place in args.halve_at)


def open_log(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return open(folder / "log.jsonl", "a")


def write_line(log: Any, step: int, figures: dict[str, float]) -> None:
    line = {"step": step, **{name: float(f"{value:.5g}") for name, value in figures.items()}}
    print(json.dumps(line), file=log, flush=True)
    print(" ".join(f"{name} {value:.5g}" for name, value in line.items()), flush=True)
