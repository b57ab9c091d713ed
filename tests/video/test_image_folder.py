"""Reading and writing of folders of images."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from keep_hf.video.image_folder import ImageFolderReader, ImageFolderWriter
from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter
from media import difference, gradient, times, write_clip


def make_folder(path: Path, names: tuple[str, ...] = ("img2.png", "img10.png", "img1.png"), **options) -> Path:
    """Write gradients in natural order of the names."""
    path.mkdir()
    for index, name in enumerate(sorted(names, key=lambda name: (len(name), name))):
        Image.fromarray(gradient(index, 96, 64)).save(path / name, **options)
    return path


def test_order_and_times(tmp_path):
    folder = make_folder(tmp_path / "in")
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"not an image either")
    with ImageFolderReader(folder, 12.5) as reader:
        assert (reader.width, reader.height, reader.num_frames, float(reader.frame_rate)) == (96, 64, 3, 12.5)
        assert reader.names == ["img1.png", "img2.png", "img10.png"]
        frames = list(reader)
        assert [float(frame.pts * frame.time_base) for frame in frames] == [0, 0.08, 0.16]
        assert [frame.pts + frame.duration for frame in frames] == [1, 2, 3]
        assert all(np.array_equal(frame.image, gradient(index, 96, 64)) for index, frame in enumerate(frames))
        (last,) = reader.read(2)
        assert last.pts == 2
        assert np.array_equal(last.image, frames[2].image)


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "PNG"])
def test_file_formats(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {"quality": 98} if suffix in ("jpg", "jpeg") else {}
    reader = ImageFolderReader(make_folder(tmp_path / "in", (f"0.{suffix}",), **options))
    (frame,) = reader
    assert frame.image.dtype == np.uint8
    assert difference(frame.image, gradient(0, 96, 64)) <= (8 if suffix in ("jpg", "jpeg") else 0)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_and_sixteen_bits(tmp_path, suffix, grey, bits):
    image = gradient(0, 96, 64)
    if grey:
        image = np.repeat(image[..., :1], 3, axis=2)
    stored = image[..., 0] if grey else image[..., ::-1]
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / f"0.{suffix}"), stored.astype(np.uint16) * 257 if bits == 16 else stored)
    (frame,) = ImageFolderReader(tmp_path / "in")
    assert np.array_equal(frame.image, image)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_transparency_is_ignored_with_a_warning(tmp_path, suffix):
    image = gradient(0, 96, 64)
    (tmp_path / "in").mkdir()
    with_alpha = Image.fromarray(np.dstack([image, np.full((64, 96), 128, np.uint8)]))
    with_alpha.save(tmp_path / "in" / f"0.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    with pytest.warns(UserWarning, match="transparency is ignored"):
        reader = ImageFolderReader(tmp_path / "in")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (frame,) = reader
    assert np.array_equal(frame.image, image)


def test_floating_point_images_are_rejected(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.ones((64, 96), np.float32)).save(tmp_path / "in" / "0.tif")
    with pytest.raises(ValueError, match=r"0\.tif has floating-point colours; convert it"):
        ImageFolderReader(tmp_path / "in")


def test_photographs_are_rotated_upright(tmp_path):
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise for display
    Image.fromarray(gradient(0, 96, 64)).save(tmp_path / "in" / "0.png", exif=exif)
    reader = ImageFolderReader(tmp_path / "in")
    assert (reader.width, reader.height) == (64, 96)
    assert np.array_equal(next(iter(reader)).image, np.rot90(gradient(0, 96, 64), -1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif"])
@pytest.mark.parametrize("keep", [0, 0.3, 0.9])
def test_damaged_images(tmp_path, suffix, keep):
    folder = make_folder(tmp_path / "in", (f"1.{suffix}", f"2.{suffix}", f"3.{suffix}"))
    content = (folder / f"2.{suffix}").read_bytes()
    (folder / f"2.{suffix}").write_bytes(content[: int(keep * len(content))])
    seen = 0
    with pytest.raises(ValueError, match=rf"2\.{suffix} is damaged") as caught:
        for _ in ImageFolderReader(folder, strict=True):
            seen += 1
    assert seen == 1
    with pytest.warns(UserWarning, match=r"1 frame could not be decoded .*frame 1\); the last good frame"):
        first, second, third = ImageFolderReader(folder)
    assert np.array_equal(first.image, second.image)
    assert not np.array_equal(first.image, third.image)
    assert [first.pts, second.pts, third.pts] == [0, 1, 2]
    (folder / f"1.{suffix}").write_bytes(content[:2])
    with pytest.raises(ValueError, match=rf"1\.{suffix} is damaged"):  # nothing can take its place
        ImageFolderReader(folder)
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_read(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.png").touch()
    folder = make_folder(tmp_path / "in")
    Image.fromarray(gradient(0, 97, 64)).save(folder / "img11.png")
    for path, frame_rate, message in (
        (tmp_path / "nowhere", 25, "does not exist"),
        (tmp_path / "file.png", 25, "is not a folder"),
        (tmp_path / "empty", 25, "contains no images"),
        (folder, 0, "frame_rate must be positive"),
        (folder, float("nan"), "frame_rate must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageFolderReader(path, frame_rate)
    with pytest.raises(ValueError, match=r"img11\.png has 97 x 64 pixels, the first image 96 x 64"):
        list(ImageFolderReader(folder, strict=True))
    with pytest.warns(UserWarning, match="frame size changes; 1 frame was fitted"):
        assert {frame.image.shape for frame in ImageFolderReader(folder)} == {(64, 96, 3)}


def test_images_are_named_after_those_of_the_source(tmp_path):
    folder = make_folder(tmp_path / "in", ("a9.bmp", "a10.bmp"))
    (tmp_path / "out").mkdir()  # an empty folder is accepted
    with (
        ImageFolderReader(folder) as reader,
        ImageFolderWriter(tmp_path / "out", reader, width=192, height=128) as writer,
    ):
        for frame in reader:
            writer.write(frame.image.repeat(2, axis=0).repeat(2, axis=1), frame.pts, frame.duration)
            assert list((tmp_path / "out").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a10.png", "a9.png"]
    result = list(ImageFolderReader(tmp_path / "out"))
    assert all(np.array_equal(frame.image[::2, ::2], gradient(i, 96, 64)) for i, frame in enumerate(result))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_from_video_to_images_and_back(tmp_path):
    source = write_clip(tmp_path / "in.mp4", frame_rate=30)
    with VideoReader(source) as reader, ImageFolderWriter(tmp_path / "out", reader, width=96, height=64) as writer:
        images = [frame.image for frame in reader]
        for image in images:
            writer.write(image)
    with (
        ImageFolderReader(tmp_path / "out", 30) as reader,
        VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64) as writer,
    ):
        assert reader.names[-1] == "000011.png"
        for frame, image in zip(reader, images, strict=True):
            assert np.array_equal(frame.image, image)
            writer.write(frame.image, frame.pts, frame.duration)
    assert times(tmp_path / "out.mp4") == times(source)


def test_resuming(tmp_path):
    size = {"width": 96, "height": 64}
    with pytest.raises(RuntimeError), ImageFolderWriter(tmp_path / "out", **size) as writer:
        for index in range(5):
            writer.write(gradient(index, 96, 64))
            if index == 2:
                writer.end_segment({"name": "first"})
        raise RuntimeError
    assert not (tmp_path / "out").exists()
    with (
        pytest.raises(ValueError, match="width was 96 and is 90"),
        ImageFolderWriter(tmp_path / "out", width=90, height=64, resume=True),
    ):
        pass
    with ImageFolderWriter(tmp_path / "out", **size, resume=True) as writer:
        assert writer.resumed == {"name": "first"}
        assert writer.num_written == 3
        assert len(list((tmp_path / "out.part" / "images").iterdir())) == 3
        writer.write(gradient(3, 96, 64))
        with (
            pytest.raises(ValueError, match="being written by another process"),
            ImageFolderWriter(tmp_path / "out", **size),
        ):
            pass
    result = list(ImageFolderReader(tmp_path / "out"))
    assert len(result) == 4
    assert all(np.array_equal(frame.image, gradient(i, 96, 64)) for i, frame in enumerate(result))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_resuming_where_the_output_is_inside_the_source(tmp_path):
    """What the writer adds to the folder, or anything else that is no frame, does not make it another source."""
    folder, size = make_folder(tmp_path / "in"), {"width": 96, "height": 64}
    with (
        pytest.raises(RuntimeError),
        ImageFolderWriter(folder / "out", ImageFolderReader(folder), **size) as writer,
    ):
        writer.write(gradient(0, 96, 64))
        writer.end_segment(None)
        raise RuntimeError
    (folder / "notes.txt").write_text("not an image")
    with ImageFolderWriter(folder / "out", ImageFolderReader(folder), **size, resume=True) as writer:
        assert writer.num_written == 1
    with pytest.raises(RuntimeError), ImageFolderWriter(folder / "again", ImageFolderReader(folder), **size) as writer:
        writer.write(gradient(0, 96, 64))
        writer.end_segment(None)
        raise RuntimeError
    Image.fromarray(gradient(6, 96, 64)).save(folder / "img4.png")
    with (
        pytest.raises(ValueError, match="size of the source was"),
        ImageFolderWriter(folder / "again", ImageFolderReader(folder), **size, resume=True),
    ):
        pass


def test_folders_that_cannot_be_written(tmp_path):
    folder = make_folder(tmp_path / "in", ("a.png", "a.bmp"))
    (tmp_path / "file").touch()
    for path, options, message in (
        (tmp_path / "nowhere" / "out", {}, "create it first"),
        (tmp_path / "file", {}, "is a file; pass a folder name"),
        (folder, {}, "is not empty; choose another"),
        (tmp_path / "out", {"width": 0}, "must be positive"),
        (tmp_path / "out", {"source": ImageFolderReader(folder)}, "two images whose names differ only in the suffix"),
    ):
        with pytest.raises(ValueError, match=message), ImageFolderWriter(path, **{"width": 9, "height": 9, **options}):
            pass
    with (
        pytest.raises(ValueError, match=r"image must be uint8 of shape \(64, 96, 3\)"),
        ImageFolderWriter(tmp_path / "out", width=96, height=64) as writer,
    ):
        writer.write(gradient(0, 64, 64))
    with pytest.raises(ValueError, match="no frames"), ImageFolderWriter(tmp_path / "out", width=96, height=64):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "in"]
