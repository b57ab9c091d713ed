"""Frames as 10-bit YUV: exact copies of what files contain, and changes of parts."""

import av
import numpy as np
import pytest

from deep_media import BT2020, HLG, PQ, decode, smooth_planes, to_frame, write_deep
from keep_hf.video.colour import Colour
from keep_hf.video.deep.deep_format import DeepFormat
from keep_hf.video.deep.deep_image import Box, DeepImage, deep_image
from keep_hf.video.reader import VideoReader
from media import gradient, write_clip


FORMATS = [
    DeepFormat(Colour()),
    DeepFormat(Colour(), True),
    DeepFormat(Colour(9, BT2020, PQ)),
    DeepFormat(Colour(9, BT2020, HLG)),
]
WHOLE = Box(0, 0, 96, 64)


def read_one(path) -> DeepImage:
    with VideoReader(path) as reader:
        return next(reader.read(deep=True)).deep


def chroma(index: int, width: int, height: int) -> np.ndarray:
    return smooth_planes(index, 2 * width, 2 * height)[1]


def test_10_bits_are_copied_without_any_change(tmp_path):
    planes = smooth_planes(0, 96, 64)
    source = write_deep(tmp_path / "in.mkv", [planes], codec="ffv1")
    for read, stored in zip(read_one(source).planes, planes, strict=True):
        assert np.array_equal(read, stored)


@pytest.mark.parametrize(("bits", "shift"), [(9, -1), (12, 2), (14, 4), (16, 6)])
def test_other_depths_are_rounded_to_10_bits(tmp_path, bits, shift):
    random = np.random.default_rng(bits)
    planes = [random.integers(0, 1 << bits, shape, dtype=np.uint16) for shape in ((64, 96), (32, 48), (32, 48))]
    source = write_deep(tmp_path / "in.mkv", [planes], codec="ffv1", pixel_format=f"yuv420p{bits}le")
    for read, stored in zip(read_one(source).planes, planes, strict=True):
        assert np.abs(read - np.minimum(stored / 2.0**shift, 1023)).max() <= 0.5


@pytest.mark.parametrize("pixel_format", ["yuv422p10le", "yuv444p10le", "yuv444p12le", "yuv422p16le"])
def test_other_layouts_keep_their_luma(tmp_path, pixel_format):
    bits = int(pixel_format[7:-2])
    luma = smooth_planes(0, 96, 64)[0]
    fine = [luma, *[chroma(0, 48 if "422" in pixel_format else 96, 64)] * 2]
    source = write_deep(
        tmp_path / "in.mkv", [[plane << (bits - 10) for plane in fine]], codec="ffv1", pixel_format=pixel_format
    )
    read = read_one(source).planes
    assert np.array_equal(read[0], luma)
    assert read[1].shape == (32, 48)
    assert np.abs(read[1] - chroma(0, 48, 32).astype(int)).max() <= 2


@pytest.mark.parametrize("colour_range", [1, 2])
def test_grey_has_neutral_colour(tmp_path, colour_range):
    luma = smooth_planes(0, 96, 64)[0]
    source = write_deep(
        tmp_path / "in.mkv", [[luma]], codec="ffv1", pixel_format="gray10le", colour=(1, 1, 1, colour_range)
    )
    read = read_one(source)
    assert np.array_equal(read.planes[0], luma)
    assert (read.planes[1] == 512).all()
    assert read.format.full_range == (colour_range == 2)
    assert np.abs(read.to_rgb(WHOLE) - next(iter(VideoReader(source))).image).max() < 1.5


@pytest.mark.parametrize("pixel_format", ["gbrp10le", "gbrp16le", "rgb48le"])
def test_rgb_becomes_yuv_of_limited_range(tmp_path, pixel_format):
    image = gradient(0, 96, 64)
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixel_format
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=stream.pix_fmt)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    read = read_one(tmp_path / "in.mkv")
    assert not read.format.full_range
    assert np.abs(read.to_rgb(WHOLE) - image).mean() < 1


def test_odd_sides_keep_all_pixels_and_4_4_4(tmp_path):
    read = read_one(write_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format="yuv444p10le", width=97, height=63))
    assert [plane.shape for plane in read.planes] == [(63, 97)] * 3
    assert read.resized(194, 126).size == (194, 126)


def test_transparency_does_not_change_the_colours(tmp_path):
    options = {"codec": "ffv1", "width": 96, "height": 64}
    with pytest.warns(UserWarning, match="transparency"):
        read = read_one(write_clip(tmp_path / "in.mkv", pixel_format="yuva420p10le", **options))
    expected = decode(tmp_path / "in.mkv")[0]
    assert all(np.array_equal(a, b) for a, b in zip(read.planes, expected[:3], strict=True))


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_frames_are_rotated_like_their_images(tmp_path, rotation):
    planes = smooth_planes(0, 96, 64)
    options = {"x265-params": "lossless=1:log-level=error"}
    source = write_deep(tmp_path / "in.mp4", [planes] * 3, options=options, rotation=rotation)
    turns = {90: 1, 180: 2, -90: 3}[rotation]
    for read, stored in zip(read_one(source).planes, planes, strict=True):
        assert np.array_equal(read, np.rot90(stored, turns))


@pytest.mark.parametrize("matrix", [1, 5, 7, 9])
@pytest.mark.parametrize("full_range", [False, True])
def test_rgb_is_that_of_swscale(matrix, full_range):
    planes = smooth_planes(0, 96, 64)
    frame = to_frame(planes, "yuv420p10le")
    frame.colorspace, frame.color_range = matrix, 2 if full_range else 1
    expected = frame.reformat(format="gbrp16le", src_colorspace=matrix, dst_colorspace=matrix).to_ndarray() / 257
    found = DeepImage(planes, DeepFormat(Colour(matrix), full_range)).to_rgb(WHOLE)
    assert np.abs(np.clip(found, 0, 255) - expected).max() < 2.5  # chroma is interpolated there and repeated here
    assert np.abs(np.clip(found, 0, 255) - expected).mean() < 0.5


@pytest.mark.parametrize("format", FORMATS)
def test_an_equal_image_changes_nothing(format):
    random = np.random.default_rng(0)
    planes = [random.integers(0, 1024, shape, dtype=np.uint16) for shape in ((64, 96), (32, 48), (32, 48))]
    image = DeepImage([plane.copy() for plane in planes], format)
    before = image.to_rgb(WHOLE)
    image.change(WHOLE, before, before.copy())
    assert all(np.array_equal(a, b) for a, b in zip(image.planes, planes, strict=True))


@pytest.mark.parametrize("format", FORMATS)
def test_a_change_stays_in_its_part_and_has_the_result_that_was_asked_for(format):
    planes = smooth_planes(0, 96, 64)
    image = DeepImage([plane.copy() for plane in planes], format)
    box = Box(20, 10, 60, 50)
    assert image.even(Box(21, 11, 59, 49)) == box
    before = image.to_rgb(box)
    after = np.clip(before, 0, 250) + np.linspace(0, 3, 40, dtype=np.float32)[:, None, None]
    image.change(box, before, after)
    inside = np.s_[10:50, 20:60]
    assert (image.planes[0][inside] != planes[0][inside]).any()
    for plane, old, part in zip(image.planes, planes, (inside, np.s_[5:25, 10:30], np.s_[5:25, 10:30]), strict=True):
        plane[part] = old[part]
        assert np.array_equal(plane, old)


@pytest.mark.parametrize("format", FORMATS[:2])
def test_a_change_has_the_precision_of_10_bits(format):
    planes = [np.full((64, 96), 400, np.uint16), *[np.full((32, 48), 512, np.uint16) for _ in range(2)]]
    image = DeepImage(planes, format)
    before = image.to_rgb(WHOLE)
    ramp = np.linspace(0, 10, 96, dtype=np.float32)[None, :, None]
    image.change(WHOLE, before, before + ramp)
    steps = np.diff(image.planes[0][0].astype(int))
    assert set(steps) == {0, 1}  # without the steps of 4 levels that 8 bits would have
    assert (image.planes[1] == 512).all()


def test_a_change_does_not_lead_out_of_the_range_but_values_that_are_out_of_it_stay():
    luma = np.full((64, 96), 900, np.uint16)
    luma[:, 48:] = 1000  # whiter than white
    image = DeepImage([luma, *[np.full((32, 48), 512, np.uint16) for _ in range(2)]], FORMATS[0])
    before = image.to_rgb(WHOLE)
    image.change(WHOLE, before, before + 40)
    assert (image.planes[0][:, :48] == 940).all()
    assert (image.planes[0][:, 48:] == 1000).all()


@pytest.mark.parametrize("format", FORMATS)
def test_images_of_8_bits_are_converted_and_back(format):
    image = gradient(0, 96, 64)
    assert np.abs(deep_image(image, format).to_rgb(WHOLE) - image).mean() < 1.5
    assert deep_image(image[:63], format).planes[1].shape == (63, 96)


def test_enlarged_frames_keep_10_bits():
    image = DeepImage(smooth_planes(0, 96, 64), FORMATS[0])
    larger = image.resized(192, 128)
    assert [plane.shape for plane in larger.planes] == [(128, 192), (64, 96), (64, 96)]
    assert len(np.unique(larger.planes[0])) > 256
    assert max(plane.max() for plane in larger.planes) <= 1023
    assert image.resized(96, 64).planes[0] is not image.planes[0]
