"""The training loop on a linear regression: exact resuming, checkpoints, and what stops a run before it does harm."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from training.loop.config import Parser, TrainerConfig, add_loop_arguments
from training.loop.phases import Phase, Phases
from training.loop.stage import Batch, Stage, StageOutput, TrainingSet
from training.loop.trainer import MIN_SCALE, Trainer
from training.losses.adversary import Adversary, PatchDiscriminator


@dataclass
class Points(TrainingSet):
    """Random points near a plane. In epoch `bad_epoch`, `change` is applied to every item."""

    length: int = 8
    bad_epoch: int | None = None
    change: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        x = np.random.default_rng((self.epoch, index)).normal(size=4).astype(np.float32)
        item = {"x": torch.from_numpy(x), "y": torch.tensor([x.sum() + 0.5]), "slope": torch.tensor(0.0)}
        item["image"] = torch.zeros(1, 3, 16, 16)
        if self.epoch == self.bad_epoch:
            item |= {name: torch.full_like(item[name], value) for name, value in self.change.items()}
        return item


class Regression(Stage):
    """Fits a plane, with random noise and a statistic that is not trained, as other stages have them."""

    def __init__(self, adversary: Adversary | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 1)
        self.adversary = adversary
        self.register_buffer("statistic", torch.zeros(()))

    def forward(self, batch: Batch) -> StageOutput:
        error = self.layer(batch["x"]) - batch["y"] + 0.01 * torch.randn(len(batch["y"]), 1)
        # Zero, but its gradient is 1e10 times the slope.
        weight = self.layer.weight
        cliff = (weight - weight.detach()).sum() * batch["slope"].max() * 1e10
        loss = error.square().mean() + cliff
        return StageOutput(
            loss, {"mean error": error.abs().mean()}, {"sharp": batch["image"], "restored": batch["image"]}
        )


def make_config(output: Path, **options) -> TrainerConfig:
    defaults = {"steps": 8, "batch_size": 2, "learning_rate": 0.1, "warmup": 1, "workers": 0, "log_every": 1}
    return TrainerConfig(**{"output": output, "save_every": 2, **defaults, **options})


def make_trainer(config: TrainerConfig, dataset: Points | None = None, stage: Regression | None = None) -> Trainer:
    stage = stage or Regression()

    def save_models() -> None:
        save_file(stage.state_dict(), config.output / "model.safetensors")

    return Trainer(config, stage, dataset or Points(), save_models)


def log_of(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def checkpoints(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "checkpoints").iterdir())


def test_the_loss_falls_and_the_log_has_all_figures(tmp_path):
    make_trainer(make_config(tmp_path, steps=60, save_every=60)).run()
    log = log_of(tmp_path)
    assert [line["step"] for line in log] == list(range(1, 61))
    assert set(log[0]) == {"step", "loss", "mean error", "gradient norm", "learning rate", "steps/s"}
    assert log[-1]["loss"] < log[0]["loss"] / 20
    assert log[0]["gradient norm"] > 1  # before clipping


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path, accumulation):
    # Five batches are an epoch, so with two batches per step an epoch ends within a step.
    config = make_config(tmp_path / "whole", steps=7, save_every=4, gradient_accumulation=accumulation)
    make_trainer(config, Points(length=10)).run()
    stopped = replace(config, output=tmp_path / "resumed")
    trainer = make_trainer(stopped, Points(length=10))
    trainer.save_models = lambda: (_ for _ in ()).throw(KeyboardInterrupt)  # right after the checkpoint is written
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    make_trainer(replace(stopped, resume=True), Points(length=10)).run()
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    for name in ("loss", "gradient norm", "learning rate"):
        assert [line[name] for line in log_of(tmp_path / "resumed")] == [
            line[name] for line in log_of(tmp_path / "whole")
        ]


class Clock:
    """A clock on which every step takes a second: the progress reads the time once per step, and when it starts."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


def test_a_time_budget_counts_over_the_sessions_of_a_run(tmp_path, monkeypatch):
    # The log also reads the time, so it is left out but for the last step.
    config = make_config(tmp_path, steps=None, minutes=9 / 60, save_every=4, log_every=100)
    trainer = make_trainer(config)
    monkeypatch.setattr("training.loop.progress.time", Clock())
    trainer.save_models = lambda: (_ for _ in ()).throw(KeyboardInterrupt)  # right after the checkpoint is written
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert (trainer.progress.step, trainer.progress.seconds) == (4, 4)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (1 + np.cos(np.pi * 3 / 9)) / 2)
    monkeypatch.setattr("training.loop.progress.time", Clock())
    trainer = make_trainer(replace(config, resume=True))
    trainer.run()
    assert (trainer.progress.step, trainer.progress.seconds) == (9, 9)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (1 + np.cos(np.pi * 8 / 9)) / 2)
    (line,) = log_of(tmp_path)
    assert line["minutes"] == pytest.approx(9 / 60, rel=1e-4)


def test_checkpoints_are_written_after_some_minutes(tmp_path, monkeypatch):
    monkeypatch.setattr("training.loop.progress.time", Clock())
    config = make_config(
        tmp_path, steps=8, save_every=None, save_minutes=3 / 60, log_every=100, checkpoints_total_limit=5
    )
    make_trainer(config).run()
    assert checkpoints(tmp_path) == ["step_3", "step_6", "step_8"]


@pytest.mark.parametrize("option", ["--minutes", "--save-minutes", "--learning-rate"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "long"])
def test_a_budget_or_rate_that_never_ends_a_run_is_rejected(option, value, capsys):
    parser = Parser("")
    add_loop_arguments(parser)
    words = [option, value] if option == "--minutes" else ["--steps", "1", option, value]
    with pytest.raises(SystemExit):
        parser.parse_args(words)
    assert f"{option}: must be a number above 0, got '{value}'" in capsys.readouterr().err
    words[-1] = "2.5e-1"
    assert getattr(parser.parse_args(words), option[2:].replace("-", "_")) == 0.25


def test_a_run_has_steps_or_minutes(tmp_path):
    for budget in ({"steps": None}, {"minutes": 1.0}):
        with pytest.raises(ValueError, match="either steps or minutes"):
            make_config(tmp_path, **budget)


def test_checks_may_be_rare_but_what_is_not_finite_is_never_saved(tmp_path):
    config = make_config(tmp_path, save_every=1, check_every=3)
    trainer = make_trainer(config, Points(bad_epoch=1, change={"y": float("nan")}))
    with pytest.raises(ValueError, match="became infinite or NaN in step 5"):
        trainer.run()
    assert checkpoints(tmp_path) == ["step_3", "step_4"]
    config = make_config(tmp_path / "late", save_every=None, check_every=3)
    with pytest.raises(ValueError, match="The loss is nan in step 6"):
        make_trainer(config, Points(bad_epoch=1, change={"y": float("nan")})).run()


# Phases


class Numbers(Points):
    """Items that depend on their number only."""

    def __getitem__(self, index: int) -> Batch:
        return super().__getitem__(index) | {"index": torch.tensor(index), "phase": torch.tensor(self.length)}


@pytest.mark.parametrize("workers", [0, 2])
def test_every_phase_takes_the_samples_of_its_steps(workers):
    phases = Phases([Phase("first", 1, Numbers(10**9), 2), Phase("second", 3, Numbers(10**8), 3)])
    assert [phases.at(done)[0].name for done in (0, 0.24, 0.25, 1)] == ["first", "first", "second", "second"]
    assert phases.at(0.625)[1] == 0.5
    assert (phases.start_of("first"), phases.start_of("second")) == (0, 0.25)
    taken = {}
    for first in (0, 3):  # the second time as in a resumed run
        done: list[float] = []
        batches = phases.batches(Accelerator(cpu=True), workers, first, lambda done=done: done[-1])
        for step in range(first, 5):
            done.append(step / 8)
            batch = next(batches)
            taken.setdefault(step, []).append((batch["phase"][0].item(), batch["index"].tolist()))
    first_phase, second_phase = 10**9, 10**8
    assert taken[1] == [(first_phase, [2, 3])]
    assert taken[2] == [(second_phase, [6, 7, 8])]
    assert taken[4] == [(second_phase, [12, 13, 14])] * 2


def test_phases_need_positive_shares():
    with pytest.raises(ValueError, match="positive shares"):
        Phases([Phase("only", 0, Points(), 1)])


def test_accumulated_batches_have_the_gradient_of_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "randn", torch.zeros)
    logs = []
    for batch_size, accumulation in ((4, 1), (2, 2)):
        output = tmp_path / str(batch_size)
        make_trainer(make_config(output, batch_size=batch_size, gradient_accumulation=accumulation)).run()
        logs.append(log_of(output))
    for large, accumulated in zip(*logs, strict=True):
        assert accumulated["loss"] == pytest.approx(large["loss"], rel=1e-3)
        assert accumulated["gradient norm"] == pytest.approx(large["gradient norm"], rel=1e-3)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"y": float("nan")}, "The loss is nan in step 5"),
        ({"y": float("inf")}, "The loss is inf in step 5"),
        ({"slope": 1e38}, "The gradient norm is inf in step 5"),
        ({"image": float("nan")}, "The discriminator loss is nan in step 5"),
    ],
)
def test_what_is_not_finite_stops_the_run_and_leaves_the_last_good_state_on_the_disk(tmp_path, change, problem):
    def stage() -> Regression:
        return Regression(Adversary(PatchDiscriminator(over_time=False, channels=4), weight=1.0, start=0.0))

    make_trainer(make_config(tmp_path / "good", steps=4, final_learning_rate=0.1), stage=stage()).run()
    # Four steps are an epoch; the checkpoint of step 4 is the last one before the bad data.
    config = make_config(tmp_path / "bad", save_every=1, final_learning_rate=0.1)
    trainer = make_trainer(config, Points(bad_epoch=1, change=change), stage())
    with pytest.raises(ValueError, match=f"{problem}.*--resume from step_4 with a lower --learning-rate"):
        trainer.run()
    assert checkpoints(tmp_path / "bad") == ["step_3", "step_4"]
    for file in ("model.safetensors", "checkpoints/step_4/model.safetensors"):
        good, bad = (load_file(tmp_path / name / file) for name in ("good", "bad"))
        assert all(torch.equal(good[key], bad[key]) for key in good)
    assert len(log_of(tmp_path / "bad")) == 4
    if "image" not in change:
        assert all(parameter.isfinite().all() for parameter in trainer.stage.parameters())
    make_trainer(replace(config, resume=True), stage=stage()).run()
    assert log_of(tmp_path / "bad")[-1]["step"] == 8


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    class Overflowing(Regression):
        def before_step(self, step: int, done: float) -> None:
            if step == 3:
                self.statistic.fill_(float("inf"))

    trainer = make_trainer(make_config(tmp_path, save_every=1), stage=Overflowing())
    with pytest.raises(ValueError, match="statistic became infinite or NaN in step 4"):
        trainer.run()
    assert checkpoints(tmp_path) == ["step_2", "step_3"]
    assert load_file(tmp_path / "model.safetensors")["statistic"] == 0


def test_with_fp16_an_overflow_skips_a_step_and_endless_overflow_stops_the_run(tmp_path, monkeypatch):
    # Accelerate has fp16 on GPUs only; the scaler of torch also works on a CPU.
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    trainer = make_trainer(make_config(tmp_path, steps=100), Points(bad_epoch=1, change={"slope": 1e38}))
    trainer.setup()
    scaler = torch.amp.GradScaler("cpu")
    trainer.accelerator.scaler = scaler
    trainer.optimizer = type(trainer.optimizer)(trainer.optimizer.optimizer, scaler=scaler)
    batches = trainer.batches()
    for _ in range(4):
        trainer.train_step(batches)
    before = {key: value.clone() for key, value in trainer.stage.state_dict().items()}
    for _ in range(4):  # the epoch with infinite gradients
        assert not trainer.train_step(batches)["gradient norm"].isfinite()
    assert scaler.get_scale() == 2.0**12
    assert all(torch.equal(before[key], value) for key, value in trainer.stage.state_dict().items())
    assert trainer.train_step(batches)["gradient norm"].isfinite()
    assert not torch.equal(before["layer.weight"], trainer.stage.state_dict()["layer.weight"])

    trainer.dataset.bad_epoch, trainer.dataset.epoch = 2, 2
    with pytest.raises(ValueError, match="The gradient norm is"):
        for _ in range(100):
            trainer.dataset.bad_epoch = trainer.dataset.epoch
            trainer.train_step(batches)
    assert scaler.get_scale() < MIN_SCALE


def test_old_checkpoints_are_deleted_and_unfinished_ones_are_not_resumed_from(tmp_path):
    config = make_config(tmp_path, steps=6, checkpoints_total_limit=2)
    make_trainer(config).run()
    assert checkpoints(tmp_path) == ["step_4", "step_6"]
    (tmp_path / "checkpoints/step_8.unfinished").mkdir()  # as a killed run leaves it
    make_trainer(replace(config, steps=10, resume=True)).run()
    assert checkpoints(tmp_path) == ["step_10", "step_8"]
    assert [line["step"] for line in log_of(tmp_path)] == list(range(1, 11))


def test_a_new_run_needs_a_new_folder_and_a_resumed_one_a_checkpoint(tmp_path):
    config = make_config(tmp_path, steps=2)
    with pytest.raises(ValueError, match="no checkpoint to resume from"):
        make_trainer(replace(config, resume=True)).run()
    make_trainer(config).run()
    with pytest.raises(ValueError, match="checkpoints of an earlier run: add --resume"):
        make_trainer(config).run()
    with pytest.raises(ValueError, match=r"There are 8 training items; one step needs 9 \(9 in each of 1 processes\)"):
        make_trainer(make_config(tmp_path / "other", batch_size=9)).run()


def test_saved_models_are_averages_and_training_goes_on_with_the_weights(tmp_path):
    config = make_config(tmp_path, steps=6, save_every=6, ema_decay=0.5)
    trainer = make_trainer(config)
    trainer.run()
    saved = load_file(tmp_path / "model.safetensors")["layer.weight"]
    weights = trainer.stage.layer.weight
    assert 1e-4 < (saved - weights).abs().max() < 0.2
    assert torch.equal(load_file(tmp_path / "checkpoints/step_6/model.safetensors")["layer.weight"], weights)


def test_models_that_could_not_be_written_at_the_end_are_written_by_a_resumed_run(tmp_path):
    make_trainer(make_config(tmp_path / "whole")).run()
    trainer = make_trainer(make_config(tmp_path / "full"))
    save_models = trainer.save_models

    def save_until_the_disk_is_full() -> None:
        if trainer.progress.done >= 1:
            raise OSError("No space left on device")
        save_models()

    trainer.save_models = save_until_the_disk_is_full
    with pytest.raises(OSError, match="No space left"):
        trainer.run()
    make_trainer(make_config(tmp_path / "full", resume=True)).run()
    expected, written = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "full"))
    assert all(torch.equal(expected[name], written[name]) for name in expected)


def test_a_lower_learning_rate_counts_in_a_resumed_run(tmp_path):
    config = make_config(tmp_path, steps=2, final_learning_rate=0.1)
    make_trainer(config).run()
    make_trainer(replace(config, steps=4, learning_rate=0.01, final_learning_rate=0.01, resume=True)).run()
    assert [line["learning rate"] for line in log_of(tmp_path)] == [0, 0.1, 0.01, 0.01]
