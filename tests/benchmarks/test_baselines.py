"""The programs that ask what training and network are worth: what was learned, a plain U-Net, the mended faults."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from benchmarks import mending, methods, plain_unet
from benchmarks.clips import DegradedClip
from conftest import make_clip, make_components
from keep_hf import KeepPipeline, YuNet
from media import write_clip
from paths import SHARED
from processes import run_module


YUNET = SHARED / "weights" / "yunet_n_dynamic.onnx"
LANDMARKS = [[124.6, 101.8], [168.5, 104.4], [144.3, 125.9], [123.7, 142.4], [162.5, 144.4]]


@pytest.fixture(scope="module")
def portraits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("portraits")
    cv2.imwrite(str(folder / "a.png"), cv2.cvtColor(skimage.data.astronaut()[:300, 80:380], cv2.COLOR_RGB2BGR))
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "landmarks": LANDMARKS}))
    return folder


def run(name: str, *arguments) -> str:
    done = run_module(f"benchmarks.{name}", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# The U-Net


def test_an_untrained_unet_changes_nothing_and_a_trained_one_is_a_row(portraits, tmp_path):
    images = torch.rand(1, 3, 256, 256) * 2 - 1
    assert torch.equal(plain_unet.PlainUNet()(images), images)
    common = ("--batch-size", 1, "--workers", 0, "--log-every", 1, "--warmup", 0, "--steps", 2)
    run("plain_unet", "--data", portraits, "--output", tmp_path, *common)
    pipe = KeepPipeline(**make_components())
    (method,) = methods.load_methods([f"unet:{tmp_path / 'unet'}"], pipe)
    clip = DegradedClip("a", "mild", make_clip(2, 128, 128), 25.0)
    restored = method.restore(clip)
    enlarged = np.stack([cv2.resize(frame, (256, 256), interpolation=cv2.INTER_LINEAR) for frame in clip.frames])
    assert method.name == "unet"
    assert restored.shape == (2, 256, 256, 3)
    assert 0 < np.abs(restored.astype(int) - enlarged).mean() < 20


# The mended faults


def test_mended_faults_are_compared(portraits, tmp_path):
    printed = run(
        "mending",
        *("--experiments", "start", "codec", "--data", *[portraits] * 8, "--validation", portraits),
        *("--films", tmp_path, "--detector", "none", "--output", tmp_path / "runs"),
        *("--steps", 2, "--workers", 0, "--warmup", 0),
    )
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    starts, codecs = rows[1:3], rows[4:]
    # Of the blocks that start at zero altogether, no weight ever moves.
    assert starts[0][-1].startswith("0 of")
    assert not starts[1][-1].startswith("0 of")
    assert [row[:2] for row in codecs] == [
        [f"| {trained}", measured]
        for trained in ("1 frame per second", "true rate")
        for measured in ("1 frame per second", "true rate")
    ]


@pytest.mark.skipif(not YUNET.exists(), reason="the YuNet file of ../shared is not here")
def test_faces_cut_by_the_landmarks_of_other_frames(tmp_path):
    scene = skimage.data.astronaut()[:320, 60:420]
    images = [np.roll(scene, 3 * i, axis=1) for i in range(28)]
    write_clip(tmp_path / "film.mp4", num_frames=28, width=360, height=320, images=images)
    cut = mending.cut_films(tmp_path, YuNet.from_pretrained(YUNET), 128, length=4)
    (wrong,), (right,) = (film for film in (cut["of other frames"][0], cut["their own"][0]))
    assert np.array_equal(wrong[:4], right[:4])  # the first window is cut by its own
    # Its own landmarks keep a face that moves in its place; those of other frames do not.  (In the middle of the film:
    # at its ends smoothed landmarks lag behind.)
    middle = (slice(48, 96), slice(40, 88))
    drift = [np.abs(faces[16][middle].astype(int) - faces[12][middle]).mean() for faces in (wrong, right)]
    assert drift[0] > 3 * drift[1]
