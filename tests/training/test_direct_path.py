"""Training of the direct path: packs, the run and the pipeline made of it."""

import functools
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file

from conftest import make_clip
from keep_hf import KeepPipeline, VideoReader
from keep_hf.models.direct import DirectPath
from media import write_clip
from portraits import write_labelled_portraits
from training.add_direct_path import add_direct_path
from training.data.packed_faces import MovingFaces, read_packs
from training.losses.adversary import adaptive_weight
from training.pack_faces import read_source, write_packs
from training.train_direct import PHASES, main, with_gradient_of


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    portraits = write_labelled_portraits(folder / "portraits", scales=(1, 1.5, 2))
    assert write_packs(read_source(portraits, "unused"), folder, max_size=200_000) > 1
    return folder


# Packs


def test_packed_portraits_become_moving_clips(packs):
    portraits, videos = read_packs(packs)
    assert (len(portraits), len(videos)) == (3, 0)
    clips = MovingFaces(portraits, videos, 2, 0.5)
    item, again = clips[3], clips[3]
    assert item["sharp"].shape == item["degraded"].shape == (2, 3, 512, 512)
    assert item["flow"].shape == item["true_flow"].shape == (1, 2, 256, 256)
    for name, value in item.items():
        assert torch.equal(value, again[name])
    assert (item["sharp"][0] != item["sharp"][1]).any()


def test_a_folder_without_sources_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="no metadata"):
        next(read_source(tmp_path, "unused"))
    with pytest.raises(ValueError, match="holds no packs"):
        read_packs(tmp_path)


@pytest.mark.parametrize(("name", "rotation"), [("a.mp4", None), ("a.mkv", None), ("a.mp4", 90)])
def test_videos_are_packed_with_the_alignment_of_every_frame(tmp_path, monkeypatch, name, rotation):
    from conftest import KnownFaces, make_faces

    (tmp_path / "clips").mkdir()
    source = write_clip(tmp_path / "clips" / name, images=list(make_clip(4, 96, 112)), rotation=rotation)
    monkeypatch.setattr("training.pack_faces.load_detector", lambda name: KnownFaces([make_faces((16, 16, 64))]))
    assert write_packs(read_source(tmp_path / "clips", "known"), tmp_path, 1e9) == 1
    portraits, (video,) = read_packs(tmp_path)
    assert not portraits
    assert len(video.matrices) == 4
    np.testing.assert_allclose(video.matrices[0], [[8, 0, -128], [0, 8, -128]], atol=0.1)
    with VideoReader(source) as reader:
        np.testing.assert_array_equal(video.frames, [frame.image for frame in reader])
    with pytest.raises(ValueError, match="has packs already"):
        write_packs(iter(()), tmp_path, 1e9)


# The run

TINY = (
    *("--channels", 16, 16, 16, 16, "--units", 1, 1, 1, 2, "--batch-frames", 2, "--clip-length", 2),
    *("--warmup", 1, "--log-every", 1),
)


def train(packs: Path, output: Path, *options: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.train_direct.VALIDATION_SIZE", 1)
        AcceleratorState._reset_state()  # the other tests of this process have another precision
        try:
            main([str(word) for word in (packs, output, *TINY, *options)])
        finally:
            AcceleratorState._reset_state()


@pytest.fixture(scope="module")
def run(packs, tmp_path_factory):
    """Two steps of every phase with a small network."""
    folder = tmp_path_factory.mktemp("run")
    train(packs, folder, "--steps", 6, "--shares", 1, 1, 1, "--workers", 0)
    return folder


def test_every_phase_is_trained_validated_and_saved(run):
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "validation psnr" in line] == [2, 4, 6]
    steps = [line for line in log if "loss" in line]
    assert ["steadiness" in line for line in steps] == [False] * 2 + [True] * 4
    assert ["adversarial" in line for line in steps] == [False] * 4 + [True] * 2
    assert steps[-1]["discriminator gradient norm"] > 0
    weights = [load_file(run / f"{phase}.safetensors") for phase in PHASES]
    for before, after in itertools.pairwise(weights):
        assert any((before[name] != after[name]).any() for name in before)
    final = load_file(run / "direct.safetensors")
    assert all(torch.equal(final[name], weights[-1][name]) for name in final)
    assert (run / "validation" / "6.jpg").stat().st_size > 0
    assert not list(run.glob("*.unfinished"))


@pytest.mark.parametrize(("last_step", "workers"), [(3, 2), (5, 0)])
def test_a_killed_and_resumed_run_has_the_bits_of_an_uninterrupted_one(
    run, packs, tmp_path, monkeypatch, last_step, workers
):
    # The checkpoint of step 3 is within a phase, that of step 5 has a trained discriminator.
    options = ("--steps", 6, "--shares", 1, 1, 1, "--save-every", 1, "--workers", workers)
    with monkeypatch.context() as patch:

        def stop(weights: dict[str, torch.Tensor], path: Path) -> None:
            if (tmp_path / f"checkpoints/step_{last_step}").exists():
                raise KeyboardInterrupt
            save_file(weights, path)

        patch.setattr("training.train_direct.save_file", stop)
        with pytest.raises(KeyboardInterrupt):
            train(packs, tmp_path, *options)
    torch.manual_seed(last_step)  # the state of this process must not matter
    train(packs, tmp_path, *options, "--resume")
    files = [path.relative_to(run) for path in run.rglob("*.safetensors") if "step_6" in str(path)]
    assert len(files) == 2  # the path and its discriminator
    for file in (*files, "direct.safetensors", "adversary.safetensors"):
        whole, resumed = (load_file(folder / file) for folder in (run, tmp_path))
        assert all(torch.equal(whole[name], resumed[name]) for name in whole), file
    for file in ("optimizer.bin", "optimizer_1.bin", "custom_checkpoint_0.pkl"):
        whole, resumed = (
            torch.load(folder / "checkpoints/step_6" / file, weights_only=False) for folder in (run, tmp_path)
        )
        # The groups have names of methods, too.
        assert whole.pop("param_groups", None) == resumed.pop("param_groups", None)
        torch.testing.assert_close(whole, resumed, rtol=0, atol=0)


def test_the_gradient_with_an_adversary_is_that_of_the_weighted_sum():
    torch.manual_seed(0)
    last = torch.nn.Conv2d(3, 3, 3)
    inputs = torch.randn(2, 3, 8, 8)

    def losses() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        image = last(inputs)
        return image, image.abs().mean(), image.sin().square().mean()

    image, image_loss, generator_loss = losses()
    weight = 0.3 * adaptive_weight(image_loss, generator_loss, last.weight)
    expected = torch.autograd.grad(image_loss + weight * generator_loss, last.weight)[0]
    image, image_loss, generator_loss = losses()
    loss = with_gradient_of(image_loss, generator_loss, 0.3, image, last.weight)
    assert loss.item() == pytest.approx(image_loss.item(), rel=1e-5)
    torch.testing.assert_close(torch.autograd.grad(loss, last.weight)[0], expected)


def test_a_phase_without_a_share_is_left_out_and_single_frames_train_no_filter(packs, tmp_path):
    train(packs, tmp_path, "--steps", 2, "--shares", 0, 1, 1, "--clip-length", 1, "--workers", 0)
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["adversary", "clips", "direct"]
    torch.manual_seed(0)
    new = DirectPath(512, channels=(16,) * 4, units_per_level=(1, 1, 1, 2)).state_dict()
    trained = load_file(tmp_path / "direct.safetensors")
    changed = {name.split(".")[0] for name in new if not torch.equal(new[name], trained[name])}
    assert "conv_out" in changed
    assert not {"evidence", "evidence_in", "evidence_out"} & changed


def test_a_run_starts_with_the_mean_of_others_and_new_units(run, packs, tmp_path):
    options = ("--steps", 1, "--shares", 1, 0, 0, "--workers", 0, "--learning-rate", 1e-9, "--new-units", 1)
    train(packs, tmp_path, *options, "--initial", run / "frames.safetensors", run / "adversary.safetensors")
    starts = [load_file(run / f"{phase}.safetensors") for phase in ("frames", "adversary")]
    weights = load_file(tmp_path / "direct.safetensors")
    assert {name.rsplit(".", 2)[0] for name in weights.keys() - starts[0].keys()} == {"middle.0.1"}
    for name, weight in starts[0].items():
        torch.testing.assert_close(weights[name], (weight + starts[1][name]) / 2)


def test_new_units_need_a_network_to_add_them_to(packs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(packs, tmp_path, "--steps", 1, "--new-units", 1)
    assert "--new-units adds to the network of --initial: without it, use --units" in capsys.readouterr().err


def test_compiled_networks_have_the_same_losses(run, packs, tmp_path, monkeypatch):
    # The graphs are traced, also those of the gradients; code is not generated for them, which takes minutes.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    train(packs, tmp_path, "--steps", 6, "--shares", 1, 1, 1, "--workers", 0, "--compile")
    plain, compiled = (
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()] for folder in (run, tmp_path)
    )
    for a, b in zip(plain, compiled, strict=True):
        compared = {"loss", "l1", "validation psnr"} & set(a)
        assert compared
        assert {name: b[name] for name in compared} == pytest.approx({name: a[name] for name in compared}, rel=0.02)


@torch.no_grad()
def test_a_pipeline_gets_the_direct_path_and_keeps_its_codes(run):
    vq = KeepPipeline.from_pretrained("keep-tiny").vq
    direct = add_direct_path(vq, load_file(run / "direct.safetensors"))
    assert direct.config.sample_size == 512
    assert tuple(direct.config.direct_units) == (1, 1, 1, 2)
    small = torch.rand(1, 3, 256, 256) * 2 - 1
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    latents, expected = direct.encode_lq(large)[0], vq.encode_lq(small)[0]
    torch.testing.assert_close(latents, expected, atol=1e-3, rtol=1e-3)
    codes = vq.predict_codes(expected).argmax(-1)
    face = direct.decode(direct.lookup(codes, latents))[0]
    smaller = torch.nn.functional.avg_pool2d(face, 2)
    assert (smaller - vq.decode(vq.lookup(codes, expected))[0]).abs().mean() < 0.05
