"""The formats of clips."""

import numpy as np
import pytest
import torch
from PIL import Image

from keep_hf.video.clip_formats import read_frames, write_frames


CLIP = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "video",
    [
        CLIP,
        list(CLIP),
        iter(CLIP),
        CLIP / 255,
        CLIP.astype(np.float32) / 255,
        CLIP[:, ::-1][:, ::-1],
        [Image.fromarray(frame) for frame in CLIP],
        [Image.fromarray(CLIP[0]), CLIP[1], CLIP[2] / 255],
        torch.from_numpy(CLIP).permute(0, 3, 1, 2) / 255,
        torch.from_numpy(CLIP).permute(0, 3, 1, 2).double() / 255,
        (torch.from_numpy(CLIP).permute(0, 3, 1, 2) / 255).requires_grad_(),
    ],
)
def test_every_format_is_read_to_the_same_frames(video):
    frames = read_frames(video)
    assert all(frame.dtype == np.uint8 and frame.flags.c_contiguous for frame in frames)
    np.testing.assert_array_equal(frames, CLIP)


def test_grey_and_alpha():
    np.testing.assert_array_equal(read_frames(CLIP[..., :1]), CLIP[..., :1].repeat(3, axis=-1))
    np.testing.assert_array_equal(read_frames(np.concatenate([CLIP, CLIP[..., :1]], axis=-1)), CLIP)
    grey = [Image.fromarray(frame[..., 0]) for frame in CLIP]
    np.testing.assert_array_equal(read_frames(grey), CLIP[..., :1].repeat(3, axis=-1))


def test_rounding_errors_of_floats_are_tolerated():
    video = np.array([-0.0005, 0.5, 1.0005], np.float32).reshape(1, 1, 1, 3)
    assert read_frames(video)[0].ravel().tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (CLIP[0], r"must be \(t, h, w, c\); this one is \(6, 8, 3\)"),
        (CLIP[None], r"\(1, 3, 6, 8, 3\)"),
        (CLIP[:0], "no frames"),
        ([], "no frames"),
        (iter(()), "no frames"),
        (np.zeros((2, 0, 8, 3), np.uint8), r"Frame 0 .*\(0, 8, 3\)"),
        (np.zeros((2, 0, 8, 3)), r"Frame 0 .*\(0, 8, 3\)"),
        (CLIP[..., :2], r"Frame 0 .*\(6, 8, 2\)"),
        (CLIP.transpose(0, 3, 1, 2), r"\(3, 6, 8\)"),
        (CLIP.astype(np.int64), "Frame 0 is int64"),
        (CLIP.astype(np.float32), r"Frame 0 has floats from .* to 25.*as uint8"),
        (CLIP / 127.5 - 1, r"Frame 0 has floats from -1 to"),
        (np.full((1, 2, 2, 3), np.nan), "Frame 0 .*not finite"),
        ([CLIP[0] / 255, np.full((6, 8, 3), np.inf)], "Frame 1 .*not finite"),
        ([CLIP[0], CLIP[1, :4]], r"the same size; there are \[\(4, 8\), \(6, 8\)\]"),
        ([CLIP[0], "frame.png"], "Frame 1 must be .* it is str"),
        (torch.from_numpy(CLIP).permute(0, 3, 1, 2), r"float .* torch.uint8 \(3, 3, 6, 8\).*numpy"),
        (torch.zeros(1, 2, 3, 6, 8), r"\(1, 2, 3, 6, 8\)"),
        (torch.zeros(2, 6, 8, 3), r"\(8, 3, 6\)|\(t, c, h, w\)"),
        (Image.fromarray(CLIP[0]), "list of frames.*not Image"),
        (7, "not int"),
        (None, "not NoneType"),
    ],
)
def test_invalid_clips(video, message):
    with pytest.raises(ValueError, match=message):
        read_frames(video)


def test_a_clip_survives_writing_and_reading():
    images = write_frames(iter(CLIP), "pil")
    np.testing.assert_array_equal([np.array(image) for image in images[0]], CLIP)
    for output_type in ("np", "pt"):
        np.testing.assert_array_equal(read_frames(write_frames(iter(CLIP), output_type)[0]), CLIP)


def test_images_of_16_bits_are_scaled_to_8():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    (frame,) = read_frames([Image.fromarray(ramp)])
    np.testing.assert_array_equal(frame, np.rint(ramp / 257).astype(np.uint8)[:, :, None].repeat(3, axis=2))
    with pytest.raises(ValueError, match="mode F"):
        read_frames([Image.fromarray(ramp.astype(np.float32))])
