"""The comparison of corrections with the faults of the published training."""

import numpy as np
import pytest
import skimage.data

from benchmarks import corrections
from conftest import make_components
from keep_hf import KeepPipeline, KeepVQModel, YuNet
from media import write_clip
from paths import SHARED
from portraits import write_labelled_portraits


pytestmark = pytest.mark.slow


YUNET = SHARED / "weights" / "yunet_n_dynamic.onnx"


def test_starts_and_codecs_are_compared(tmp_path, capsys):
    components = make_components()
    # The degradation of the training needs at least 128 pixels.
    components["vq"] = KeepVQModel.from_config(components["vq"].config, sample_size=128, patch_size=4)
    KeepPipeline(**components, gain_window=2).save_pretrained(tmp_path / "model")
    portraits = write_labelled_portraits(tmp_path / "portraits", [1.0])
    options = ("--experiments", "start", "codec", "--model", tmp_path / "model", "--output", tmp_path / "runs")
    data = ("--data", *[portraits] * 8, "--validation", portraits, "--videos", tmp_path, "--detector", "none")
    corrections.main([str(word) for word in (*options, *data, "--steps", 2, "--workers", 0, "--warmup", 0)])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    starts, codecs = rows[1:3], rows[4:]
    # Of blocks that start with all layers at zero, no weight ever changes.
    assert starts[0][-1].startswith("0 of")
    assert not starts[1][-1].startswith("0 of")
    assert [row[:2] for row in codecs] == [
        [f"| {trained}", measured]
        for trained in ("1 frame per second", "true rate")
        for measured in ("1 frame per second", "true rate")
    ]


@pytest.mark.skipif(not YUNET.exists(), reason="the YuNet file of ../shared is missing")
def test_faces_aligned_by_landmarks_of_other_frames(tmp_path):
    scene = skimage.data.astronaut()[:320, 60:420]
    images = [np.roll(scene, 3 * i, axis=1) for i in range(28)]
    write_clip(tmp_path / "video.mp4", num_frames=28, width=360, height=320, images=images)
    aligned = corrections.align_faces(tmp_path, YuNet.from_pretrained(YUNET), 128, length=4)
    (faulty,), (correct,) = aligned["of other frames"][0], aligned["of the same frames"][0]
    assert np.array_equal(faulty[:4], correct[:4])  # the first window uses its own landmarks
    # With its own landmarks a moving face stays in its place; with those of other frames it does not.  (Measured in
    # the middle of the video, because smoothed landmarks lag behind at its ends.)
    centre = (slice(48, 96), slice(40, 88))
    drift = [np.abs(faces[16][centre].astype(int) - faces[12][centre]).mean() for faces in (faulty, correct)]
    assert drift[0] > 3 * drift[1]
