"""The recursion over a stream: gains of overlapping windows, official windows, and one state per face."""

import gc

import numpy as np
import pytest
import torch

from conftest import SIZE, make_clip, make_faces
from keep_hf import KalmanState
from keep_hf.models.recursion import KalmanRecursion
from keep_hf.video.pixels import to_tensor
from restored import NO_FACES, ONE, TWO, changed, restore


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_clip(25, SIZE, SIZE)


def test_gains_change_over_from_window_to_window(components, make_pipe, crops, monkeypatch):
    """Windows of 8 frames start every 4 frames; along 4 frames the gain changes over from one window to the next."""
    crops, given = crops[:22], []
    step = KalmanRecursion.step

    def record_gain(self, *args, **options):
        given.append(options["gain"])
        return step(self, *args, **options)

    monkeypatch.setattr(KalmanRecursion, "step", record_gain)
    restore(make_pipe(gain_window=8), crops, aligned=True)

    recursion = KalmanRecursion(components["vq"], components["kalman"], components["flow"])
    with torch.no_grad():
        latents = recursion.observe(to_tensor(crops)[None]).latents
        windows = [components["kalman"](latents[:, start : start + 8]).gains for start in range(0, 22, 4)]
    for t in range(22):
        block, place = divmod(t, 4)
        expected = windows[block][:, place]
        if block:
            part = (place + 0.5) / 4
            expected = (1 - part) * windows[block - 1][:, 4 + place] + part * expected
        torch.testing.assert_close(given[t], expected, atol=1e-5, rtol=0)


def test_official_mode_restores_each_window_alone_and_stream_mode_does_not(make_pipe, crops):
    pipe = make_pipe()
    official = restore(pipe, crops, aligned=True, gain_mode="official")
    stream = restore(pipe, crops, aligned=True)
    pieces = [restore(pipe, piece, aligned=True, gain_mode="official") for piece in (crops[:20], crops[20:])]
    np.testing.assert_array_equal(official, np.concatenate(pieces))
    assert changed(stream[20:], official[20:]).any(axis=(1, 2)).all()


def test_the_gain_modes_differ_for_faces_in_frames(make_pipe):
    video = make_clip(6, 168, 112)
    official = restore(make_pipe(*[ONE] * 6, gain_window=4), video, gain_mode="official")
    stream = restore(make_pipe(*[ONE] * 6, gain_window=4), video)
    pieces = [restore(make_pipe(*[ONE] * len(piece)), piece, gain_mode="official") for piece in (video[:4], video[4:])]
    np.testing.assert_array_equal(official, np.concatenate(pieces))
    assert changed(stream[4:], official[4:]).any(axis=(1, 2)).all()


def test_networks_that_return_nan_are_an_error(make_pipe, monkeypatch):
    """As in float16, whose range some networks exceed. NaN would become black faces."""
    step = KalmanRecursion.step

    def overflow(self, *args, **options):
        result = step(self, *args, **options)
        result.state.output[0, :, :8, :8] = torch.nan
        return result

    monkeypatch.setattr(KalmanRecursion, "step", overflow)
    with pytest.raises(ValueError, match=r"NaN or infinity in frame 0, computed in float32\. Load .* bfloat16"):
        restore(make_pipe(*[ONE] * 3), make_clip(3, 168, 112))


def test_every_face_has_its_own_state(make_pipe):
    video = make_clip(10, 168, 112)
    left, right = make_faces((8, 16, SIZE)), make_faces((96, 40, SIZE))
    # The right face appears three frames later; windows of 4 carry both states over two borders of blocks.
    both = restore(make_pipe(*[left] * 3, *[TWO] * 7, gain_window=4), video)
    left_alone = restore(make_pipe(*[left] * 10, gain_window=4), video)
    right_alone = restore(make_pipe(*[NO_FACES] * 3, *[right] * 7, gain_window=4), video)
    # A batch of two is rounded differently from a batch of one.
    assert np.abs(both[:, :, :84].astype(int) - left_alone[:, :, :84]).max() <= 1
    assert np.abs(both[:, :, 84:].astype(int) - right_alone[:, :, 84:]).max() <= 1
    assert changed(video, left_alone).any()
    assert changed(video, right_alone).any()


def test_a_moving_face_that_appears_later_is_restored_where_it_is(make_pipe):
    video = make_clip(10, 168, 112)
    for i in range(7):
        video[3 + i, 24 : 24 + SIZE, 20 + 6 * i : 20 + 6 * i + SIZE] = make_clip(1, SIZE, SIZE, seed=1)[0]
    walk = [make_faces((20 + 6 * i, 24, SIZE)) for i in range(7)]
    # At one frame per second landmarks are hardly smoothed.
    restored = restore(make_pipe(*[NO_FACES] * 3, *walk, gain_window=3), video, frame_rate=1)
    np.testing.assert_array_equal(restored[:3], video[:3])
    for i in range(7):
        columns = np.flatnonzero(changed(video, restored)[3 + i].any(axis=0))
        assert abs(columns.mean() - (20 + 6 * i + (SIZE - 1) / 2)) < 2


def test_states_of_faces_that_have_disappeared_are_freed(make_pipe):
    # One face after the other, each in another place
    places = [make_faces((8, 16, SIZE)), make_faces((96, 40, SIZE))]
    clip = [places[i // 4 % 2] for i in range(24)]
    stream = make_pipe(*clip, gain_window=4).stream(frame_rate=1)
    segments = set()
    gc.collect()
    gc.freeze()  # get_objects then returns new objects only
    try:
        for restored in stream.restore(make_clip(24, 168, 112)):
            segments.update(face.segment for face in restored.followed.faces)
            assert sum(type(thing) is KalmanState for thing in gc.get_objects()) <= 2
    finally:
        gc.unfreeze()
    assert len(segments) == 6


def test_a_video_is_restored_with_smaller_batches(make_pipe, monkeypatch):
    video = make_clip(10, 168, 112)
    expected = restore(make_pipe(*[TWO] * 10, gain_window=8), video, strength=1)
    step, observe, sizes = KalmanRecursion.step, KalmanRecursion._observe_batch, []

    def step_of_one(self, frame, *args, **options):
        if len(frame) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return step(self, frame, *args, **options)

    def observe_two(self, images, codes):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return observe(self, images, codes)

    monkeypatch.setattr(KalmanRecursion, "step", step_of_one)
    monkeypatch.setattr(KalmanRecursion, "_observe_batch", observe_two)
    with pytest.warns(UserWarning, match="Out of GPU memory"):
        found = restore(make_pipe(*[TWO] * 10, gain_window=8), video, strength=1)
    assert sizes[:3] == [4, 4, 2]  # with 8, 4 and 2 at a time
    assert max(sizes[3:]) == 2
    assert np.abs(found.astype(int) - expected).max() <= 1
