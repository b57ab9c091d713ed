"""`make demo`, on a few frames."""

import contextlib
import io
import re
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from keep_hf import KeepPipeline, VideoReader
from keep_hf.faces.alignment import crop_face, estimate_alignment
from media import packets
from paths import REPOSITORY


pytestmark = pytest.mark.slow


DEMO = REPOSITORY / "examples" / "demo.py"
NUM_FRAMES = 6
SIZE = 384


def run(*arguments: object) -> str:
    """Run the script in this process, and return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(DEMO))["main"](list(map(str, arguments)))
    return printed.getvalue()


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, run("--output", folder, "--frames", NUM_FRAMES)


def test_all_videos_have_all_frames_and_the_sound(demo):
    folder, _ = demo
    sizes = {"sharp": (SIZE, SIZE), "input": (SIZE // 2, SIZE // 2), "output": (SIZE, SIZE)}
    for name, size in (sizes | {"before_after": (2 * SIZE, SIZE)}).items():
        path = folder / f"{name}.mp4"
        with VideoReader(path) as reader:
            assert (reader.width, reader.height) == size
            assert reader.frame_rate == 25
            assert sum(1 for _ in reader) == NUM_FRAMES
        assert packets(path, "audio") == packets(folder / "sharp.mp4", "audio")


def test_the_strip_has_a_row_for_input_restored_and_truth(demo):
    folder, _ = demo
    with Image.open(folder / "strip.jpg") as strip:
        assert strip.size == (5 * SIZE, 3 * SIZE)
        last = np.asarray(strip)[-SIZE:, -SIZE:].astype(float)
    with VideoReader(folder / "sharp.mp4") as reader:
        *_, frame = reader
    assert np.abs(last - frame.image).mean() < 6


def test_psnr_and_ssim_of_the_face_improve(demo):
    _, printed = demo
    assert "with 1 tracked face(s)" in printed
    psnr_before, psnr_after, ssim_before, ssim_after = map(
        float, re.search(r"^face +([\d.]+) -> +([\d.]+) +([\d.]+) -> +([\d.]+)$", printed, re.M).groups()
    )
    assert psnr_after > psnr_before
    assert ssim_after > ssim_before


def test_the_measured_crop_is_the_face():
    demo = runpy.run_path(str(DEMO))
    portrait, landmarks, size = skimage.data.astronaut(), demo["LANDMARKS"], demo["FACE_SIZE"]
    matrix = demo["camera"](17)
    frame = cv2.warpAffine(portrait, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC)
    moved = cv2.transform(landmarks[None], matrix)[0]
    expected = crop_face(portrait, estimate_alignment(landmarks, size), size)
    found = crop_face(frame, estimate_alignment(moved, size), size)
    assert np.abs(found.astype(float) - expected).mean() < 2
    # The face has the same size in the frame as in the crop, and no part of it is outside.
    scale = np.hypot(*estimate_alignment(moved, size)[:, 0])
    assert scale == pytest.approx(1, abs=0.1)
    assert moved.min() > 0
    assert moved.max() < SIZE


def test_a_video_of_the_user(demo, tmp_path, monkeypatch):
    folder, _ = demo
    restore_video = KeepPipeline.restore_video

    def restore_in_40_seconds(*args, **options):
        return restore_video(*args, **options) | {"seconds": {"networks": 30.0, "total": 40.0}}

    monkeypatch.setattr(KeepPipeline, "restore_video", restore_in_40_seconds)
    printed = run("--output", tmp_path, "--video", folder / "input.mp4")
    assert (tmp_path / "input.mp4").read_bytes() == (folder / "input.mp4").read_bytes()
    for name, width in (("output", SIZE // 2), ("before_after", SIZE)):
        with VideoReader(tmp_path / f"{name}.mp4") as reader:
            assert (reader.width, reader.height) == (width, SIZE // 2)
            assert sum(1 for _ in reader) == NUM_FRAMES
    with Image.open(tmp_path / "strip.jpg") as strip:
        assert strip.size == (5 * SIZE // 2, SIZE)
    assert "restored in 40 s" in printed
    assert "PSNR" not in printed


def test_a_missing_video_is_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(DEMO))["main"](["--video", "missing.mp4"])
    assert stopped.value.code == 2
    assert "there is no file missing.mp4" in capsys.readouterr().err
