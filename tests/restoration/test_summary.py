"""Summaries of tracks for the report."""

import numpy as np
import torch

from keep_hf.faces.alignment import TEMPLATE, TEMPLATE_SIZE
from keep_hf.faces.tracking.tracks import PlacedFace
from keep_hf.restoration.auto_strength import Judgement
from keep_hf.restoration.state import pack, unpack
from keep_hf.restoration.summary import TrackSummary


def make_face(width: float, score: float) -> PlacedFace:
    landmarks = 10 + TEMPLATE * (128 if width == 50 else 64) / TEMPLATE_SIZE
    return PlacedFace(3, 0, np.array([10, 10, 10 + width, 40], np.float32), landmarks, score)


def test_a_track_is_summarized():
    summary = TrackSummary(3, 7, 7)
    for frame, width, score, similarity in ((7, 50, 0.9, 0.5), (8, 20, 0.0, 0.75), (11, 70, 0.8, 0.25)):
        summary.add(frame, make_face(width, score), similarity, Judgement(0.5))
    assert summary.to_dict() == {
        "id": 3,
        "first_frame": 7,
        "last_frame": 11,
        "appearances": [[7, 8], [11, 11]],
        "frames": 3,
        "filled_frames": 1,
        "face_size": 50.0,
        "face_size_range": [30.0, 70.0],  # the longer side of the box counts
        "largest_crop": 128.0,
        "clearest": {"frame": 11, "box": [10.0, 10.0, 80.0, 40.0]},  # large, and detected with a high score
        "identity": 0.5,
        "strength": {"weight": 0.5, "weight_range": [0.5, 0.5], "reason": "restored at 50 %, as requested"},
    }
    restored = TrackSummary.from_state_dict(unpack(pack(summary.state_dict()), torch.device("cpu")))
    assert restored == summary


def test_without_a_face_recognition_network_there_is_no_similarity():
    summary = TrackSummary(0, 0, 0)
    summary.add(0, make_face(50, 0.9), None, Judgement(0.5))
    assert "identity" not in summary.to_dict()
