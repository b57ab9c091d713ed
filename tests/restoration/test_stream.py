"""Streaming: division into steps, saved states, scenes, and the number of frames that are held.

At 5 frames per second the look-ahead of the tracker is short, so short videos are enough.
"""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import make_clip
from restored import NO_FACES, ONE, TWO


pytestmark = pytest.mark.slow


FRAME_RATE = 5
LENGTHS = (36, 24)  # of the two scenes
# One or two faces; they appear and disappear, and both are missed for one frame.
FACES = [NO_FACES] * 3 + [TWO] * 12 + [NO_FACES] + [TWO] * 10 + [ONE] * 6 + [TWO] * 18 + [NO_FACES] * 3 + [TWO] * 7


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """Two scenes, the second one much darker."""
    bright, dark = make_clip(LENGTHS[0], 168, 112), 255 - make_clip(LENGTHS[1], 168, 112, seed=1)
    return np.concatenate([bright, dark])


@pytest.fixture
def open_stream(make_pipe):
    def open_stream(clip: list, **options):
        options = {"strength": 1.0} | options
        return make_pipe(*clip, gain_window=8).stream(frame_rate=FRAME_RATE, **options)

    return open_stream


def run(stream, video: np.ndarray, chunk: int) -> np.ndarray:
    restored = []
    with stream:
        for start in range(0, len(video), chunk):
            restored += stream.step(video[start : start + chunk])
        restored += stream.flush()
    return np.stack(restored)


def test_the_result_does_not_depend_on_the_steps(open_stream, video):
    one, seven, all_at_once = (run(open_stream(FACES), video, chunk) for chunk in (1, 7, len(video)))
    assert (one != video).any(axis=(1, 2, 3)).sum() > 40
    np.testing.assert_array_equal(seven, one)
    np.testing.assert_array_equal(all_at_once, one)


@pytest.mark.parametrize("several", [list, tuple, iter])
def test_images_come_back_as_images(open_stream, video, several):
    images = [Image.fromarray(image) for image in video[:3]]
    with open_stream(FACES[:3]) as stream:
        restored = stream.step(several(images)) + stream.flush()
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in restored]), video[:3])
    assert all(isinstance(image, Image.Image) for image in restored)


@pytest.mark.parametrize(
    "options", [{}, {"aligned": True}, {"gain_mode": "official"}, {"faces": "largest"}, {"latency": "low"}]
)
def test_a_stream_continues_from_a_saved_state(open_stream, video, options):
    video, faces = video[16:46], FACES[16:46]  # with the cut after 20 frames
    expected = run(open_stream(faces, **options), video, 30)
    for stop in (3, 21, 23, 28):
        before = open_stream(faces, **options)
        restored = [image for frame in video[:stop] for image in before.step(frame)]
        file = io.BytesIO()
        torch.save(before.state_dict(), file)
        file.seek(0)
        after = open_stream(faces, **options)
        after.load_state_dict(torch.load(file, weights_only=True), video[len(restored) :])
        # The effect of colour offsets is smaller than the rounding of pixels, so they are compared on their own.
        offsets, expected_offsets = (stream.restorer.compositor.smoothed.colour_offsets for stream in (after, before))
        assert offsets.keys() == expected_offsets.keys()
        for segment, offset in expected_offsets.items():
            np.testing.assert_array_equal(offsets[segment], offset)
        if after.follower.detector:
            after.follower.detector.num_seen = before.follower.num_searched  # no frame is searched twice
        restored += [image for frame in video[stop:] for image in after.step(frame)] + after.flush()
        np.testing.assert_array_equal(np.stack(restored), expected, err_msg=str(stop))
        assert after.report()["tracks"]
        assert after.report()["frames"] == 30


def test_a_state_of_another_version_is_refused(open_stream, video):
    stream = open_stream(FACES)
    stream.step(video[:5])
    state = stream.state_dict()
    for owner, part in (("FaceStream", state), ("FaceRestorer", state["restorer"])):
        part["version"] -= 1
        version = part["version"]
        message = f"state of {owner} has version {version}.* reads version {version + 1}: .* without resuming"
        with pytest.raises(ValueError, match=message):
            open_stream(FACES).load_state_dict(state, video)
        part["version"] += 1
    open_stream(FACES).load_state_dict(state, video)


def test_a_scene_is_restored_as_if_it_were_alone(open_stream, video):
    stream, cut = open_stream(FACES), LENGTHS[0]
    whole = run(stream, video, 10)
    assert stream.report()["scenes"] == [0, cut]
    first, second = run(open_stream(FACES[:cut]), video[:cut], 10), run(open_stream(FACES[cut:]), video[cut:], 10)
    np.testing.assert_array_equal(whole, np.concatenate([first, second]))


def test_the_number_of_held_frames_is_bounded(open_stream, video):
    stream = open_stream(FACES)
    for i, frame in enumerate(video):
        assert i - stream.num_out <= stream.look_ahead < len(video)
        stream.step(frame)
        held = len(stream.follower.images) + len(stream.restorer.filling)
        held += len(stream.restorer.waiting.frames) if stream.restorer.waiting else 0
        assert held == stream.num_in - stream.num_out
    stream.flush()
    assert stream.num_out == len(video)
    assert not stream.follower.images
    assert stream.restorer.waiting is None


def test_the_output_has_the_form_of_the_input(make_pipe, video):
    pipe = make_pipe(*[ONE] * 3)
    stream = pipe.stream()
    assert [stream.step(Image.fromarray(frame)) for frame in video[:3]] == [[]] * 3
    images = stream.flush()
    stream = pipe.stream()
    stream.step(video[:3])
    arrays = stream.flush()
    assert all(isinstance(image, Image.Image) for image in images)
    np.testing.assert_array_equal([np.array(image) for image in images], arrays)
    assert arrays[0].dtype == np.uint8


def test_frames_of_another_size_are_refused(make_pipe, video):
    stream = make_pipe(*[ONE] * 3).stream()
    stream.step(video[0])
    with pytest.raises(ValueError, match="Frame 1 is 100 x 112, but the first one was 168 x 112"):
        stream.step(video[0][:, :100])
    with pytest.raises(ValueError, match="Frame 0 must be"):
        stream.step([None])


def test_an_empty_stream_returns_no_frames(make_pipe):
    assert make_pipe(ONE).stream().flush() == []


def test_gradients_are_not_kept(make_pipe, video):
    stream = make_pipe(*[ONE] * 5).stream()
    with torch.enable_grad():
        for frame in video[:5]:
            stream.step(frame)
        assert torch.is_grad_enabled()
    stream.flush()
    assert torch.is_grad_enabled()
