"""The report contains what was measured, and what was missing."""

import json

import numpy as np

from conftest import KnownFaces, make_clip, make_faces
from keep_hf.evaluation.evaluate import evaluate_video
from keep_hf.evaluation.networks import Networks
from keep_hf.evaluation.pairs import VideoPair
from keep_hf.evaluation.report import Report
from keep_hf.evaluation.series import NO_REFERENCE_METRICS, REFERENCE_METRICS
from keep_hf.models.flow.dis import DISFlow
from media import write_lossless


def test_the_json_contains_what_was_measured(tmp_path):
    truth = make_clip(6, 240, 120)
    restored = np.clip(truth.astype(int) + 9, 0, 255).astype(np.uint8)
    pair = VideoPair(write_lossless(tmp_path / "a.mkv", restored), write_lossless(tmp_path / "b.mkv", truth))
    networks = Networks(flow=DISFlow())
    found = evaluate_video(pair, networks, KnownFaces([make_faces((60, 20, 90))] * 6), name="deep/clip")
    report = Report([found], REFERENCE_METRICS, networks.missing(REFERENCE_METRICS), {"flow": "dis"})
    report.save(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content == report.to_dict()
    (video,) = content["videos"]
    assert video["name"] == "deep/clip"
    assert video["faces"]["num_faces"] == 6
    assert content["mean"]["faces"]["mean"]["psnr"] == video["people"][0]["metrics"]["psnr"]["mean"]
    assert video["people"][0]["segments"] == [{"first_frame": 0, "num_frames": 6}]


def test_missing_networks_are_named_with_their_option():
    missing = Networks(flow=DISFlow()).missing(REFERENCE_METRICS)
    assert set(missing) == {"lpips", "ids", "akd"}
    assert "--identity" in missing["ids"]
    assert set(Networks().missing(NO_REFERENCE_METRICS)) == set(NO_REFERENCE_METRICS)
