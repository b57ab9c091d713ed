"""The training loop of all stages, on Accelerate: from one CPU to many GPUs, resumable to the bit."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NoReturn

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import set_seed
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from torch import nn

from ..losses.adversary import discriminator_loss
from .checkpoints import Checkpoints
from .config import TrainerConfig
from .epochs import epoch_batches
from .phases import Phases
from .progress import Progress
from .stage import Batch, Stage, TrainingSet
from .validation import Validation


# The gradient scaler of fp16 starts at 2^16. Gradients that overflow at this scale are infinite at any scale.
MIN_SCALE = 2.0**-10


class Trainer:
    """Trains the parameters of a stage that require gradients.

    A loss or gradient that is not finite ends the run before it changes a weight (with `check_every`, some steps later
    but before a checkpoint), so that the checkpoints and models on the disk are always good ones. (With fp16, a step
    whose gradients overflow is skipped, and counts as a step.) A resumed run computes the same bits as one without
    a break: batches depend on the seed and the step only, and a checkpoint has the weights, the optimizers, the
    averaged weights, the random states and the elapsed time. (A run of `minutes` also depends on the speed of the
    machine.)

    Args:
        config ([`TrainerConfig`]): The options.
        stage ([`Stage`]): Computes the loss.
        dataset ([`TrainingSet`] or [`Phases`]): The training data. Each phase ends with a checkpoint.
        save_models (`Callable`): Writes the models of the stage. It is called at every checkpoint, while the
            parameters are the averaged ones.
        validation_set ([`TrainingSet`], *optional*): Evaluated at every checkpoint.
    """

    def __init__(
        self,
        config: TrainerConfig,
        stage: Stage,
        dataset: TrainingSet | Phases,
        save_models: Callable[[], None],
        validation_set: TrainingSet | None = None,
    ) -> None:
        self.config, self.stage, self.dataset, self.save_models = config, stage, dataset, save_models
        self.validation = None
        if validation_set is not None:
            self.validation = Validation(validation_set, config.batch_size, config.output / "validation")
        self.adversary = stage.adversary
        self.checkpoints = Checkpoints(config.output / "checkpoints", config.checkpoints_total_limit)
        self.progress = Progress(config)

    def run(self) -> None:
        """Train until the end of the budget, with a log, checkpoints and validation.

        Raises:
            ValueError: If there is less data than one batch, no checkpoint to resume from, an earlier run in the
                output folder, or a loss, a gradient or a weight that is not finite.
        """
        self.setup()
        if self.progress.done >= 1:
            self.export()  # the run ended between its last checkpoint and the models, for example on a full disk
        batches = self.batches()
        while (done := self.progress.done) < 1:
            figures = self.train_step(batches)
            if self.progress.is_due(self.config.log_every):
                self.log_step(figures)
            if self.must_save(done):
                self.save()
                self.validate()
        leave_together(self.accelerator)

    def must_save(self, done_before: float) -> bool:
        """Whether a checkpoint is due after this step, before which the part `done_before` of the run was over."""
        config, progress = self.config, self.progress
        is_late = (progress.seconds - self.seconds_saved) / 60 >= (config.save_minutes or math.inf)
        return is_late or progress.is_due(config.save_every) or self.phase(progress.done) != self.phase(done_before)

    def phase(self, done: float) -> str:
        """The name of the phase when the part `done` of the run is over."""
        return self.dataset.at(done)[0].name if isinstance(self.dataset, Phases) else ""

    # Setup

    def setup(self) -> None:
        """Prepare the networks, the optimizers and the data, and load a checkpoint if the run is resumed."""
        config = self.config
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision=config.mixed_precision,
            log_with=list(config.trackers) or None,
            project_dir=config.output,
            # Any other sampler shuffles differently in a resumed run.
            dataloader_config=DataLoaderConfiguration(
                use_seedable_sampler=True, data_seed=config.seed, non_blocking=True
            ),
        )
        # Each process draws other random numbers. The networks were initialized before, equal in all processes.
        set_seed(config.seed, device_specific=True)
        self.prepare_networks()
        self.parameters = [parameter for parameter in self.stage.parameters() if parameter.requires_grad]
        self.ema = EMAModel(
            self.parameters, decay=config.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=0.75, foreach=True
        )
        optimizer = self.stage.make_optimizer(config.weight_decay)
        self.prepared, self.optimizer = self.accelerator.prepare(self.stage, optimizer)
        if self.adversary is not None:
            self.discriminator, self.discriminator_optimizer = self.accelerator.prepare(
                self.adversary.discriminator, self.adversary.make_optimizer()
            )
        self.ema.to(self.accelerator.device)
        self.accelerator.register_for_checkpointing(self.ema, self.progress)
        self.checkpoints.load(self.accelerator, config.resume)
        self.accelerator.init_trackers("keep_hf", config.command)
        self.progress.start()
        self.seconds_saved = self.progress.seconds

    def prepare_networks(self) -> None:
        self.stage.train()  # networks that were loaded are in evaluation mode
        if self.config.channels_last:
            modules = [self.stage, *([self.adversary.discriminator] if self.adversary else [])]
            for module in modules:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.config.gradient_checkpointing:
            for model in self.stage.modules():
                if isinstance(model, ModelMixin) and model._supports_gradient_checkpointing:
                    model.enable_gradient_checkpointing()

    # Steps

    def batches(self) -> Iterator[Batch]:
        """Endless batches from where the run is."""
        config, progress = self.config, self.progress
        first = progress.step * config.gradient_accumulation
        if isinstance(self.dataset, Phases):
            return self.dataset.batches(self.accelerator, config.workers, first, lambda: progress.done)
        return epoch_batches(self.dataset, config.batch_size, self.accelerator, config.workers, first)

    def train_step(self, batches: Iterator[Batch]) -> dict[str, torch.Tensor]:
        """Do one optimizer step, over `gradient_accumulation` batches.

        Returns:
            `dict[str, torch.Tensor]`: the loss, the figures of the stage and the gradient norm, in this process;
            means over the batches.

        Raises:
            ValueError: If a loss or a gradient is not finite, in a step that is checked. It is not done then.
        """
        config, step = self.config, self.progress.step
        for part in (self.stage, self.adversary):
            if part is not None:
                part.before_step(step, self.progress.done)
        figures: dict[str, torch.Tensor] = {}
        judged = []
        for i in range(config.gradient_accumulation):
            with self.accumulate(self.prepared, is_last=i == config.gradient_accumulation - 1):
                output = self.prepared(next(batches))
                self.accelerator.backward(output.loss / config.gradient_accumulation)
            for name, value in {"loss": output.loss, **output.figures}.items():
                figures[name] = figures.get(name, 0) + value.detach() / config.gradient_accumulation
            if self.adversary is not None and self.adversary.active:
                judged.append(torch.cat([output.images["sharp"], output.images["restored"].detach()]))
        self.check_loss("loss", figures["loss"])
        figures["gradient norm"] = self.optimize(
            self.optimizer, self.parameters, self.progress.learning_rate, config.max_gradient_norm
        )
        if judged:
            figures |= self.train_discriminator(judged)
        self.ema.step(self.parameters)
        self.progress.finish_step(self.accelerator)
        return figures

    def train_discriminator(self, judged: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Do one optimizer step of the discriminator; the first half of each tensor is sharp, the second restored."""
        assert self.adversary is not None
        losses = []
        for i, images in enumerate(judged):
            with self.accumulate(self.discriminator, is_last=i == len(judged) - 1):
                loss = discriminator_loss(self.discriminator(images))
                self.accelerator.backward(loss / len(judged))
            losses.append(loss.detach())
        mean = torch.stack(losses).mean()
        self.check_loss("discriminator loss", mean)
        parameters = list(self.adversary.discriminator.parameters())
        norm = self.optimize(self.discriminator_optimizer, parameters, self.adversary.learning_rate, math.inf)
        return {"discriminator loss": mean, "discriminator gradient norm": norm}

    def accumulate(self, module: nn.Module, is_last: bool) -> AbstractContextManager[None]:
        """Average the gradients of all processes in the last backward pass of a step only."""
        return nullcontext() if is_last else self.accelerator.no_sync(module)

    def optimize(
        self, optimizer: AcceleratedOptimizer, parameters: list[nn.Parameter], learning_rate: float, max_norm: float
    ) -> torch.Tensor:
        """Clip the gradients and do the step of one optimizer; return the norm of the gradients before clipping."""
        self.accelerator.unscale_gradients(optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, max_norm)
        scaler = self.accelerator.scaler
        # An overflow is normal with fp16: the scaler skips the step and halves its scale.
        if self.progress.check_is_due() and not norm.isfinite() and (scaler is None or scaler.get_scale() < MIN_SCALE):
            self.stop(f"The gradient norm is {norm.item()} in step {self.progress.step + 1}")
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad()
        return norm

    def check_loss(self, name: str, loss: torch.Tensor) -> None:
        if not self.progress.check_is_due():
            return
        # The mean over the processes, so that all of them stop.
        mean = self.accelerator.reduce(loss, "mean").item()
        if not math.isfinite(mean):
            self.stop(f"The {name} is {mean} in step {self.progress.step + 1}")

    def stop(self, problem: str) -> NoReturn:
        existing = self.checkpoints.existing()
        advice = f"--resume from {existing[-1].name}" if existing else "start again"
        raise ValueError(
            f"{problem}, which was not saved. Check the data, then {advice} with a lower --learning-rate."
        )

    # Log, checkpoints, validation

    def log_step(self, figures: dict[str, torch.Tensor]) -> None:
        """Log figures, as means over the processes."""
        means = self.accelerator.reduce(torch.stack([value.float() for value in figures.values()]), "mean").tolist()
        line = dict(zip(figures, means, strict=True))
        line["learning rate"] = self.optimizer.param_groups[0]["lr"]
        line["steps/s"] = self.progress.steps_per_second
        if self.config.minutes is not None:
            line["minutes"] = self.progress.seconds / 60
        self.log(line)

    def log(self, line: dict[str, float]) -> None:
        """Write a line to `log.jsonl`, the standard output and the trackers."""
        self.accelerator.log(line, step=self.progress.step)
        if self.accelerator.is_main_process:
            rounded = {"step": self.progress.step, **{name: float(f"{value:.5g}") for name, value in line.items()}}
            self.config.output.mkdir(parents=True, exist_ok=True)
            with open(self.config.output / "log.jsonl", "a") as file:
                file.write(json.dumps(rounded) + "\n")
            print(" ".join(f"{name} {value:.5g}" for name, value in rounded.items()), flush=True)

    def save(self) -> None:
        """Write a checkpoint, and the models with averaged weights.

        Raises:
            ValueError: If a weight is not finite; nothing is written then.
        """
        self.check_weights()
        self.seconds_saved = self.progress.seconds
        self.checkpoints.save(self.accelerator, self.progress.step)
        self.export()

    def export(self) -> None:
        """Write the models with averaged weights."""
        if self.accelerator.is_main_process:
            with self.averaged_weights():
                self.save_models()
        self.accelerator.wait_for_everyone()

    def check_weights(self) -> None:
        tensors = self.stage.state_dict()
        if self.adversary is not None:
            tensors |= {f"discriminator.{k}": v for k, v in self.adversary.discriminator.state_dict().items()}
        finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()
        broken = [name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite]
        if broken:
            self.stop(f"{', '.join(broken[:3])} became infinite or NaN in step {self.progress.step}")

    def validate(self) -> None:
        """Evaluate the averaged weights on the validation set."""
        if self.validation is not None and self.accelerator.is_main_process:
            with self.averaged_weights():
                self.log(self.validation.run(self.stage, self.progress.step))
        self.accelerator.wait_for_everyone()

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Replace the trained parameters by their moving averages for a while."""
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            yield
        finally:
            self.ema.restore(self.parameters)


def leave_together(accelerator: Accelerator) -> None:
    """End all processes of a run.

    A process that leaves early can take another one down with it, so they wait for each other first. After that, a
    thread of gloo releases its finished work, and seems to need Python's global lock for it, which the main thread
    holds while it destroys the process group and waits for this very thread. In about one of a hundred runs on busy
    cores both waited forever, so the thread gets time.
    """
    accelerator.wait_for_everyone()
    if accelerator.num_processes > 1:
        time.sleep(1)
    accelerator.end_training()
