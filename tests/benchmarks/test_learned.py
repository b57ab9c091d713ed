"""What each stage has learned: the values of a clip, and a layer that learned nothing."""

import json

import pytest
import torch

from benchmarks import learned
from conftest import SIZE, make_clip, make_components
from keep_hf import KeepPipeline
from keep_hf.video.image_folder import ImageFolderWriter


def test_values_of_a_clip():
    pipe = KeepPipeline(**make_components(), gain_window=2)
    truth = make_clip(5, SIZE, SIZE)
    study = learned.study_clip(pipe, truth, truth[:, ::2, ::2])
    assert study.codes.shape == (5 * pipe.vq.grid_size**2,)
    assert study.gains.shape == (4 * pipe.vq.grid_size**2,)  # the first frame is not predicted
    assert 0 <= study.correct <= 1
    # The fusion with random weights changes the images, and the ceiling does not depend on the degraded clip.
    assert study.psnr["codes alone"] != study.psnr["with fusion"]
    other = learned.study_clip(pipe, truth, truth[::-1, ::4, ::4])
    assert other.psnr["ceiling"] == study.psnr["ceiling"]
    assert other.psnr["codes alone"] != study.psnr["codes alone"]


def test_a_fusion_layer_that_learned_nothing_has_weights_of_zero():
    vq = make_components()["vq"]
    assert min(learned.study_fusion(vq).values()) > 0
    torch.nn.init.zeros_(vq.cross_frame["16"].norm1.weight)
    values = learned.study_fusion(vq)
    assert [name for name, value in values.items() if value == 0] == ["cross-frame 16, norm1"]


def test_the_report(tmp_path):
    KeepPipeline(**make_components(), gain_window=2).save_pretrained(tmp_path / "model")
    (tmp_path / "clips").mkdir()
    with ImageFolderWriter(tmp_path / "clips" / "a", width=128, height=128) as writer:
        for image in make_clip(3, 128, 128):
            writer.write(image)
    options = ("--videos", tmp_path / "clips", "--aligned", "--model", tmp_path / "model")
    learned.main([str(word) for word in (*options, "--report", tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["below the ceiling"] == pytest.approx(report["ceiling"] - report["codes alone"])
    assert 1 <= report["distinct codes"] <= 32
    assert 0 < report["gains"]["mean"] < 1
    assert 0 <= report["correct"] <= 1
    assert report["last layers"]
