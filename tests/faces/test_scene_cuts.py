"""Cuts are found, changes that are no cuts are not, and decisions after a cut do not depend on frames before it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from keep_hf.faces.scene_cuts import CutFinder
from keep_hf.restoration.state import pack, unpack
from keep_hf.video.reader import VideoReader
from paths import SHARED


CLIPS = SHARED / "media" / "hq_eval"
WIDTH, HEIGHT = 160, 90


def make_scene(seed: int, num_frames: int = 12, speed: float = 2.0) -> np.ndarray:
    """Frames of a camera that moves over a smooth random image."""
    noise = np.random.default_rng(seed).normal(0, 1, (HEIGHT + 40, WIDTH + 200, 3)).astype(np.float32)
    world = cv2.GaussianBlur(noise, (0, 0), 5)
    world = np.clip(128 + 50 * world / world.std(), 0, 255).astype(np.uint8)
    lefts = np.round(speed * np.arange(num_frames)).astype(int)
    return np.stack([world[20 : 20 + HEIGHT, left : left + WIDTH] for left in lefts])


def decide(frames: np.ndarray, finder: CutFinder | None = None) -> list[bool]:
    finder = finder or CutFinder()
    decisions = [finder.step(frame) for frame in frames]
    return [is_cut for is_cut in decisions if is_cut is not None] + finder.flush()


def cuts(frames: np.ndarray) -> list[int]:
    decisions = decide(frames)
    assert len(decisions) == len(frames)
    return [index for index, is_cut in enumerate(decisions) if is_cut]


def test_the_first_frame_of_each_scene_is_found_even_of_the_shortest():
    lengths = [12, 1, 12, 2, 12, 1]
    video = np.concatenate([make_scene(seed, length) for seed, length in enumerate(lengths)])
    assert cuts(video) == [12, 13, 25, 27, 39]


@pytest.mark.parametrize("size", [(8, 8), (8, 300), (90, 161), (540, 960)])
def test_frames_of_any_size_grey_or_dark(size: tuple[int, int]):
    video = np.concatenate([make_scene(0, 5), make_scene(1, 5)])
    video = np.stack([cv2.resize(frame, size[::-1], interpolation=cv2.INTER_CUBIC) for frame in video])
    grey = video.mean(axis=3, keepdims=True).repeat(3, axis=3).astype(np.uint8)
    assert cuts(video) == cuts(grey) == cuts(video // 6) == [5]


def test_noise_is_no_cut_and_does_not_hide_one():
    video = np.concatenate([make_scene(0), make_scene(1)]) // 2
    noise = np.random.default_rng(0).normal(0, 20, video.shape)
    assert cuts(np.clip(video + noise, 0, 255).astype(np.uint8)) == [12]


def test_movement_is_no_cut():
    assert cuts(make_scene(0, 16, speed=12)) == []
    image = make_scene(1, 1)[0]
    zooms = [cv2.getRotationMatrix2D((80, 45), 0, 1.12**i) for i in range(12)]
    assert cuts(np.stack([cv2.warpAffine(image, zoom, (WIDTH, HEIGHT)) for zoom in zooms])) == []


@pytest.mark.parametrize("length", [1, 2])
def test_flash_and_damage_are_no_cuts(length: int):
    video = make_scene(0, 16)
    flashed, damaged = video.copy(), video.copy()
    flashed[8 : 8 + length] = 255
    damaged[8 : 8 + length, 20:] = make_scene(5, 1)[0, 20:]
    assert cuts(flashed) == cuts(damaged) == []


def test_fades_dissolves_and_exposure_are_no_cuts():
    video, other = make_scene(0, 24).astype(np.float32), make_scene(1, 24).astype(np.float32)
    share = np.clip((np.arange(24) - 8) / 5, 0, 1)[:, None, None, None]
    exposure = np.where(np.arange(24) < 12, 0.7, 1.0)[:, None, None, None]
    assert cuts((video * (1 - share)).astype(np.uint8)) == []
    assert cuts((video * share).astype(np.uint8)) == []
    assert cuts((video + (other - video) * share).astype(np.uint8)) == []
    assert cuts((video * exposure).astype(np.uint8)) == []


def test_black_frames():
    black = np.zeros((6, HEIGHT, WIDTH, 3), np.uint8)
    assert cuts(black) == []
    assert cuts(np.concatenate([make_scene(0, 6), black, make_scene(1, 6)])) == [6, 12]


def test_after_a_cut_decisions_are_those_for_the_scene_alone():
    """The second scene has many ambiguous changes, and the first one ends in the middle of one."""
    first = make_scene(0, 9)
    first[-1] = 255
    second = np.concatenate([make_scene(1, 3), make_scene(1, 4) // 3, make_scene(2, 2), make_scene(3, 8, speed=25)])
    video = decide(np.concatenate([first, second]))
    assert video[9]
    assert video[10:] == decide(second)[1:]
    assert any(video[10:])


def test_a_finder_continues_from_a_saved_state_at_any_frame(tmp_path: Path):
    video = np.concatenate([make_scene(0, 4), make_scene(1, 1), make_scene(2, 5)])
    expected = decide(video)
    for stop in range(len(video)):
        first = CutFinder()
        decisions = [first.step(frame) for frame in video[:stop]]
        torch.save(pack(first.state_dict()), tmp_path / "state.pt")
        second = CutFinder()
        second.load_state_dict(unpack(torch.load(tmp_path / "state.pt", weights_only=True), torch.device("cpu")))
        assert [is_cut for is_cut in decisions if is_cut is not None] + decide(video[stop:], second) == expected


def test_streams_with_fewer_frames_than_the_look_ahead():
    for length in range(4):
        assert decide(make_scene(0, 4)[:length]) == [False] * length
    finder = CutFinder()
    assert [finder.step(frame) for frame in make_scene(0, 4)] == [None, None, False, False]
    assert finder.flush() == [False, False]


def test_a_finder_can_be_used_again_after_flush():
    finder = CutFinder()
    decide(make_scene(0, 5), finder)
    assert decide(make_scene(1, 5), finder) == [False] * 5


def test_invalid_images_are_rejected():
    finder = CutFinder()
    with pytest.raises(ValueError, match="float32"):
        finder.step(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(8, 8\)"):
        finder.step(np.zeros((8, 8), np.uint8))
    finder.step(np.zeros((80, 160, 3), np.uint8))
    with pytest.raises(ValueError, match="another shape"):
        finder.step(np.zeros((160, 80, 3), np.uint8))


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the clips of ../shared are missing")
def test_talking_heads_before_dark_rooms():
    pieces = []
    for clip in ("talkvid_05", "talkvid_07", "talkvid_01", "talkvid_11"):
        with VideoReader(CLIPS / f"{clip}.mp4") as reader:
            frames = [frame.image for frame, _ in zip(reader, range(8), strict=False)]
        pieces.append([cv2.resize(frame, (480, 270), interpolation=cv2.INTER_AREA) // 2 for frame in frames])
    assert cuts(np.concatenate(pieces)) == [8, 16, 24]
