"""The methods: what the variants of KEEP have in common and where they differ, and how other networks are used."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.clips import DegradedClip
from benchmarks.methods import VARIANTS, load_methods, without_part
from conftest import SIZE, make_clip, make_components
from keep_hf import KeepPipeline
from keep_hf.models.kalman import KalmanGainNetwork, KalmanGainOutput


FRAMES = 4
CLIP = DegradedClip("a", "mild", make_clip(FRAMES, 32, 32), 25.0)


def make_pipe() -> KeepPipeline:
    pipe = KeepPipeline(**make_components(), gain_window=2)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def restore(*names: str) -> dict[str, np.ndarray]:
    return {method.name: method.restore(CLIP) for method in load_methods(list(names), make_pipe())}


def test_variants_differ_from_the_second_frame_on():
    restored = restore(*VARIANTS)
    for name, faces in restored.items():
        assert faces.shape == (FRAMES, SIZE, SIZE, 3)
        assert faces.dtype == np.uint8
        # Nothing precedes the first frame, and the gain network has no effect on it.
        assert np.abs(faces[0].astype(int) - restored["keep"][0]).max() <= 1, name
    for name in VARIANTS[1:]:
        assert not np.array_equal(restored[name], restored["keep"]), name


def test_without_kfn_is_a_gain_of_zero_without_update_of_features():
    class NoGain(KalmanGainNetwork):
        def forward(self, observed):
            return KalmanGainOutput(gains=observed.new_zeros(*observed.shape[:2], 1, *observed.shape[3:]))

    pipe = make_pipe()
    kalman = NoGain.from_config(pipe.kalman.config)
    zero = KeepPipeline(vq=without_part(pipe.vq, "feature_update"), flow=pipe.flow, kalman=kalman)
    zero.set_progress_bar_config(disable=True)
    expected = zero(CLIP.frames, aligned=True, output_type="np").frames[0] * 255
    assert np.abs(restore("no-kfn")["no-kfn"] - expected).max() < 1.5


def test_per_frame_restores_each_frame_as_a_clip_of_its_own():
    pipe = make_pipe()
    options = {"aligned": True, "strength": 1.0, "output_type": "np"}
    expected = [pipe(frame[None], **options).frames[0, 0] * 255 for frame in CLIP.frames]
    assert np.abs(restore("per-frame")["per-frame"] - np.stack(expected)).max() < 1.5


def test_codeformer_is_used_with_its_own_fidelity(tmp_path):
    pipe = make_pipe()
    KeepPipeline(vq=without_part(pipe.vq, "cross_frame")).save_pretrained(tmp_path / "codeformer")
    pipe.save_pretrained(tmp_path / "keep")
    (method,) = load_methods(["codeformer"], pipe, fidelity=1.0, codeformer=tmp_path / "codeformer")
    (expected,) = load_methods(["per-frame"], pipe, fidelity=0.5)
    assert np.array_equal(method.restore(CLIP), expected.restore(CLIP))
    with pytest.raises(ValueError, match="is a KEEP model"):
        load_methods(["codeformer"], pipe, codeformer=tmp_path / "keep")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["keeep"], "no method 'keeep'"),
        (["keep", "keep"], "unique names"),
        (["codeformer"], "keep-hf convert"),
        ([f"folder:x={Path('/nowhere/at/all')}"], "does not exist"),
    ],
)
def test_impossible_methods_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        load_methods(names, make_pipe())
