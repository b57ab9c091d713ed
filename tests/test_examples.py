"""The examples beside the demo: frames from a camera, frames from a generator."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keep_hf import KeepPipeline
from keep_hf.video.reader import VideoReader
from paths import REPOSITORY


EXAMPLES = REPOSITORY / "examples"


@pytest.fixture(scope="module")
def portrait(tmp_path_factory) -> Path:
    """Some frames of a face."""
    path = tmp_path_factory.mktemp("portrait") / "in.mp4"
    runpy.run_path(str(EXAMPLES / "demo.py"))["write_moving_portrait"](path, 6)
    return path


def test_webcam(portrait, tmp_path, monkeypatch, capsys):
    """A file stands in for the camera; OpenCV reads both in the same way."""
    target = tmp_path / "out.mp4"
    monkeypatch.setattr(sys, "argv", ["webcam.py", str(target), "--source", str(portrait)])
    runpy.run_path(str(EXAMPLES / "webcam.py"), run_name="__main__")
    assert "6 frames" in capsys.readouterr().out
    before, after = ([frame.image for frame in VideoReader(path).read()] for path in (portrait, target))
    assert len(after) == 6 and after[0].shape == before[0].shape
    assert np.abs(after[3].astype(int) - before[3]).max() > 20, "the face is as it was"

    monkeypatch.setattr(sys, "argv", ["webcam.py", str(target), "--source", "no camera"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(EXAMPLES / "webcam.py"), run_name="__main__")
    assert "there is no camera no camera" in capsys.readouterr().err


def test_after_diffusers(portrait):
    generate = runpy.run_path(str(EXAMPLES / "after_diffusers.py"))["generate"]
    pictures = [Image.fromarray(frame.image) for frame in VideoReader(portrait).read()]

    def generator(prompt: str, output_type: str, num_frames: int) -> SimpleNamespace:
        assert (prompt, output_type, num_frames) == ("a face", "pil", 6)
        return SimpleNamespace(frames=[pictures])

    keep = KeepPipeline.from_pretrained("keep-tiny")
    restored = generate(generator, keep, "a face", 25.0, num_frames=6)
    assert len(restored) == 6 and restored[0].size == pictures[0].size
    assert np.abs(np.array(restored[3]).astype(int) - np.array(pictures[3])).max() > 20
