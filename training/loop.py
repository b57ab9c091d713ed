"""The one training loop of all stages, on Accelerate: from one CPU to many GPUs, resumable to the bit.

A stage is ONE module whose `forward(batch)` returns a dict of losses with their sum under "loss": under data
parallelism only what runs inside the prepared module's forward has its gradients averaged.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import ProjectConfiguration, set_seed
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import nn
from torch.utils.data import DataLoader, Dataset


def add_arguments(parser: argparse.ArgumentParser, *, learning_rate: float) -> None:
    """The arguments that every stage takes."""
    parser.add_argument("--data", nargs="+", required=True, help="folders to train on (see training/data.py)")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints and the trained model")
    parser.add_argument("--steps", type=int, required=True, help="optimiser steps in all")
    parser.add_argument("--batch-size", type=int, default=8, help="clips a step and process")
    parser.add_argument("--learning-rate", type=float, default=learning_rate, help="peak; cosine decay to zero")
    parser.add_argument("--warmup", type=int, default=100, help="steps of linear warm-up")
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--ema-decay", type=float, default=0.999, help="of the averaged weights that are saved")
    parser.add_argument("--mixed-precision", choices=["no", "fp16", "bf16"], default="no")
    parser.add_argument("--channels-last", action="store_true", help="faster convolutions; less exact norms on CPU")
    parser.add_argument("--gradient-accumulation", type=int, default=1)
    parser.add_argument("--gradient-checkpointing", action="store_true", help="less memory for a third more time")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare data")
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--log-every", type=int, default=50, help="steps between lines of the log")
    parser.add_argument("--checkpoints-total-limit", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --output")
    parser.add_argument("--seed", type=int, default=0)


class Progress:
    """The step, as something that is saved and loaded with the rest."""

    def __init__(self) -> None:
        self.step = 0

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]


def train(args: argparse.Namespace, stage: nn.Module, dataset: Dataset, save: Callable[[], None]) -> None:
    """Train what requires gradients in `stage`; at the end, and at every checkpoint, call `save` with the EMA weights.

    Args:
        args: From `add_arguments`.
        stage (`nn.Module`): `forward(batch)` -> `{"loss": ..., other figures to log}`; may have
            `before_step(step, steps)`.
        dataset (`Dataset`): Has an `epoch` that its random numbers depend on.
        save: Writes the components of the stage to `args.output`.

    Raises:
        ValueError: If the data are fewer than one batch, or there is nothing to resume.
    """
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation,
        # Without the seedable sampler a resumed run shuffles differently from the run it goes on with.
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=args.seed),
        project_config=ProjectConfiguration(
            project_dir=str(args.output), automatic_checkpoint_naming=True, total_limit=args.checkpoints_total_limit
        ),
    )
    set_seed(args.seed)
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

    trainable = [parameter for parameter in stage.parameters() if parameter.requires_grad]
    ema = EMAModel(trainable, decay=args.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=0.75, foreach=True)
    optimizer = torch.optim.AdamW(trainable, args.learning_rate, betas=(0.9, 0.99), weight_decay=args.weight_decay)
    # The prepared scheduler advances once a process for every step.
    scheduler = get_scheduler(
        "cosine",
        optimizer=optimizer,
        num_warmup_steps=args.warmup * accelerator.num_processes,
        num_training_steps=args.steps * accelerator.num_processes,
    )
    loader = DataLoader(dataset, args.batch_size, shuffle=True, num_workers=args.workers, drop_last=True)
    prepared, optimizer, scheduler, loader = accelerator.prepare(stage, optimizer, scheduler, loader)
    ema.to(accelerator.device)
    progress = Progress()
    accelerator.register_for_checkpointing(ema, progress)

    checkpoints = args.output / "checkpoints"
    if args.resume:
        newest = max(checkpoints.glob("checkpoint_*"), key=lambda path: int(path.name.split("_")[1]), default=None)
        if newest is None:
            raise ValueError(f"There is no checkpoint in {checkpoints} to resume from; leave --resume out to begin.")
        accelerator.load_state(str(newest))
        accelerator.project_configuration.iteration = int(newest.name.split("_")[1]) + 1
    elif checkpoints.exists():
        raise ValueError(f"{checkpoints} holds an earlier run: --resume it or choose another --output.")

    batches_an_epoch = len(loader)
    log = accelerator.is_main_process and open_log(args.output)
    started, counted_from = time.monotonic(), progress.step
    while progress.step < args.steps:
        done = progress.step * args.gradient_accumulation
        epoch, skip = divmod(done, batches_an_epoch)
        loader.set_epoch(epoch)
        dataset.epoch = epoch
        for batch in accelerator.skip_first_batches(loader, skip) if skip else loader:
            if accelerator.sync_gradients and hasattr(stage, "before_step"):
                stage.before_step(progress.step, args.steps)
            with accelerator.accumulate(prepared):
                losses = prepared(batch)
                accelerator.backward(losses["loss"])
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(trainable, 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            if not accelerator.sync_gradients:
                continue
            ema.step(trainable)
            progress.step += 1
            if progress.step % args.log_every == 0 or progress.step == args.steps:
                figures = {name: accelerator.reduce(value.detach(), "mean").item() for name, value in losses.items()}
                if not math.isfinite(figures["loss"]):
                    raise ValueError(f"The loss is {figures['loss']} at step {progress.step}: lower --learning-rate.")
                if log:
                    rate = (progress.step - counted_from) / (time.monotonic() - started)
                    line = {"step": progress.step, **{k: round(v, 5) for k, v in figures.items()}, "steps/s": rate}
                    print(json.dumps(line), file=log, flush=True)
                    print(" ".join(f"{k} {v:.5g}" for k, v in line.items()), flush=True)
            if progress.step % args.save_every == 0 or progress.step == args.steps:
                accelerator.save_state()
                if accelerator.is_main_process:
                    ema.store(trainable)
                    ema.copy_to(trainable)
                    save()
                    ema.restore(trainable)
                accelerator.wait_for_everyone()
            if progress.step == args.steps:
                break
    accelerator.end_training()


def open_log(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    return open(folder / "log.jsonl", "a")
