"""Restored faces in their frames: position, blend, colour, masks, and the enlarged background."""

import numpy as np
import pytest

from conftest import SIZE, KnownFaces, make_clip, make_components
from keep_hf import KeepPipeline
from keep_hf.restoration.compositor import GREY_LIMIT, STILL_GREY_LIMIT
from restored import NO_FACES, ONE, TWO, changed, restore
from segformer import make_segformer


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_clip(3, SIZE, SIZE)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return make_clip(6, 168, 112)


def test_only_the_face_is_changed(make_pipe, frames):
    restored = restore(make_pipe(*[ONE] * len(frames)), frames)
    difference = changed(frames, restored)
    assert difference[:, 24 + 16 : 24 + 48, 40 + 16 : 40 + 48].mean() > 0.9
    difference[:, 24 : 24 + SIZE, 40 : 40 + SIZE] = False
    assert not difference.any(), "pixels outside the crop have changed"


def test_the_pasted_face_is_the_restored_crop(make_pipe, frames):
    pipe = make_pipe(*[ONE] * len(frames))
    pasted = restore(pipe, frames)[:, 24 : 24 + SIZE, 40 : 40 + SIZE].astype(float)
    faces = restore(pipe, frames[:, 24 : 24 + SIZE, 40 : 40 + SIZE], aligned=True).astype(float)
    middle = np.s_[:, 20:44, 20:44]
    # Equal except for the colour offset, which is one number per channel and frame.
    offset = pasted[middle] - faces[middle]
    inside = (pasted[middle] > 0) & (pasted[middle] < 255)
    deviation = np.abs(offset - np.median(offset, axis=(1, 2), keepdims=True))
    assert deviation[inside].max() <= 1


def test_strength_0_returns_the_input(make_pipe, frames, crops):
    pipe = make_pipe(*[TWO] * len(frames))
    np.testing.assert_array_equal(restore(pipe, frames, strength=0), frames)
    np.testing.assert_array_equal(restore(make_pipe(), crops[:3], aligned=True, strength=0), crops[:3])


def test_strength_blends_with_the_input(make_pipe, crops):
    whole = restore(make_pipe(), crops[:2], aligned=True).astype(float)
    half = restore(make_pipe(), crops[:2], aligned=True, strength=0.5)
    assert np.abs(half - (whole + crops[:2]) / 2).max() <= 0.5


def test_every_person_has_a_strength(make_pipe, frames):
    """Person 0 is on the left, person 1 on the right."""

    def run(**options) -> tuple[np.ndarray, list]:
        with make_pipe(*[TWO] * len(frames)).stream(**options) as stream:
            restored = np.stack(stream.step(frames) + stream.flush())
        return restored, [track["strength"]["weight"] for track in stream.report()["tracks"]]

    full, half = run(strength=1.0)[0], run(strength=0.5)[0]
    automatic, weights = run()
    left, right = np.s_[:, :, :84], np.s_[:, :, 84:]
    mixed, used = run(strength=0.5, person_strength={0: 1, 1: 0})
    np.testing.assert_array_equal(mixed[left], full[left])
    np.testing.assert_array_equal(mixed[right], frames[right])
    assert used == [1, 0]
    mixed, used = run(strength=0.5, person_strength={1: "auto"})
    np.testing.assert_array_equal(mixed[left], half[left])
    np.testing.assert_array_equal(mixed[right], automatic[right])
    assert used == [0.5, weights[1]]
    mixed, used = run(person_strength={1: 0.5})
    np.testing.assert_array_equal(mixed[left], automatic[left])
    np.testing.assert_array_equal(mixed[right], half[right])
    assert used == [weights[0], 0.5]
    assert changed(full, half)[left].any()
    assert changed(full, half)[right].any()


@pytest.mark.parametrize("factor", [2, 3])
def test_upscale_keeps_the_position_of_the_face(make_pipe, frames, factor):
    pipe = make_pipe(*[ONE] * len(frames))
    same, larger = restore(pipe, frames), restore(pipe, frames, upscale=factor)
    assert larger.shape == (len(frames), 112 * factor, 168 * factor, 3)
    untouched = restore(pipe, frames, upscale=factor, strength=0)
    # The centre of pixel x is at factor * x + (factor - 1) / 2 of the enlarged frame.
    before = np.argwhere(changed(frames, same))[:, 1:].mean(axis=0)
    after = np.argwhere(changed(untouched, larger))[:, 1:].mean(axis=0)
    np.testing.assert_allclose(after, factor * before + (factor - 1) / 2, atol=0.2)


def test_grey_stays_grey(make_pipe, frames, crops):
    pipe = make_pipe(*[ONE] * len(frames))
    grey = frames[..., :1].repeat(3, axis=-1)
    restored = restore(pipe, grey)
    assert changed(grey, restored).any()
    assert (restored == restored[..., :1]).all()
    assert not (restore(pipe, frames) == restore(pipe, frames)[..., :1]).all()
    aligned = restore(make_pipe(), crops[:2, ..., :1], aligned=True)
    assert (aligned == aligned[..., :1]).all()


def test_what_is_in_front_of_a_face_stays_visible(make_pipe, frames, monkeypatch):
    """The right half of the crop is not face in the first three frames; then all of it is."""
    seen = []

    def mask(parser, crops):
        seen.append(parser)
        half = np.ones((SIZE, SIZE), np.float32)
        if len(seen) <= 3:
            half[:, SIZE // 2 :] = 0
        return [half] * len(crops)

    monkeypatch.setattr("keep_hf.restoration.compositor.face_mask", mask)
    parser = make_components()["vq"]  # any module: its output is replaced by that of `mask`
    difference = changed(frames, restore(make_pipe(*[ONE] * len(frames), parser=parser), frames))
    assert seen == [parser] * len(frames)
    assert difference[:3, :, 40 : 40 + SIZE // 2 - 2].any()
    assert not difference[:3, :, 40 + SIZE // 2 + 2 :].any()
    assert difference[3:, :, 40 + SIZE // 2 + 2 :].any(axis=(1, 2)).all(), "the mask does not follow the parser"


def test_a_segformer_can_be_the_parser(components, frames, tmp_path):
    parser = make_segformer()
    KeepPipeline(**components, parser=parser).save_pretrained(tmp_path)
    pipe = KeepPipeline.from_pretrained(tmp_path)
    assert type(pipe.parser) is type(parser)
    pipe.register_modules(detector=KnownFaces([ONE] * len(frames)))
    pipe.set_progress_bar_config(disable=True)
    assert changed(frames, restore(pipe, frames)).any()


def test_any_function_can_enlarge_the_background(make_pipe, frames):
    def brighter(frame):
        return np.clip(frame.repeat(2, axis=0).repeat(2, axis=1) + 9.0, 0, 255).astype(np.uint8)

    pipe = make_pipe(*[NO_FACES] * len(frames))
    np.testing.assert_array_equal(restore(pipe, frames, upscale=2, background=brighter), [brighter(f) for f in frames])
    # Its result is resized where the factor is another one.
    for factor in (1, 3):
        result = restore(pipe, frames, upscale=factor, background=brighter)
        assert result.shape[1:3] == (112 * factor, 168 * factor)
        assert 5 < (result[:, ::factor, ::factor].astype(float) - frames).mean() < 13


def test_grey_is_decided_again_in_each_scene(make_pipe):
    """A scene of faint colours after a grey one is restored in colour, as it is alone."""
    dark = 255.0 - make_clip(30, 168, 112, seed=1)
    faint = dark.mean(axis=-1, keepdims=True) + np.random.default_rng(0).normal(0, 2.4, (3,))
    texture = np.random.default_rng(1).normal(0, 2.35, (1, 112, 168, 3))
    faint = np.clip(np.rint(faint + texture), 0, 255).astype(np.uint8)
    grey = make_clip(30, 168, 112)[..., :1].repeat(3, axis=-1)
    assert GREY_LIMIT < spread(faint[0]) < STILL_GREY_LIMIT
    alone = restore(make_pipe(*[ONE] * 30), faint)
    whole = restore(make_pipe(*[ONE] * 60), np.concatenate([grey, faint]))
    np.testing.assert_array_equal(whole[30:], alone)
    assert spread(whole[0]) == 0


def spread(image: np.ndarray) -> float:
    """The value that `is_grey` compares with its limit."""
    red, green, blue = np.moveaxis(image.astype(float), -1, 0)
    return float(np.var(red - green) + np.var(green - blue) + np.var(blue - red)) / 3
