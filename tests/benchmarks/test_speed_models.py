"""Models in turns on one video: the table has a row per model, relative to the first."""

import numpy as np
import pytest

from benchmarks import speed_models
from benchmarks.speed_models import Run, make_table, read_frames
from conftest import make_components
from keep_hf import KeepPipeline
from keep_hf.faces.alignment import estimate_alignment
from keep_hf.options import DEFAULT_MODEL
from media import write_clip
from portraits import write_people


def test_rows_are_medians_and_ratios_of_the_same_round():
    first = [Run(0.1, 0.2, {"detect": 0.01}), Run(0.2, 0.3, {"detect": 0.02}), Run(0.3, 0.5, {"detect": 0.06})]
    second = [Run(0.3, 0.1, {"detect": 0.05}), Run(0.2, 0.1, {"detect": 0.05}), Run(0.6, 0.1, {"detect": 0.05})]
    rows = list(make_table({"a": first, "b": second}))
    assert rows[2] == "| a | 200.0 | 3.33 | 1.00 | 1.00 | 1.00 |"
    assert rows[3] == "| b | 300.0 | 10.00 | 2.00 | 1.00 | 3.00 |"
    assert rows[5:] == ["a, ms per frame: detect 20.0", "b, ms per frame: detect 50.0"]


def test_the_drawn_face_has_about_512_pixels():
    (frame,) = read_frames(None, 1)
    (faces,) = KeepPipeline.from_pretrained(DEFAULT_MODEL).face_detector().detect([frame])
    (landmarks,) = faces.landmarks
    matrix = estimate_alignment(landmarks)
    assert 512 / np.hypot(matrix[0, 0], matrix[1, 0]) == pytest.approx(512, rel=0.06)


def test_models_are_measured_on_the_frames_of_a_video(tmp_path, capsys):
    detector = KeepPipeline.from_pretrained(DEFAULT_MODEL).detector
    for seed, name in enumerate("ab"):
        KeepPipeline(**make_components(seed), detector=detector).save_pretrained(tmp_path / name)
    models = [str(tmp_path / name) for name in "ab"]
    clip = write_people(tmp_path / "in.mp4", 5, num_people=1)
    speed_models.main([*models, "--video", str(clip), "--frames", "3", "--rounds", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 frames of 144 x 144, 2 rounds")
    assert [line.split(" | ")[0] for line in lines[4:6]] == [f"| {name}" for name in models]
    assert "recursion" in lines[7]

    without_face = write_clip(tmp_path / "empty.mp4", num_frames=4, width=144, height=144)
    with pytest.raises(ValueError, match="finds no face"):
        speed_models.main([*models, "--video", str(without_face), "--frames", "4", "--rounds", "1"])
