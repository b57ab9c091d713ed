"""Training of the direct path: packs, the timed run and the pipeline made of it."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import make_clip
from keep_hf import KeepPipeline
from media import write_clip
from portraits import write_labelled_portraits
from training.add_direct_path import add_direct_path
from training.data.packed_faces import MovingFaces, read_packs
from training.pack_faces import read_source, write_packs
from training.train_direct import build_parser, train


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


def test_videos_are_packed_with_the_alignment_of_every_frame(tmp_path, monkeypatch):
    from conftest import KnownFaces, make_faces

    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "a.mp4", images=list(make_clip(4, 96, 96)))
    monkeypatch.setattr("training.pack_faces.load_detector", lambda name: KnownFaces([make_faces((16, 16, 64))]))
    assert write_packs(read_source(tmp_path / "clips", "known"), tmp_path, 1e9) == 1
    portraits, (video,) = read_packs(tmp_path)
    assert not portraits
    assert len(video.frames) == len(video.matrices) == 4
    np.testing.assert_allclose(video.matrices[0], [[8, 0, -128], [0, 8, -128]], atol=0.1)


# The run


@pytest.fixture(scope="module")
def run(packs, tmp_path_factory):
    """One step of every stage with a small network."""
    folder = tmp_path_factory.mktemp("run")
    sizes = "--channels 16 16 16 16 --units 1 1 1 2 --batch-frames 2 --clip-length 2 --workers 0 --minutes 1e-6"
    train(build_parser().parse_args([str(packs), str(folder), *sizes.split()]))
    return folder


def test_every_stage_is_trained_and_saved(run):
    log = (run / "log.jsonl").read_text()
    assert log.count('"validation"') == 3
    weights = [load_file(run / f"{stage}.safetensors") for stage in ("frames", "clips", "adversary")]
    for before, after in itertools.pairwise(weights):
        assert any((before[name] != after[name]).any() for name in before)
    assert (run / "adversary.jpg").stat().st_size > 0


@torch.no_grad()
def test_a_pipeline_gets_the_direct_path_and_keeps_its_codes(run):
    vq = KeepPipeline.from_pretrained("keep-tiny").vq
    direct = add_direct_path(vq, load_file(run / "adversary.safetensors"))
    assert direct.config.sample_size == 512
    assert direct.config.direct_units == [1, 1, 1, 2]
    small = torch.rand(1, 3, 256, 256) * 2 - 1
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    latents, expected = direct.encode_lq(large)[0], vq.encode_lq(small)[0]
    torch.testing.assert_close(latents, expected, atol=1e-3, rtol=1e-3)
    codes = vq.predict_codes(expected).argmax(-1)
    face = direct.decode(direct.lookup(codes, latents))[0]
    smaller = torch.nn.functional.avg_pool2d(face, 2)
    assert (smaller - vq.decode(vq.lookup(codes, expected))[0]).abs().mean() < 0.05
