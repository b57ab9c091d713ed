"""`latency="low"`: the number of frames that are held, and that a frame does not depend on frames after them."""

import numpy as np
import pytest
import torch

from conftest import SIZE, make_clip, make_components
from keep_hf import DISFlow, KeepPipeline, KeepVQModel
from restored import NO_FACES, ONE, TWO, changed


LIMIT = 3
LENGTHS = (17, 9)
# No face; two appear; another one in their place; none is detected for two frames; the second scene has two again.
FACES = [NO_FACES] * 3 + [TWO] * 4 + [ONE] * 4 + [NO_FACES] * 2 + [ONE] * 4 + [TWO] * 9


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """Two scenes, the second one much darker."""
    return np.concatenate([make_clip(LENGTHS[0], 168, 112), 255 - make_clip(LENGTHS[1], 168, 112, seed=1)])


@pytest.fixture(scope="module")
def direct() -> dict:
    """Components with a direct path, whose correction is not zero."""
    components = make_components()
    vq = KeepVQModel.from_config(components["vq"].config, direct_channels=(16, 32), direct_units=(1, 1))
    with torch.no_grad():
        vq.load_state_dict(components["vq"].state_dict(), strict=False)
        vq.direct.conv_out.weight.normal_(std=0.2)
    return components | {"vq": vq.eval(), "flow": DISFlow(SIZE // 2)}


@pytest.fixture(params=["codes", "direct path"])
def open_stream(request, make_pipe, direct):
    """Streams of a model with codes and gains, and of one with a direct path."""

    def open_stream(faces: list = FACES, **options):
        pipe: KeepPipeline = make_pipe(*faces, gain_window=8, **({} if request.param == "codes" else direct))
        return pipe.stream(frame_rate=25, latency="low", **{"strength": 1.0} | options)

    return open_stream


def run(stream, video: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The restored frames, and how many were held after each frame."""
    restored, held = [], []
    for frame in video:
        restored += stream.step(frame)
        held.append(stream.num_in - stream.num_out)
    return np.stack(restored + stream.flush()), held


def test_three_frames_are_held_whatever_the_video_shows(open_stream, video):
    stream = open_stream()
    restored, held = run(stream, video)
    assert stream.report()["scenes"] == [0, LENGTHS[0]]
    assert stream.look_ahead == LIMIT
    # When the cut is found, after one more frame, nothing of the first scene waits any longer.
    second_scene = len(video) - LENGTHS[0] - 2
    assert held == [1, 2, *[LIMIT] * (LENGTHS[0] - 1), 2, *[LIMIT] * second_scene]
    assert len(restored) == len(video)
    touched = changed(video, restored).any(axis=(1, 2))
    assert not touched[:3].any()
    assert touched[3:].all()


def test_aligned_frames_are_held_for_one_frame(open_stream, video):
    stream = open_stream(aligned=True)
    _, held = run(stream, video[:, :SIZE, :SIZE])
    assert stream.look_ahead == 1
    assert held == [1] * len(video)


@pytest.mark.parametrize("stop", [8, 19])
def test_a_frame_does_not_depend_on_later_ones(open_stream, video, stop):
    """The video is cut off, or goes on with frames of something else."""
    expected, _ = run(open_stream(), video)
    first = open_stream()
    restored = [image for frame in video[:stop] for image in first.step(frame)]
    assert len(restored) >= stop - LIMIT
    np.testing.assert_array_equal(restored, expected[: len(restored)])
    noise = np.random.default_rng(0).integers(0, 256, (6, 112, 168, 3), dtype=np.uint8)
    others, _ = run(open_stream([*FACES[:stop], *[NO_FACES] * 20]), np.concatenate([video[:stop], noise]))
    np.testing.assert_array_equal(others[: stop - LIMIT], expected[: stop - LIMIT])


def test_a_scene_is_restored_as_if_it_were_alone(open_stream, video):
    cut = LENGTHS[0]
    whole, _ = run(open_stream(), video)
    first, _ = run(open_stream(FACES[:cut]), video[:cut])
    second, _ = run(open_stream(FACES[cut:]), video[cut:])
    np.testing.assert_array_equal(whole, np.concatenate([first, second]))


def test_the_result_does_not_depend_on_the_steps(open_stream, video):
    one_by_one, _ = run(open_stream(), video)
    stream = open_stream()
    np.testing.assert_array_equal(np.stack(stream.step(video) + stream.flush()), one_by_one)


def test_gains_depend_on_a_window_that_ends_with_the_frame(make_pipe, components, video):
    """Every frame has the gains of the window of 8 frames that ends with it."""
    crops = video[: LENGTHS[0], :SIZE, :SIZE]
    pipe = make_pipe(gain_window=8)
    stream = pipe.stream(aligned=True, latency="low")
    given = []
    compute = stream.restorer.gains.step

    def record(segments, following):
        gains = compute(segments, following)
        given.extend(gains.values())
        return gains

    stream.restorer.gains.step = record
    run(stream, crops)
    latents = []
    with torch.no_grad():
        for crop in crops:
            tensor = torch.from_numpy(crop).permute(2, 0, 1)[None, None] / 127.5 - 1
            latents.append(stream.restorer.recursion.observe(tensor.float()).latents)
        for t, gains in enumerate(given):
            window = torch.cat(latents[max(t - 7, 0) : t + 1], dim=1)
            torch.testing.assert_close(gains, components["kalman"](window).gains[:, -1:], atol=1e-5, rtol=0)
    assert len(given) == len(crops)
