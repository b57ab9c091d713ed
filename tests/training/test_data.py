"""The training data: clips of portraits and videos, errors of bad sources; and the loss on features of faces."""

import json
import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from keep_hf.degrade import TRAINING
from keep_hf.video.writer import VideoWriter
from portraits import write_labelled_portraits
from training.data.face_clips import FaceClips, open_validation
from training.losses.face_features import MODEL, STAGES, FaceFeatures


SIZE = 128


@pytest.fixture
def portraits(tmp_path) -> Path:
    """Two portraits of the astronaut, one of them mirrored."""
    return write_labelled_portraits(tmp_path / "portraits", scales=(1, 1))


def write_video(path: Path, num_frames: int, width: int = SIZE) -> None:
    """Frame i is the grey level 8 i."""
    with VideoWriter(path, width=width, height=SIZE, frame_rate=Fraction(25), crf=1) as out:
        for i in range(num_frames):
            out.write(np.full((SIZE, width, 3), 8 * i, np.uint8))


def test_items_depend_on_seed_epoch_and_index_only(portraits):
    clips = FaceClips([str(portraits)], SIZE, 3, degradation=TRAINING)
    first = clips[0]
    assert first["sharp"].shape == first["degraded"].shape == (3, 3, SIZE, SIZE)
    clips[1]
    again = FaceClips([str(portraits)], SIZE, 3, degradation=TRAINING)[0]
    assert all(torch.equal(first[name], again[name]) for name in first)
    clips.epoch = 1
    assert not torch.equal(clips[0]["sharp"], first["sharp"])
    assert not torch.equal(clips[1]["sharp"], first["sharp"])


def test_a_portrait_moves_and_is_degraded(portraits):
    clip = FaceClips([str(portraits)], SIZE, 4, degradation=TRAINING)[0]
    changes = (clip["sharp"][1:] - clip["sharp"][:-1]).abs().mean(dim=(1, 2, 3))
    assert (changes > 0.001).all()
    assert (changes < 0.2).all()
    loss = (clip["degraded"] - clip["sharp"]).abs().mean()
    assert 0.01 < loss < 0.3


def test_validation_clips_are_not_augmented(portraits):
    plain = open_validation([str(portraits)], SIZE, clip_length=1, degradation=None)[0]["sharp"]
    augmented = FaceClips([str(portraits)], SIZE, 1, degradation=None, seed=1)
    means = []
    for augmented.epoch in range(8):
        means.append(augmented[0]["sharp"].mean(dim=(0, 2, 3)))
    assert torch.stack(means).std(dim=0).min() > 0.02
    assert open_validation([], SIZE, clip_length=1, degradation=None) is None
    assert plain.shape == (1, 3, SIZE, SIZE)


def test_videos_in_memory_and_on_disk_give_the_same_clips(tmp_path):
    write_video(tmp_path / "a.mp4", 24)
    kept, read = (
        FaceClips([str(tmp_path)], SIZE, 3, degradation=None, augmented=False, memory=memory) for memory in (1, 0)
    )
    assert kept.videos[0].frames is not None
    assert read.videos[0].frames is None
    intervals = set()
    for kept.epoch in range(6):
        read.epoch = kept.epoch
        for i in range(len(kept)):
            assert torch.equal(kept[i]["sharp"], read[i]["sharp"])
            levels = (kept[i]["sharp"].mean(dim=(1, 2, 3)) + 1) * 127.5 / 8
            steps = levels.diff().round().int().tolist()
            assert steps[0] == steps[1]
            intervals.add(steps[0])
    # Forwards and backwards, every frame to every sixth.
    assert intervals == {*range(1, 7), *range(-6, 0)}


def test_clips_can_be_sent_to_the_processes_that_load_data(portraits, tmp_path):
    write_video(tmp_path / "a.mp4", 5)
    clips = FaceClips([str(tmp_path)], SIZE, 3, degradation=None, memory=0)
    sent = pickle.loads(pickle.dumps(clips))
    assert len(sent) == len(clips) == 2 + 12
    assert all(torch.equal(sent[i]["sharp"], clips[i]["sharp"]) for i in (0, 13))


def test_a_clip_as_long_as_the_video_is_the_video(tmp_path):
    write_video(tmp_path / "a.mp4", 5)
    clip = FaceClips([str(tmp_path)], SIZE, 5, degradation=None, augmented=False)[0]["sharp"]
    assert clip.shape[0] == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 1, has no file_name and landmarks"),
        ('{"file_name": "0.png"}', "line 1, has no file_name and landmarks"),
        ('{"file_name": "0.png", "landmarks": [[1, 2]]}', "landmarks must be five points"),
        ('{"file_name": "none.png", "landmarks": [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2]]}', "there is no file"),
    ],
)
def test_damaged_lines_are_reported(portraits, line, message):
    (portraits / "metadata.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        FaceClips([str(portraits)], SIZE, 1, degradation=None)


def test_unusable_sources_are_reported(tmp_path):
    with pytest.raises(ValueError, match="Nothing to train on"):
        FaceClips([str(tmp_path)], SIZE, 1, degradation=None)
    write_video(tmp_path / "a.mp4", 3)
    with pytest.raises(ValueError, match="has 3 frames; clips of 4 need a longer one"):
        FaceClips([str(tmp_path)], SIZE, 4, degradation=None)
    write_video(tmp_path / "b.mp4", 3, width=192)
    with pytest.raises(ValueError, match="192x128; aligned faces are square"):
        FaceClips([str(tmp_path)], SIZE, 1, degradation=None)


# Features of faces


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    """Files of the network with random weights: the first kernel as floats, the others quantized."""
    folder = tmp_path_factory.mktemp("features")
    random = np.random.default_rng(0)
    entries, content = [], b""

    def add(name: str, *shape: int, scale: float = 0.01, lowest: float = -1.28) -> None:
        nonlocal content
        entry = {"name": name, "shape": shape, "dtype": "float32"}
        if content:
            entry["quantization"] = {"dtype": "uint8", "scale": scale, "min": lowest}
            content += random.integers(0, 256, shape, dtype=np.uint8).tobytes()
        else:
            content += random.normal(0, 0.1, shape).astype(np.float32).tobytes()
        entries.append(entry)

    def add_layer(name: str, inputs: int, outputs: int, kernel: int) -> None:
        add(f"{name}/conv/filters", kernel, kernel, inputs, outputs, scale=1e-3, lowest=-0.128)
        add(f"{name}/conv/bias", outputs)
        add(f"{name}/scale/weights", outputs, scale=0, lowest=0.5)
        add(f"{name}/scale/biases", outputs)

    add_layer("conv32_down", 3, 32, 7)
    inputs = 32
    for name in (name for stage in STAGES for name in stage):
        outputs = int(name.split("_")[0].removeprefix("conv"))
        add_layer(f"{name}/conv1", inputs, outputs, 3)
        add_layer(f"{name}/conv2", outputs, outputs, 3)
        inputs = outputs
    add("fc", 256, 128)
    (folder / f"{MODEL}.bin").write_bytes(content)
    (folder / f"{MODEL}-weights_manifest.json").write_text(json.dumps([{"weights": entries}]))
    return folder


def test_the_distance_of_faces_grows_with_their_difference(features):
    network = FaceFeatures(features)
    torch.manual_seed(0)
    sharp = torch.rand(2, 3, 96, 96) * 2 - 1
    noise = torch.randn_like(sharp)
    distances = [network(sharp + strength * noise, sharp).item() for strength in (0, 0.1, 0.4)]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert 0 < distances[1] < distances[2] < 6
    restored = (sharp + 0.1 * noise).requires_grad_()
    network(restored, sharp).backward()
    assert restored.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_files_of_another_network_are_reported(features, tmp_path):
    with pytest.raises(ValueError, match="There is no"):
        FaceFeatures(tmp_path)
    manifest, data = f"{MODEL}-weights_manifest.json", f"{MODEL}.bin"
    (tmp_path / manifest).write_text((features / manifest).read_text())
    (tmp_path / data).write_bytes((features / data).read_bytes()[:-1])
    with pytest.raises(ValueError, match="is damaged: it ends after"):
        FaceFeatures(tmp_path)
    (tmp_path / data).write_bytes((features / data).read_bytes())
    (tmp_path / manifest).write_text((features / manifest).read_text().replace("conv128_1", "other"))
    with pytest.raises(ValueError, match="conv128_1"):
        FaceFeatures(tmp_path)
