"""Several videos: each has its own result or failure, and the ZIP file is complete or does not exist."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from keep_hf.page.clips import probe
from keep_hf.page.messages import explain
from keep_hf.page.progress import Progress
from keep_hf.page.results.batch import BatchFailure, BatchProgress, run_batch, write_zip
from media import write_clip


def test_a_video_that_fails_does_not_stop_the_others(tmp_path):
    images = list(np.zeros((3, 64, 64, 3), np.uint8))
    videos = [write_clip(tmp_path / f"{name}.mp4", images=images) for name in ("a", "b", "c")]
    videos[1].write_bytes(videos[1].read_bytes()[:100])

    def restore(video: Path):
        yield Progress("Cutting the part")
        yield video.name, probe(video).num_frames

    steps = list(run_batch(videos, restore, explain))
    assert [step.title for step in steps if isinstance(step, BatchProgress)] == [
        f"Video {number} of 3, {name}.mp4: Cutting the part" for number, name in enumerate("abc", 1)
    ]
    one, failed, other = (step for step in steps if not isinstance(step, BatchProgress))
    assert (one, other) == (("a.mp4", 3), ("c.mp4", 3))
    assert isinstance(failed, BatchFailure)
    assert failed.name == "b.mp4"
    assert str(tmp_path) not in failed.reason


def test_a_zip_file_has_all_files(tmp_path):
    files = []
    for number in range(2):
        (path := tmp_path / f"{number}.mp4").write_bytes(bytes([number]) * 2_500_000)
        files.append(("\u5bb6\u65cf_restored.mp4", path))
    target = tmp_path / "restored.zip"
    steps = list(write_zip(target, files, {"report.html": "<p>\u00e4</p>"}))
    assert steps == sorted(steps)
    assert len(steps) == 6
    assert steps[-1] == 5_000_000
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["\u5bb6\u65cf_restored.mp4", "\u5bb6\u65cf_restored_2.mp4", "report.html"]
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        assert archive.read("\u5bb6\u65cf_restored_2.mp4") == files[1][1].read_bytes()
        assert archive.read("report.html").decode() == "<p>\u00e4</p>"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.mp4", "1.mp4", "restored.zip"]


def test_a_file_of_more_than_4_gigabytes(tmp_path, monkeypatch):
    """With the limit of ZIP files lowered, so that the test needs no such file."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    (path := tmp_path / "a.mp4").write_bytes(bytes(5000))
    list(write_zip(tmp_path / "all.zip", [("a.mp4", path)], {}))
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.read("a.mp4") == bytes(5000)


@pytest.mark.parametrize("stop", ["closed", "missing file"])
def test_an_unfinished_zip_file_is_removed(tmp_path, stop):
    (path := tmp_path / "a.mp4").write_bytes(bytes(3_000_000))
    (target := tmp_path / "all.zip").write_text("the earlier one")
    steps = write_zip(target, [("a.mp4", path), ("b.mp4", tmp_path / "missing.mp4")], {})
    next(steps)
    assert (tmp_path / "all.zip.part").exists()
    if stop == "closed":
        steps.close()
    else:
        with pytest.raises(FileNotFoundError):
            list(steps)
    assert target.read_text() == "the earlier one"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "all.zip"]
