"""The order of a folder of videos: the longest first."""

from keep_hf.batch.work_order import estimate_work, longest_first
from media import write_clip


def test_work_is_frames_times_pixels(tmp_path):
    for name in ("a.mp4", "a.mkv", "a.avi", "a.ts"):
        path = write_clip(tmp_path / name, num_frames=50, width=64, height=48)
        assert 0.9 < estimate_work(path) / (50 * 64 * 48) < 1.1, name


def test_a_file_without_a_duration_counts_by_its_size(tmp_path):
    path = write_clip(tmp_path / "a.mp4", num_frames=50, width=64, height=48)
    raw = write_clip(tmp_path / "a.h264", num_frames=50, width=64, height=48)
    assert 0.1 < estimate_work(raw) / estimate_work(path) < 100
    (tmp_path / "bad.mp4").write_text("no video")
    assert estimate_work(tmp_path / "bad.mp4") == 0


def test_the_longest_video_is_the_first(tmp_path):
    short = write_clip(tmp_path / "a.mp4", num_frames=10, width=64, height=48)
    large = write_clip(tmp_path / "b.mp4", num_frames=10, width=128, height=96)
    long = write_clip(tmp_path / "c.mp4", num_frames=60, width=64, height=48)
    same = write_clip(tmp_path / "d.mp4", num_frames=10, width=64, height=48)
    (tmp_path / "bad.mp4").write_text("no video")
    assert longest_first([short, same, tmp_path / "bad.mp4", large, long]) == [
        long,
        large,
        short,
        same,
        tmp_path / "bad.mp4",
    ]
