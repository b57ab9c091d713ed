"""Animated GIF, PNG and WebP: complete frames, with their own durations."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from damaged import truncate
from keep_hf.video.animation import AnimationReader
from keep_hf.video.image_folder import ImageFolderReader
from keep_hf.video.open import create_video, open_video
from keep_hf.video.reader import VideoReader
from media import gradient, times, write_clip


DURATIONS = [100, 50, 30, 200, 40, 1000]
STARTS = [0, 100, 150, 180, 380, 420]
FORMATS = [("in.gif", {}), ("in.png", {}), ("in.apng", {"format": "PNG"}), ("in.webp", {"lossless": True})]


def write_animation(path, images, durations=DURATIONS, **options):
    first, *rest = images
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=0, **options)
    return path


def squares(alpha=255) -> list[Image.Image]:
    """A red square that moves over a blue ground, whose lower half has the given alpha."""
    images = np.zeros((6, 48, 64, 4), np.uint8)
    images[...] = (0, 0, 255, 255)
    images[:, 24:, :, 3] = alpha
    for index in range(6):
        images[index, 4:14, 8 * index : 8 * index + 10] = (255, 0, 0, 255)
    return [Image.fromarray(image) for image in images]


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_frames_and_times(tmp_path, name, options):
    source = write_animation(tmp_path / name, squares(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader = open_video(source, 25, strict=True)
        frames = list(reader)
    assert isinstance(reader, AnimationReader)
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(start, 1000) for start in STARTS]
    assert frames[-1].duration * frames[-1].time_base == 1
    assert reader.num_frames == 6
    assert reader.frame_rate == Fraction(6, 1) / Fraction(1420, 1000)
    assert (reader.width, reader.height) == (64, 48)
    for index, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3)
        assert np.abs(frame.image[9, 8 * index + 5].astype(int) - (255, 0, 0)).max() <= 2
        assert np.abs(frame.image[20, 30].astype(int) - (0, 0, 255)).max() <= 2
    rest = list(reader.read(4))
    assert [frame.pts for frame in rest] == [frame.pts for frame in frames[4:]]
    assert np.array_equal(rest[0].image, frames[4].image)


@pytest.mark.parametrize(("name", "options"), [("in.gif", {"disposal": 2}), *FORMATS[1:]])
def test_transparent_parts_are_white(tmp_path, name, options):
    source = write_animation(tmp_path / name, squares(alpha=0), **options)
    with pytest.warns(UserWarning, match=rf"{name}: transparent parts are shown on white"):
        reader = AnimationReader(source)
    for frame in reader:
        assert (frame.image[40] == 255).all()
        assert np.abs(frame.image[20, 63].astype(int) - (0, 0, 255)).max() <= 2


@pytest.mark.parametrize("target", ["out.mp4", "out.webm", "out"])
def test_animations_are_written_as_videos(tmp_path, target):
    images = [Image.fromarray(gradient(index, 96, 64)) for index in range(6)]
    source = write_animation(tmp_path / "in.webp", images, lossless=True)
    with open_video(source, 25) as reader, create_video(tmp_path / target, reader, 96, 64, False) as writer:
        for frame in reader:
            writer.write(frame.image, frame.pts, frame.duration)
    if target == "out":
        assert len(ImageFolderReader(tmp_path / "out").names) == 6
    else:
        assert times(tmp_path / target) == [Fraction(start, 1000) for start in STARTS]
        *_, last = VideoReader(tmp_path / target)
        assert np.abs(last.image.astype(int) - gradient(5, 96, 64)).mean() < 3


def test_durations_of_old_gifs(tmp_path):
    source = write_animation(tmp_path / "in.gif", squares(), [0, 10, 20, 0, 0, 0])
    assert [float(frame.pts * frame.time_base) for frame in AnimationReader(source)] == [0, 0.1, 0.2, 0.22, 0.32, 0.42]


def test_the_image_of_a_png_for_other_programs_is_not_shown(tmp_path):
    first, *rest = squares()
    source = tmp_path / "in.png"
    Image.new("RGBA", first.size, "green").save(
        source, save_all=True, append_images=[first, *rest], duration=40, default_image=True
    )
    frames = list(AnimationReader(source))
    assert len(frames) == 6
    assert tuple(frames[0].image[9, 5]) == (255, 0, 0)


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_images_without_motion_are_no_videos(tmp_path, name, options):
    squares()[0].save(tmp_path / name, **options)
    with pytest.raises(ValueError, match=f"{name} is not a video, but an image"):
        open_video(tmp_path / name, 25)


@pytest.mark.parametrize("name", ["in.gif", "in.png"])
def test_truncated_animations(tmp_path, name):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(20)]
    whole = write_animation(tmp_path / f"whole_{name}", images, 40)
    cut = truncate(whole, tmp_path / name)
    reader = open_video(cut, 25)
    assert isinstance(reader, AnimationReader)
    with pytest.warns(UserWarning, match="truncated"):
        frames = list(reader)
    assert 5 < len(frames) < 20
    assert reader.damage.is_truncated
    with pytest.raises(ValueError, match="damaged"):
        list(open_video(cut, 25, strict=True))


def test_a_gif_cannot_be_written(tmp_path):
    source = write_clip(tmp_path / "in.mp4", num_frames=2)
    with (
        VideoReader(source) as reader,
        pytest.raises(ValueError, match=r"out\.gif: the output must be one of \.mp4, \.mov, \.mkv, \.webm"),
    ):
        create_video(tmp_path / "out.gif", reader, 96, 64, False)
