"""Training of the refinement network of the detector: its examples, its start, and a run of a few steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from keep_hf import FaceDetector
from paths import REPOSITORY
from portraits import write_labelled_portraits
from training.data.landmark_examples import (
    EYE_DISTANCE,
    LandmarkExamples,
    disturb,
    make_aligned_error,
    make_aligned_face,
)
from training.data.teacher_labels import Portrait, label_portraits
from training.preparation.detectors import load_detector
from training.train_refinement import add_refinement, main
from training_runs import train_and_resume


pytestmark = pytest.mark.slow


# The packaged detector is the teacher, because YuNet cannot be part of the repository.
TEACHER = str(REPOSITORY / "src/keep_hf/checkpoints/keep-tiny/detector")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_labelled_portraits(tmp_path_factory.mktemp("portraits"), scales=(1, 1))


@pytest.fixture(scope="module")
def portraits(folder) -> list[Portrait]:
    return label_portraits([str(folder)], load_detector(TEACHER), frames_per_video=2)


@torch.no_grad()
def read(close_up: np.ndarray) -> np.ndarray:
    """The output of the packaged refinement network."""
    images = torch.from_numpy(close_up).permute(2, 0, 1)[None] / 127.5 - 1
    return load_detector(TEACHER).refinement_network(images)[0].numpy()


def test_the_packaged_network_finds_the_landmarks_of_the_examples(portraits, monkeypatch):
    monkeypatch.setattr("training.data.landmark_examples.degrade", lambda rng, image, smallest: image)
    monkeypatch.setattr("training.data.landmark_examples.change_light", lambda rng, image: image)
    monkeypatch.setattr("training.data.landmark_examples.hide_part", lambda *arguments: None)
    rng, errors, distances = np.random.default_rng(0), [], []
    for _ in range(20):
        image, landmarks = make_aligned_face(rng, portraits, size=96)
        assert image.shape == (96, 96, 3)
        distances.append(np.linalg.norm(landmarks[1] - landmarks[0]))
        errors.append(np.linalg.norm(read(image)[:10].reshape(5, 2) - landmarks, axis=1).mean())
    assert np.mean(distances) == pytest.approx(EYE_DISTANCE, rel=0.15)
    assert np.mean(errors) < 0.1 * EYE_DISTANCE


def test_the_packaged_network_rejects_examples_without_a_face(portraits):
    rng = np.random.default_rng(0)
    logits = [read(make_aligned_error(rng, portraits, [], size=96))[10] for _ in range(40)]
    assert np.mean(np.array(logits) < 0) > 0.85


def test_the_errors_of_the_first_landmarks_have_a_mean_of_zero_and_grow_with_the_face():
    rng = np.random.default_rng(0)
    for scale in (10.0, 100.0):
        landmarks = scale * np.array([(-0.5, 0), (0.5, 0), (0, 0.5), (-0.4, 1), (0.4, 1)])
        errors = np.array([disturb(rng, landmarks) - landmarks for _ in range(2000)]) / scale
        assert np.abs(errors.mean(axis=0)).max() < 0.02
        assert 0.08 < np.linalg.norm(errors, axis=-1).mean() < 0.2


def test_examples_depend_on_seed_epoch_and_index_only(portraits):
    examples, again = (LandmarkExamples(portraits, [], 96, seed=0) for _ in range(2))
    shapes = {name: tuple(value.shape) for name, value in examples[7].items()}
    assert shapes == {"close_up": (3, 96, 96), "landmarks": (5, 2), "is_face": ()}
    first = examples[7]
    examples[8]
    assert all(torch.equal(first[name], again[7][name]) for name in first)
    again.epoch = 1
    assert not torch.equal(first["close_up"], again[7]["close_up"])
    kinds = {float(examples[i]["is_face"]) for i in range(20)}
    assert kinds == {0.0, 1.0}


def test_a_new_refinement_network_is_a_copy_of_the_close_up_network():
    torch.manual_seed(0)
    detector = FaceDetector(block_out_channels=(4, 4, 8, 8, 8), neck_channels=8, close_up_channels=(4, 4, 8, 8))
    extended = add_refinement(detector)
    assert extended.config["refinement"]
    assert (extended.config["search_threshold"], extended.config["threshold"]) == (0.4, 0.88)
    weights = extended.state_dict()
    for name, value in detector.state_dict().items():
        assert torch.equal(weights[name], value)
        if "close_up" in name:
            assert torch.equal(weights[name.replace("close_up", "refinement")], value)
    assert add_refinement(extended) is extended


def test_only_the_refinement_is_trained_and_a_resumed_run_has_the_same_bits(folder, tmp_path):
    arguments = ["--data", folder, "--validation", folder, "--teacher", TEACHER, "--detector", "keep-tiny"]
    arguments += ["--subfolder", "detector", "--batch-size", 4, "--frames-per-video", 1]
    run = train_and_resume(main, tmp_path, *arguments)
    before = load_file(Path(TEACHER) / "diffusion_pytorch_model.safetensors")
    after = load_file(run / "detector/diffusion_pytorch_model.safetensors")
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"refinement_network"}
    assert load_detector(str(run / "detector")).refinement_network is not None
