"""Videos are matched with their references, and both are read together at one size."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from conftest import make_clip
from keep_hf.evaluation.pairs import VideoPair, pair_videos
from media import write_lossless


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_two_videos_need_no_common_name(tmp_path):
    touch(tmp_path, "a.mp4", "b.mkv", "images/0.png")
    a, b, images = (tmp_path / name for name in ("a.mp4", "b.mkv", "images"))
    assert pair_videos(a, b) == [("a", a, b)]
    assert pair_videos(images, b) == [("images", images, b)]
    assert pair_videos(a, None) == [("a", a, None)]


def test_folders_are_matched_by_paths_without_suffix(tmp_path):
    mine = touch(tmp_path / "mine", "b.mp4", "deep/a.MKV", "notes.txt")
    theirs = touch(tmp_path / "theirs", "b.mkv", "deep/a.mp4")
    assert pair_videos(mine, theirs) == [
        ("b", mine / "b.mp4", theirs / "b.mkv"),
        ("deep/a", mine / "deep" / "a.MKV", theirs / "deep" / "a.mp4"),
    ]
    assert [name for name, *_ in pair_videos(mine, None)] == ["b", "deep/a"]


def test_videos_without_a_counterpart_are_named(tmp_path):
    mine = touch(tmp_path / "mine", "a.mp4", "b.mp4")
    theirs = touch(tmp_path / "theirs", "b.mp4", "deep/a.mp4")
    with pytest.raises(ValueError, match=r"mine/a\.mp4, .*theirs/deep/a\.mp4;") as error:
        pair_videos(mine, theirs)
    assert "b.mp4" not in str(error.value)
    with pytest.raises(ValueError, match=r"theirs/b\.mp4"):
        pair_videos(mine / "a.mp4", theirs)
    touch(mine, "a.mkv")
    with pytest.raises(ValueError, match=r"a\.mkv and .*a\.mp4 have the same name"):
        pair_videos(mine, theirs)
    with pytest.raises(ValueError, match=r"nowhere does not exist"):
        pair_videos(theirs, tmp_path / "nowhere")


def test_both_videos_are_read_together_any_number_of_times(tmp_path):
    restored, reference = make_clip(3, 40, 32), make_clip(3, 40, 32, seed=1)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(restored):
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    pair = VideoPair(tmp_path / "images", write_lossless(tmp_path / "reference.mkv", reference))
    for _ in range(2):
        frames = list(pair.read("test"))
        np.testing.assert_array_equal([frame for frame, _ in frames], restored)
        np.testing.assert_array_equal([truth for _, truth in frames], reference)
    alone = VideoPair(tmp_path / "reference.mkv", None)
    np.testing.assert_array_equal([frame for (frame,) in alone.read("test")], reference)


def test_the_larger_video_is_shrunk_by_area_on_request(tmp_path):
    small, large = make_clip(2, 40, 32), make_clip(2, 80, 64)
    paths = [write_lossless(tmp_path / f"{len(clip[0])}.mkv", clip) for clip in (small, large)]
    for order in (paths, paths[::-1]):
        with pytest.raises(ValueError, match=r"64\.mkv has 80 x 64 pixels and the other video 40 x 32: .*--resize"):
            VideoPair(*order)
    pair = VideoPair(*paths, resize=True)
    assert pair.size == (40, 32)
    shrunk = [cv2.resize(frame, (40, 32), interpolation=cv2.INTER_AREA) for frame in large]
    np.testing.assert_array_equal([truth for _, truth in pair.read("test")], shrunk)
    turned = write_lossless(tmp_path / "turned.mkv", make_clip(2, 32, 40))
    with pytest.raises(ValueError, match="neither contains the other"):
        VideoPair(paths[0], turned, resize=True)


@pytest.mark.parametrize("shorter", [0, 1])
def test_the_shorter_video_is_named(tmp_path, shorter):
    paths = [write_lossless(tmp_path / f"{i}.mkv", make_clip(3 if i == shorter else 4, 40, 32)) for i in range(2)]
    with pytest.raises(ValueError, match=rf"{shorter}\.mkv ends after 3 frames"):
        list(VideoPair(*paths).read("test"))
