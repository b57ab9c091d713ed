"""Which videos of a folder are restored, and the names of the results."""

import pytest

from keep_hf.batch.jobs import list_jobs


def test_folders_that_cannot_be_restored(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    with pytest.raises(ValueError, match="contains no videos"):
        list_jobs(source, tmp_path / "out")
    for name in ("a.mp4", "a.avi", "a.avi.mp4"):
        (source / name).touch()
    with pytest.raises(ValueError, match=r"Several videos .*a\.avi\.mp4"):
        list_jobs(source, tmp_path / "out")
    (source / "a.avi").unlink()
    (source / "a.avi.mp4").unlink()
    with pytest.raises(ValueError, match="must be a folder, too"):
        list_jobs(source, source / "a.mp4")
    for inside in (source, source / "out"):
        with pytest.raises(ValueError, match="name another folder"):
            list_jobs(source, inside)
    assert list_jobs(source, tmp_path / "out") == [(source / "a.mp4", tmp_path / "out" / "a.mp4")]


def test_videos_that_differ_only_in_the_suffix(tmp_path):
    for name in ("a.mp4", "a.avi", "b.ts", "b.M4V", "c.wmv", "d.mkv", "d.webm"):
        (tmp_path / name).touch()
    targets = {source.name: target.name for source, target in list_jobs(tmp_path, tmp_path.parent / "out")}
    assert targets == {
        "a.mp4": "a.mp4",
        "a.avi": "a.avi.mp4",
        "b.ts": "b.ts.mp4",
        "b.M4V": "b.M4V.mp4",
        "c.wmv": "c.mp4",
        "d.mkv": "d.mkv",
        "d.webm": "d.webm",
    }
