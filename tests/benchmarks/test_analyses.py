"""Analyses of single frames against known angles and against the restored frame."""

import numpy as np
import pytest

from benchmarks.analyses import EYE_LEFT, EYE_RIGHT, NOSE, NOSE_HEIGHT, estimate_yaw, study_latents
from benchmarks.clips import DegradedClip
from benchmarks.methods import load_methods
from conftest import make_clip, make_components
from keep_hf import KeepPipeline


@pytest.mark.parametrize("degrees", [-40, 0, 25])
def test_yaw_of_a_turned_head(degrees):
    head = np.zeros((68, 3))  # x to the right, y down, z towards the camera
    head[EYE_LEFT], head[EYE_RIGHT] = (-1, 0, 0), (1, 0, 0)
    head[NOSE] = (0, 0.8, 2 * NOSE_HEIGHT)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = head @ np.array([(cos, 0, -sin), (0, 1, 0), (sin, 0, cos)])
    rolled = turned[:, :2] @ np.array([(0.8, 0.6), (-0.6, 0.8)]) * 90 + 250
    assert estimate_yaw(rolled[None]) == pytest.approx([degrees])


def test_latents_of_a_frame():
    pipe, clip = (
        KeepPipeline(**make_components(), gain_window=2),
        DegradedClip("a", "mild", make_clip(4, 32, 32), 25.0),
    )
    study = study_latents(pipe, clip, 1.0)
    assert list(study.images) == ["input", "predicted", "observed", "fused", "output"]
    assert study.gains.shape == (1, 16, 16)  # a window of two frames, of which the first has no gain
    (official,) = load_methods(["official"], pipe)
    assert np.array_equal(study.images["output"], official.restore(clip)[1])
