"""The training scripts end to end: three stages, resuming, several processes, publishing, wrong arguments."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from accelerate import Accelerator
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file

import golden
from conftest import SIZE
from gradients import compute_gradients, make_stages
from hub_server import serve
from keep_hf import GMFlow, KeepPipeline, KeepVQModel
from keep_hf.evaluation.series import REFERENCE_METRICS
from keep_hf.video.writer import VideoWriter
from paths import REPOSITORY
from portraits import write_labelled_portraits
from processes import launch, run_module
from training.train_keep import change_along, open_face_model


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return write_labelled_portraits(tmp_path_factory.mktemp("faces"), scales=(1.5, 1.7, 1.9, 2.1))


def train(script: str, *arguments: object) -> None:
    """Run a script of training/ in this process, which saves the time of its imports."""
    importlib.import_module(f"training.{script}").main([str(word) for word in arguments])


# Four portraits are an epoch, so the checkpoint of step 6 is in the middle of the second one. By then the codebook and
# the adversary are in use.
VQ_STEPS = ("--steps", 7, "--save-every", 6, "--adversarial-weight", 0.1, "--adversarial-start", 0.5)
COMMON = ("--batch-size", 1, "--workers", 0, "--log-every", 1, "--warmup", 1)


@pytest.fixture(scope="module")
def stages(faces, tmp_path_factory) -> Path:
    """A few steps of all three stages."""
    runs = tmp_path_factory.mktemp("runs")
    GMFlow(backbone_channels=(8, 8, 16), feature_channels=16, num_layers=1).save_pretrained(runs / "flow")
    train("train_vq", "--data", faces, "--output", runs / "vq", *VQ_STEPS, *COMMON)
    train(
        "train_codes",
        *("--vq", runs / "vq/vq", "--flow", runs / "flow", "--data", faces, "--output", runs / "codes"),
        *("--steps", 2, "--clip-length", 2, *COMMON),
    )
    train(
        "train_keep",
        *("--vq", runs / "codes/vq", "--kalman", runs / "codes/kalman", "--flow", runs / "flow"),
        *("--data", faces, "--output", runs / "keep", "--steps", 3, "--clip-length", 2, *COMMON),
        *("--feature-update-sizes", 64, "--fusion-layers", 2),
        *("--validation", faces, "--trackers", "tensorboard", "--adversarial-weight", 0.1, "--adversarial-start", 0),
    )
    return runs


def changed(before: Path, after: Path) -> set[str]:
    """The parts of a model whose weights differ between two files."""
    before, after = (load_file(path / "diffusion_pytorch_model.safetensors") for path in (before, after))
    return {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}


def test_every_stage_trains_its_own_part_and_a_pipeline_comes_out(stages):
    assert changed(stages / "vq/vq", stages / "codes/vq") == {"lq_encoder", "code_transformer"}
    assert changed(stages / "codes/vq", stages / "keep/pipeline/vq") == {"feature_fusion", "cross_frame"}
    assert changed(stages / "codes/kalman", stages / "keep/pipeline/kalman") == set()
    pipe = KeepPipeline.from_pretrained(stages / "keep/pipeline")
    # The rate is zero in the first step, and what lies before a layer of zeros learns once that has moved.
    assert pipe.vq.feature_update["64"].correction.weight.any()
    assert all(block.refine[0].conv2.weight.any() for block in pipe.vq.feature_fusion.values())
    frames = skimage.data.astronaut()[None, 30:200, 130:300].repeat(2, axis=0)
    restored = pipe(frames, aligned=True, strength=1.0, output_type="np").frames
    assert restored.shape == (1, 2, 256, 256, 3)


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_log_holds_finite_figures(stages):
    for stage in ("vq", "codes", "keep"):
        lines = log_of(stages / stage)
        trained = [line for line in lines if "loss" in line]
        assert [line["step"] for line in trained] == list(range(1, len(trained) + 1))
        assert all(np.isfinite(list(line.values())).all() for line in lines)
    assert all(("discriminator loss" in line) == (line["step"] > 4) for line in log_of(stages / "vq"))


def test_validation_is_logged_and_drawn(stages):
    validated = [line for line in log_of(stages / "keep") if "validation loss" in line]
    assert [line["step"] for line in validated] == [3]
    assert {"validation psnr", "validation ssim", "validation psnr of the input"} <= validated[0].keys()
    # A row each for degraded, restored and sharp frames, and a column for each clip.
    assert cv2.imread(str(stages / "keep/validation/3.jpg")).shape == (3 * 256, 4 * 256, 3)
    assert list((stages / "keep").rglob("events.out.tfevents.*"))


def test_a_resumed_run_is_bitwise_the_uninterrupted_one(stages, faces, tmp_path):
    checkpoints = stages / "vq/checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"step_6", "step_7"}
    shutil.copytree(checkpoints / "step_6", tmp_path / "checkpoints/step_6")
    train("train_vq", "--data", faces, "--output", tmp_path, *VQ_STEPS, *COMMON, "--resume")
    whole = load_file(stages / "vq/vq/diffusion_pytorch_model.safetensors")
    resumed = load_file(tmp_path / "vq/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@torch.no_grad()
def test_missing_blocks_are_added_to_a_face_model_and_none_is_removed(stages, tmp_path):
    before = KeepVQModel.from_pretrained(stages / "codes/vq")
    images = torch.randn(1, 3, 256, 256)
    latents, features = before.encode_lq(images)
    quantized = before.lookup(before.predict_codes(latents).argmax(-1), latents)
    for block in before.feature_fusion.values():
        block.shift_out.weight.normal_(std=0.1)
    before.save_pretrained(tmp_path)
    after = open_face_model(tmp_path, feature_update_sizes=[32, 64], fusion_layers=3)
    assert (after.config.feature_update_sizes, after.config.fusion_layers) == ([32, 64], 3)
    _, predicted = after.encode_hq(images)
    corrected = after.update_features(features, predicted)
    assert torch.equal(after.decode(quantized, corrected)[0], before.decode(quantized, features)[0])
    unchanged = open_face_model(stages / "keep/pipeline/vq", feature_update_sizes=None, fusion_layers=None)
    assert (unchanged.config.feature_update_sizes, unchanged.config.fusion_layers) == ([64], 2)
    for sizes, layers in (([32], None), (None, 1)):
        with pytest.raises(ValueError, match=r"would be lost: it updates features at \[64\] and has 2 fusion layers"):
            open_face_model(stages / "keep/pipeline/vq", sizes, layers)


def test_wrong_options_are_reported(capsys):
    required = [f"--{name}=x" for name in ("vq", "flow", "data", "output")]
    for wrong, message in (
        (("--steps", 2, "--fidelity", 2), "--fidelity must be between 0 and 1, got 2.0"),
        (("--steps", 0), "argument --steps: must be an integer of at least 1, got '0'"),
    ):
        with pytest.raises(SystemExit):
            train("train_codes", *required, *wrong)
        assert message in capsys.readouterr().err


def test_two_processes_have_the_gradients_of_one_with_the_double_batch(tmp_path):
    done = launch(2, REPOSITORY / "tests/gradients.py", tmp_path / "two.safetensors")
    assert done.returncode == 0, done.stderr
    with safe_open(tmp_path / "two.safetensors", "pt") as file:
        assert file.metadata() == {"processes": "2"}
    one, two = compute_gradients(Accelerator(cpu=True)), load_file(tmp_path / "two.safetensors")
    assert one.keys() == two.keys()
    assert {key.split(".")[0] for key in one} == {"codebook", "vq", "discriminator", "codes", "keep"}
    for key, expected in one.items():
        torch.testing.assert_close(
            two[key], expected, rtol=0, atol=max(1e-6, 1e-3 * float(expected.abs().max())), msg=key
        )


def test_fusion_learns_from_single_frames_in_two_processes(stages, faces, tmp_path):
    pipeline = stages / "keep/pipeline"
    parts = [word for name in ("vq", "kalman", "flow") for word in (f"--{name}", pipeline / name)]
    steps = ("--data", faces, "--output", tmp_path, "--clip-length", 1, "--steps", 3, *COMMON)
    done = launch(2, "-m", "training.train_keep", *parts, *steps)
    assert done.returncode == 0, done.stderr
    assert changed(pipeline / "vq", tmp_path / "pipeline/vq") == {"feature_fusion"}


@pytest.fixture(scope="module")
def moving_face() -> dict[str, torch.Tensor]:
    """A clip of three frames, sharp and degraded."""
    face = cv2.resize(skimage.data.astronaut()[20:212, 130:322], (2 * SIZE, 2 * SIZE), interpolation=cv2.INTER_AREA)
    shrunk = [cv2.resize(np.roll(face, 2 * i, axis=1), (SIZE, SIZE), interpolation=cv2.INTER_AREA) for i in range(3)]
    sharp = torch.from_numpy(np.stack(shrunk)).permute(0, 3, 1, 2)[None] / 127.5 - 1
    blurred = torch.nn.functional.avg_pool2d(sharp[0], 5, stride=1, padding=2, count_include_pad=False)[None]
    noise = torch.randn(sharp.shape, generator=torch.Generator().manual_seed(0))
    return {"sharp": sharp, "degraded": blurred + 0.05 * noise}


# Stage 3 has a frozen decoder, which limits how far its loss can fall.
@pytest.mark.parametrize("stage", ["vq", "codes"])
def test_a_stage_overfits_one_clip(stage, moving_face):
    module = make_stages()[stage].train()
    if stage == "vq":
        module.adversary = None
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, 3e-3, betas=(0.9, 0.99), weight_decay=0.0)
    first = None
    for _ in range(400):
        loss = module(moving_face).loss
        first = first or loss.item()
        if loss.item() < first / 5:
            return
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    pytest.fail(f"the loss is {loss.item():.3f} after 400 steps; it was {first:.3f}")


def test_an_error_may_move_with_the_face_but_not_flicker():
    torch.manual_seed(0)
    error = torch.zeros(1, 3, 3, 32, 32)
    spot = torch.randn(3, 8, 8)
    for frame in range(3):
        error[:, frame, :, 8:16, 8 + 4 * frame : 16 + 4 * frame] = spot
    flows = torch.zeros(1, 2, 2, 64, 64)  # found at twice the size
    flows[:, :, 0] = -8
    assert change_along(flows, error) < 2e-3
    assert change_along(torch.zeros_like(flows), error) > 0.05
    error[:, 1] *= 1.5
    assert change_along(flows, error) > 0.01


def test_arguments_are_read_from_a_file_and_later_ones_override_them(faces, tmp_path):
    recipe = tmp_path / "recipe.txt"
    recipe.write_text("# a comment\n--network=tiny\n--steps=1  # one\n--batch-size 9\n")
    train("train_vq", f"@{recipe}", "--data", faces, "--output", tmp_path / "out", *COMMON)
    assert log_of(tmp_path / "out")[-1]["step"] == 1


@golden.needs_golden
def test_a_published_checkpoint_is_fine_tuned(faces, tmp_path):
    torch.save(golden.tiny_state_dict(), tmp_path / "official.pth")
    official = KeepPipeline.from_single_file(tmp_path / "official.pth", transformer_num_heads=4)
    official.save_pretrained(tmp_path / "official")
    parts = [word for name in ("vq", "kalman", "flow") for word in (f"--{name}", tmp_path / "official" / name)]
    train(
        "train_keep",
        *parts,
        *("--data", faces, "--output", tmp_path / "tuned", "--steps", 2, "--clip-length", 2),
        *COMMON,
    )
    assert changed(tmp_path / "official/vq", tmp_path / "tuned/pipeline/vq") == {"feature_fusion", "cross_frame"}
    frames = skimage.data.astronaut()[None, 30:200, 130:300].repeat(2, axis=0)
    pipe = KeepPipeline.from_pretrained(tmp_path / "tuned/pipeline")
    assert pipe(frames, aligned=True, output_type="np").frames.shape == (1, 2, 128, 128, 3)


def write_face_clip(path: Path, num_frames: int) -> None:
    face = skimage.data.astronaut()[20:212, 130:322]
    with VideoWriter(path, width=192, height=192, frame_rate=Fraction(25), crf=8) as out:
        for i in range(num_frames):
            out.write(np.roll(face, i, axis=1))


# The address of the Hub is read when its library is imported, so this runs in a process of its own.
TRAIN_FROM_THE_HUB = """
import sys
from training.train_vq import main

output, *common = sys.argv[1:]
main(["--data", "studio/faces", "--output", output, *common])
main(["--data", "studio/none", "--output", f"{output}/none", *common])
"""


def test_a_dataset_of_the_hub_is_trained_on(tmp_path):
    shard = tmp_path / "repository" / "shard-00000.tar"
    shard.parent.mkdir()
    with tarfile.open(shard, "w") as tar:
        for key in ("a", "b"):
            write_face_clip(tmp_path / f"{key}.mp4", 9)
            tar.add(tmp_path / f"{key}.mp4", f"{key}.mp4")
    with serve(shard.parent, "studio/faces", "datasets") as (address, downloaded):
        command = [sys.executable, "-c", TRAIN_FROM_THE_HUB, tmp_path / "out", "--steps", 2, *COMMON]
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            env=os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")},
        )
    assert downloaded == ["shard-00000.tar"], done.stderr
    assert log_of(tmp_path / "out")[-1]["step"] == 2
    assert done.returncode == 1
    assert "no such dataset" in done.stderr.splitlines()[-1]


def test_a_trained_pipeline_is_published_with_a_card(stages, tmp_path, capsys):
    (tmp_path / "hub").mkdir()
    values = dict.fromkeys(REFERENCE_METRICS, 1.5) | {"lpips": None}
    report = {
        "settings": {"frames": 48, "size": 256},
        "clips": ["a", "b"],
        "levels": {
            "mild": {"bicubic": {"mean": values}, "keep": {"mean": values | {"psnr": 31.25}}},
            "heavy": {"keep": {"mean": values | {"psnr": 25.0}}},
        },
        "missing": {"lpips": "a network"},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    arguments = [stages / "keep/pipeline", tmp_path / "shipped", "--licence", "mit", "--data", "Four images."]
    arguments += ["--dataset", "me/images", "--dataset", "me/clips"]
    with serve(tmp_path / "hub", "me/keep-mine") as (address, _):
        done = run_module(
            "training.publish",
            *arguments,
            *("--report", tmp_path / "report.json", "--push-to-hub", "me/keep-mine"),
            HF_ENDPOINT=address,
            HF_TOKEN="hf_of_a_test",
        )
    assert done.returncode == 0, done.stderr
    card = ModelCard.load(tmp_path / "hub/README.md")
    assert card.data.license == "mit"
    assert card.data.datasets == ["me/images", "me/clips"]
    results = {(result.dataset_config, result.metric_type): result.metric_value for result in card.data.eval_results}
    ones = dict.fromkeys(
        [(level, key) for level in ("mild", "heavy") for key in ("ssim", "ids", "akd", "flicker")], 1.5
    )
    assert results == ones | {("mild", "psnr"): 31.25, ("heavy", "psnr"): 25.0}
    assert "Four images." in card.text
    assert "| keep | 31.25 |" in card.text
    assert "Not measured" in card.text
    assert "$" not in card.text
    assert "identification" in card.text.lower()
    uploaded = {path.relative_to(tmp_path / "hub"): path.read_bytes() for path in (tmp_path / "hub").rglob("*.*")}
    shipped = {
        path.relative_to(tmp_path / "shipped"): path.read_bytes() for path in (tmp_path / "shipped").rglob("*.*")
    }
    assert uploaded == shipped
    for folder in (tmp_path, stages):
        assert not any(str(folder).encode() in content for content in shipped.values())
    assert KeepPipeline.from_pretrained(tmp_path / "hub").vq.config.sample_size == 256
    with pytest.raises(SystemExit):
        train("publish", *arguments)
    assert "is not empty" in capsys.readouterr().err
