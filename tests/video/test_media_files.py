"""Every command, script and benchmark that searches a folder finds the same videos."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.clips import find_clips
from conftest import KnownFaces, make_faces
from keep_hf.batch.jobs import list_jobs
from keep_hf.evaluation.pairs import pair_videos
from keep_hf.video.media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, contains_images, find_images, find_videos
from media import write_clip
from training.data.face_clips import FaceClips
from training.data.teacher_labels import label_portraits
from training.preparation.source_videos import find_source_videos


COMMON_SUFFIXES = {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm", ".wmv"}
RARE_SUFFIXES = {".mts", ".vob", ".ogv", ".mxf", ".3g2", ".asf", ".dv", ".m2v", ".mpe", ".mpeg"}


def make_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """One empty file for each suffix, every second one with the suffix in upper case."""
    paths = [folder / suffix[1:] / f"clip_{suffix[1:]}{suffix}" for suffix in sorted(suffixes)]
    paths[::2] = [path.with_suffix(path.suffix.upper()) for path in paths[::2]]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch()
    return paths


def test_videos_and_images_are_found_at_any_depth(tmp_path):
    videos = make_files(tmp_path / "videos", VIDEO_SUFFIXES)
    images = make_files(tmp_path / "images", IMAGE_SUFFIXES)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "._hidden.mp4").touch()
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "folder.mp4").mkdir()
    assert find_videos(tmp_path) == sorted(videos)
    assert find_images(tmp_path) == sorted(images)
    assert VIDEO_SUFFIXES >= COMMON_SUFFIXES | RARE_SUFFIXES
    assert contains_images(images[0].parent)
    assert not contains_images(videos[0].parent)


def test_what_phones_and_other_programs_put_beside_videos_is_left_out(tmp_path):
    for name in (".thumbnails/a.mp4", "DCIM/a.mp4", "@eaDir/a.mp4", "__MACOSX/._a.mp4", "out.mp4.part/joined.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "DCIM" / "._a.mp4").touch()
    (tmp_path / "holiday.MOV").mkdir()
    assert find_videos(tmp_path) == [tmp_path / "DCIM" / "a.mp4"]
    # The folder itself may be hidden.
    assert find_videos(tmp_path / ".thumbnails") == [tmp_path / ".thumbnails" / "a.mp4"]


def test_animations_count_as_videos_if_they_move(tmp_path):
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "still.gif")
    (tmp_path / "text.gif").write_text("no image")
    for name in ("moves.GIF", "moves.apng"):
        first.save(tmp_path / name, format=name[-3:].replace("png", "PNG"), save_all=True, append_images=[second])
    assert find_videos(tmp_path) == [tmp_path / "moves.GIF", tmp_path / "moves.apng"]


def test_restore_evaluation_and_benchmarks_list_every_video(tmp_path):
    folder = tmp_path / "in"
    videos = make_files(folder, VIDEO_SUFFIXES)
    jobs = list_jobs(folder, tmp_path / "out")
    assert sorted(source for source, _ in jobs) == sorted(videos)
    assert {target.suffix.lower() for _, target in jobs} == {".mp4", ".mov", ".mkv", ".webm"}
    assert sorted(path for _, path, _ in pair_videos(folder, None)) == sorted(videos)
    assert sorted(video.path for video in find_source_videos(folder, 25)) == sorted(videos)
    for video in videos:
        assert find_clips(video.parent, None) == [video]


@pytest.mark.filterwarnings("ignore")
def test_training_reads_every_video(tmp_path):
    # FFmpeg recognises a format by its content, so one file serves under every name.
    source = write_clip(tmp_path / "in.mp4", num_frames=2, width=64, height=64)
    folder = tmp_path / "faces"
    for video in make_files(folder, VIDEO_SUFFIXES):
        shutil.copy(source, video)
    clips = FaceClips([str(folder)], size=64, clip_length=1, degradation=None, clips_per_video=1)
    assert len(clips) == len(VIDEO_SUFFIXES)
    teacher = KnownFaces([make_faces((10, 10, 40))])
    assert len(label_portraits([str(folder)], teacher, frames_per_video=1)) == len(VIDEO_SUFFIXES)
