"""A pipeline with a direct path: saved and loaded, streamed in any steps, continued from a saved state."""

import io

import numpy as np
import pytest
import torch

from conftest import SIZE, KnownFaces, make_clip
from keep_hf import DISFlow, KeepPipeline, KeepVQModel
from restored import NO_FACES, ONE, TWO


FACES = [ONE] * 4 + [TWO] * 10 + [NO_FACES] + [TWO] * 5


@pytest.fixture(scope="module")
def folder(components, tmp_path_factory):
    torch.manual_seed(0)
    vq = KeepVQModel.from_config(components["vq"].config, direct_channels=(16, 32), direct_units=(1, 1))
    with torch.no_grad():
        vq.load_state_dict(components["vq"].state_dict(), strict=False)
        vq.direct.conv_out.weight.normal_(std=0.2)
    folder = tmp_path_factory.mktemp("direct") / "pipeline"
    KeepPipeline(vq, components["kalman"], DISFlow(SIZE // 2)).save_pretrained(folder)
    return folder


@pytest.fixture
def pipe(folder) -> KeepPipeline:
    pipe = KeepPipeline.from_pretrained(folder)
    pipe.detector = KnownFaces(FACES)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return make_clip(len(FACES), 168, 112)


def test_the_flow_is_saved_with_the_pipeline(pipe):
    assert isinstance(pipe.flow, DISFlow)
    assert pipe.flow.side == SIZE // 2


@pytest.mark.parametrize("latency", ["normal", "low"])
@pytest.mark.parametrize("fidelity", [1.0, 0.5])
def test_a_stream_continues_from_a_saved_state(pipe, video, fidelity, latency):
    options = {"frame_rate": 5, "fidelity": fidelity, "latency": latency, "strength": 1.0}
    with pipe.stream(**options) as stream:
        expected = stream.step(video) + stream.flush()
    assert (np.stack(expected) != video).any(axis=(1, 2, 3)).sum() >= len(FACES) - 1
    pipe.detector.num_seen = 0
    before = pipe.stream(**options)
    restored = [image for frame in video[:17] for image in before.step(frame)]
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after = pipe.stream(**options)
    after.load_state_dict(torch.load(file, weights_only=True), video[len(restored) :])
    pipe.detector.num_seen = before.follower.num_searched
    restored += [image for frame in video[17:] for image in after.step(frame)] + after.flush()
    np.testing.assert_array_equal(np.stack(restored), np.stack(expected))


def test_frames_wait_for_gains_only_where_codes_are_used(pipe, video):
    """They wait for the cut finder (2), for their batch of 8 and block of 10, and with codes for the next block."""
    frames = np.concatenate([video] * 2)[:, :SIZE, :SIZE]
    for fidelity, expected in ((1.0, 2 + 7 + 9), (0.5, 2 + 7 + 9 + 10)):
        stream = pipe.stream(aligned=True, fidelity=fidelity)
        held = []
        for frame in frames:
            stream.step(frame)
            held.append(stream.num_in - stream.num_out)
        assert stream.look_ahead == expected
        assert expected - 6 < max(held) <= expected


def test_grey_video_stays_grey(pipe, video):
    grey = np.repeat(video[..., :1], 3, axis=-1)
    with pipe.stream(frame_rate=5, strength=1.0) as stream:
        restored = np.stack(stream.step(grey) + stream.flush())
    assert (restored != grey).any()
    assert np.ptp(restored.astype(int), axis=-1).max() == 0


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_tint_of_a_crop_stays(pipe, video, strength):
    """A sepia crop is grey by the published rule; the correction has no colour, and the crop keeps its own."""
    tint = np.array([30, 10, -20])
    crops = (40 + video[:3, :SIZE, :SIZE, :1] // 2 + tint).astype(np.uint8)
    with pipe.stream(aligned=True, strength=strength) as stream:
        restored = np.stack(stream.step(crops) + stream.flush()).astype(int)
    assert (restored != crops).any() == (strength > 0)
    inside = ((restored > 0) & (restored < 255)).all(axis=-1)
    assert inside.mean() > 0.5
    assert ((restored - restored[..., 1:2])[inside] == tint - 10).all()
