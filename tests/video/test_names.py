"""Names of files that other programs give: FFmpeg must not take them for URLs, options or patterns."""

import os
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from keep_hf.video.image_folder import ImageFolderReader, ImageFolderWriter
from keep_hf.video.open import open_video
from keep_hf.video.part_folder import PartFolder, has_saved_work, part_path
from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter
from media import copy_clip, gradient, times, write_clip


NAMES = [
    *("2024-11-26T12:30:01.mp4", "http:clip.mp4", "file:clip.mp4", "pipe:1.mp4", "concat:a|b.mp4", "data:,x.mov"),
    *(
        "-i.mp4",
        "-.mp4",
        "100%.mp4",
        "%03d.mkv",
        "a b'c.mp4",
        "[1,2]*?.mp4",
        "x" * 251 + ".mp4",
        "日本" * 41 + "é.mp4",
    ),
]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not allow these names")
@pytest.mark.parametrize("name", NAMES)
def test_relative_names(tmp_path, monkeypatch, name):
    source = write_clip(tmp_path / "plain.mkv", num_frames=3, audio_codec="aac")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    os.rename(source, Path("in") / name)
    copy_clip(Path("in") / name, Path(name))
    assert times(Path(name)) == [Fraction(index, 25) for index in range(3)]
    copy_clip(Path(name), Path("in") / f"again{Path(name).suffix}")
    assert sorted(os.listdir()) == sorted(["in", name])


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("https://example.org/a.mp4", "https://example.org/a.mp4"),
        ("HTTP:/example.org/a.mp4", "HTTP://example.org/a.mp4"),
        ("rtsp://camera:554/stream", "rtsp://camera:554/stream"),
        ("file:///home/a.mp4", "file://home/a.mp4"),
        ("s3://bucket/a b.mp4", "s3://bucket/a b.mp4"),
    ],
)
def test_urls_are_rejected(path, url):
    for read in (VideoReader, ImageFolderReader, lambda name: open_video(name, 25)):
        with pytest.raises(ValueError, match="is a URL; download the video first") as caught:
            read(path)
        assert str(caught.value).startswith(f"{url} is a URL")


def test_standard_input_is_rejected():
    with pytest.raises(ValueError, match="- stands for standard input, which is not supported"):
        VideoReader("-")


@pytest.mark.parametrize("name", ["a.mp4", "x" * 250, "é" * 125])
def test_long_names_have_a_folder_for_unfinished_work(tmp_path, name):
    target = tmp_path / name
    assert len(os.fsencode(part_path(target).name)) <= 255
    assert part_path(target) != part_path(tmp_path / f"y{name[1:]}")
    assert not has_saved_work(target)
    images = not target.suffix
    writer = ImageFolderWriter(target, width=96, height=64) if images else VideoWriter(
        target, width=96, height=64, frame_rate=25
    )  # fmt: skip
    with pytest.raises(RuntimeError), writer:
        writer.write(gradient(0, 96, 64))
        assert not has_saved_work(target)
        writer.end_segment(None)
        raise RuntimeError
    assert has_saved_work(target)


def test_a_foreign_folder_in_the_place_of_unfinished_work(tmp_path):
    (tmp_path / "out.mp4.part").mkdir()
    (tmp_path / "out.mp4.part" / "letter.txt").touch()
    with pytest.raises(ValueError, match=r"out\.mp4\.part is needed .* holds files that this program has not written"):
        PartFolder(tmp_path / "out.mp4", {}).open(resume=True)
    assert not has_saved_work(tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4.part" / "letter.txt").exists()
