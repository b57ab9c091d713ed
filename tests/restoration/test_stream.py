"""Frames in, frames out: how they are cut into steps, where a film is stopped and gone on with, what is held."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from conftest import SIZE, make_clip, make_faces
from keep_hf.models.recursion import KalmanRecursion
from keep_hf.video.pixels import to_tensor


ONE = make_faces((40, 24, SIZE))
TWO = make_faces((8, 16, SIZE), (96, 40, SIZE))
NOBODY = make_faces()


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    """200 frames of two scenes, the second one much darker."""
    bright = make_clip(120, 168, 112)
    return np.concatenate([bright, 255 - make_clip(80, 168, 112, seed=1)])


def people(number: int) -> list:
    """One or two people; they come and go, and one of them is missed for a moment."""
    all_here = [ONE, TWO][number - 1]
    clip = [all_here] * 200
    clip[:10], clip[50:53], clip[90:110], clip[170:180] = [NOBODY] * 10, [NOBODY] * 3, [ONE] * 20, [NOBODY] * 10
    return clip


def run(stream, film: np.ndarray, chunk: int) -> np.ndarray:
    out = []
    with stream:
        for start in range(0, len(film), chunk):
            out += stream.step(film[start : start + chunk])
        out += stream.flush()
    return np.stack(out)


@pytest.mark.parametrize("number", [1, 2])
def test_the_result_does_not_depend_on_the_steps(make_pipe, film, number):
    results = [run(make_pipe(*people(number)).stream(), film, chunk) for chunk in (1, 7, 20, 64)]
    assert (results[0] != film).any(axis=(1, 2, 3)).sum() > 100
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("options", [{}, {"aligned": True}, {"gain_mode": "official"}, {"faces": "largest"}])
def test_a_stream_goes_on_where_it_stopped(make_pipe, film, options):
    film, clip = film[80:150], people(2)[80:150]
    expected = run(make_pipe(*clip).stream(**options), film, 70)
    for stop in (3, 41, 43, 66):
        before = make_pipe(*clip).stream(**options)
        out = [image for frame in film[:stop] for image in before.step(frame)]
        file = io.BytesIO()
        torch.save(before.state_dict(), file)
        file.seek(0)
        after = make_pipe(*clip).stream(**options)
        after.load_state_dict(torch.load(file, weights_only=True), list(film[len(out) : stop]))
        # Small beside the rounding of pixels, but part of the state
        assert after.restorer.offsets.keys() == before.restorer.offsets.keys()
        for number, offset in before.restorer.offsets.items():
            np.testing.assert_array_equal(after.restorer.offsets[number], offset)
        if after.follower.detector:
            after.follower.detector.num_seen = before.follower.num_searched  # it must not see a frame twice
        out += [image for frame in film[stop:] for image in after.step(frame)] + after.flush()
        np.testing.assert_array_equal(np.stack(out), expected, err_msg=str(stop))
        assert after.report()["tracks"] and after.report()["frames"] == 70


def test_a_scene_is_what_it_is_alone(make_pipe, film):
    clip = people(2)
    stream = make_pipe(*clip).stream()
    whole = run(stream, film, 10)
    assert stream.report()["scenes"] == [0, 120]
    first = run(make_pipe(*clip[:120]).stream(), film[:120], 10)
    second = run(make_pipe(*clip[120:]).stream(), film[120:], 10)
    np.testing.assert_array_equal(whole, np.concatenate([first, second]))


def test_held_frames_are_bounded(make_pipe, film):
    stream = make_pipe(*people(2)).stream()
    for i, frame in enumerate(film):
        out = stream.num_out
        assert i - out <= stream.look_ahead
        stream.step(frame)
        held = len(stream.follower.images) + len(stream.restorer.filling)
        held += len(stream.restorer.waiting.frames) if stream.restorer.waiting else 0
        assert held == stream.num_in - stream.num_out
    stream.flush()
    assert stream.num_out == 200 and not stream.follower.images and stream.restorer.waiting is None


def test_pictures_come_out_as_they_went_in(make_pipe, film):
    pipe = make_pipe(*[ONE] * 3)
    stream = pipe.stream()
    assert [stream.step(Image.fromarray(frame)) for frame in film[:3]] == [[]] * 3
    pictures = stream.flush()
    stream = pipe.stream()
    stream.step(film[:3])
    arrays = stream.flush()
    assert all(isinstance(picture, Image.Image) for picture in pictures)
    np.testing.assert_array_equal([np.array(picture) for picture in pictures], arrays)
    assert arrays[0].dtype == np.uint8


def test_frames_of_another_size_are_refused(make_pipe, film):
    stream = make_pipe(*[ONE] * 3).stream()
    stream.step(film[0])
    with pytest.raises(ValueError, match="Frame 1 is 100 x 112, the first one was 168 x 112"):
        stream.step(film[0][:, :100])
    with pytest.raises(ValueError, match="Frame 0 must be"):
        stream.step([None])


def test_a_stream_of_nothing_gives_nothing(make_pipe):
    assert make_pipe(ONE).stream().flush() == []


def test_gradients_are_not_kept(make_pipe, film):
    stream = make_pipe(*[ONE] * 5).stream()
    with torch.enable_grad():
        for frame in film[:5]:
            stream.step(frame)
        assert torch.is_grad_enabled()
    stream.flush()
    assert torch.is_grad_enabled()


def test_gains_go_over_from_window_to_window(components, make_pipe, film, monkeypatch):
    """Windows of 8 begin every 4 frames; along 4 frames the gain goes over from the one to the next."""
    crops, given = [cv2.resize(frame, (SIZE, SIZE)) for frame in film[:22]], []
    step = KalmanRecursion.step

    def listen(self, *args, **options):
        given.append(options["gain"])
        return step(self, *args, **options)

    monkeypatch.setattr(KalmanRecursion, "step", listen)
    run(make_pipe(gain_window=8).stream(aligned=True), np.stack(crops), 22)

    recursion = KalmanRecursion(components["vq"], components["kalman"], components["flow"])
    with torch.no_grad():
        latents = recursion.observe(to_tensor(crops)[None]).latents
        windows = [components["kalman"](latents[:, start : start + 8]) for start in range(0, 22, 4)]
    for t in range(22):
        block, place = divmod(t, 4)
        expected = windows[block][:, place]
        if block:
            part = (place + 0.5) / 4
            expected = (1 - part) * windows[block - 1][:, 4 + place] + part * expected
        torch.testing.assert_close(given[t], expected, atol=1e-5, rtol=0)


def test_grey_is_judged_anew_in_each_scene(make_pipe, film):
    """A scene of faint colours after a grey one: alone it has colours, so it has them here."""
    faint = film[120:150].astype(float).mean(axis=-1, keepdims=True) + np.random.default_rng(0).normal(0, 2.4, (3,))
    texture = np.random.default_rng(1).normal(0, 2.35, (1, *film.shape[1:3], 3))
    faint = np.clip(np.rint(faint + texture), 0, 255).astype(np.uint8)
    grey = film[:30, ..., :1].repeat(3, axis=-1)
    assert 10 < spread(faint[0]) < 12, spread(faint[0])
    alone = run(make_pipe(*[ONE] * 30).stream(), faint, 30)
    stream = make_pipe(*[ONE] * 60).stream()
    whole = run(stream, np.concatenate([grey, faint]), 60)
    assert stream.report()["scenes"] == [0, 30]
    np.testing.assert_array_equal(whole[30:], alone)
    assert spread(whole[0]) == 0


def spread(image: np.ndarray) -> float:
    """What is_grey compares with its limit."""
    red, green, blue = np.moveaxis(image.astype(float), -1, 0)
    return float(np.var(red - green) + np.var(green - blue) + np.var(blue - red)) / 3
