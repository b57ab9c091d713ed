"""prepare_data.py: videos become shards; damaged videos, kills and wrong options are handled."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import psutil
import pytest
import skimage.data
from datasets import Video, load_dataset
from PIL import Image

from keep_hf.faces.alignment import TEMPLATE
from keep_hf.video.reader import VideoReader
from media import write_clip
from paths import REPOSITORY
from training import prepare_data
from training.preparation.cut_clips import CutClip, Settings, cut_clips
from training.preparation.cut_videos import CutVideo, cut_video, load_result
from training.preparation.detectors import load_detector
from training.preparation.source_videos import find_vfhq_clips


pytestmark = pytest.mark.slow


DETECTOR = REPOSITORY / "src/keep_hf/checkpoints/keep-tiny/detector"
FACE = skimage.data.astronaut()[:300, 80:380]
OPTIONS = ("--max-frames", 16, "--clips-per-shard", 3)
COMMON = ("--detector", DETECTOR, "--size", 256, "--min-size", 60, "--min-frames", 6, "--min-sharpness", 0)


def portrait(size: int) -> np.ndarray:
    """The astronaut in a square; her face takes up about a third of it."""
    return cv2.resize(FACE, (size, size), interpolation=cv2.INTER_AREA if size < 300 else cv2.INTER_CUBIC)


def moving(num_frames: int, *people: tuple[np.ndarray, int, int], width: int = 400) -> list[np.ndarray]:
    """Images at positions (left, top) on grey; all move to the right by a pixel per frame."""
    height = max(top + len(image) for image, _, top in people) // 2 * 2 + 2
    frames = np.full((num_frames, height, width, 3), 90, np.uint8)
    for index, frame in enumerate(frames):
        for image, left, top in people:
            rows, columns = image.shape[:2]
            frame[top : top + rows, left + index : left + index + columns] = image
    return list(frames)


class Done(NamedTuple):
    stdout: str
    stderr: str


def prepare(source: Path, output: Path, *arguments, code: int = 0) -> Done:
    """Run the script in this process; its workers are processes of their own."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = prepare_data.main(words(source, output, *arguments))
        except SystemExit as wrong_usage:
            status = wrong_usage.code
    done = Done(out.getvalue(), err.getvalue())
    assert status == code, done
    return done


def words(source: Path, output: Path, *arguments) -> list[str]:
    return [str(word) for word in (source, output, *COMMON, *arguments)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


def read_metadata(folder: Path) -> dict[str, dict]:
    """The contents of the `.json` files of all shards, by key; each has its video beside it."""
    metadata = {}
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            names = tar.getnames()
            for json_name, video_name in zip(names[::2], names[1::2], strict=True):
                key = json_name.removesuffix(".json")
                assert video_name == f"{key}.mp4"
                metadata[key] = json.load(tar.extractfile(json_name))
    return metadata


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A video of two people, one of one person, a truncated one, and a text."""
    folder = tmp_path_factory.mktemp("videos")
    two = moving(20, (portrait(300), 0, 10), (portrait(240)[:, ::-1], 330, 40), width=600)
    write_clip(folder / "two.mp4", images=two, frame_rate=Fraction(30000, 1001))
    (folder / "deep").mkdir()
    write_clip(folder / "deep" / "one.v2.mkv", images=moving(26, (portrait(280), 20, 20)))
    (folder / "broken.mp4").write_bytes((folder / "two.mp4").read_bytes()[:5000])
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory) -> tuple[Path, Done]:
    """The shards of an uninterrupted run, and its output; one video fails."""
    output = tmp_path_factory.mktemp("prepared") / "faces"
    sheets = ("--contact-sheet", output.with_name("sheet.png"), "--degradation-preview", output.with_name("worse.png"))
    return output, prepare(videos, output, *OPTIONS, *sheets, code=1)


def test_all_faces_become_clips_and_a_damaged_video_does_not_stop_the_others(prepared):
    output, done = prepared
    metadata = read_metadata(output)
    assert sorted(path.name for path in output.glob("*.tar")) == ["shard-00000.tar", "shard-00001.tar"]
    ends = {(clip["source"], clip["person"]): [] for clip in metadata.values()}
    for clip in metadata.values():
        ends[clip["source"], clip["person"]].append((clip["first_frame"], clip["last_frame"]))
    # More than 16 frames are divided into two parts of about equal lengths.
    assert ends == {
        ("deep/one.v2.mkv", 0): [(0, 12), (13, 25)],
        ("two.mp4", 0): [(0, 9), (10, 19)],
        ("two.mp4", 1): [(0, 9), (10, 19)],
    }
    assert "broken.mp4" in done.stderr
    assert "1 of 3 videos failed" in done.stderr
    assert "6 clips, 66 frames" in done.stdout


def test_clips_are_aligned_faces_at_the_frame_rate_of_the_video(prepared, tmp_path):
    output, _ = prepared
    for shard in output.glob("*.tar"):
        with tarfile.open(shard) as tar:
            tar.extractall(tmp_path, filter="data")
    for path in tmp_path.glob("*.mp4"):
        clip = json.loads(path.with_suffix(".json").read_text())
        with VideoReader(path) as reader:
            frames = [frame.image for frame in reader]
        assert reader.frame_rate == (25 if "one" in clip["source"] else Fraction(30000, 1001))
        assert clip["frame_rate"] == pytest.approx(float(reader.frame_rate))
        assert len(frames) == clip["num_frames"] == clip["last_frame"] - clip["first_frame"] + 1
        assert frames[0].shape == (256, 256, 3)
        landmarks = np.array(clip["landmarks"])
        assert landmarks.shape == (len(frames), 5, 2)
        assert np.abs(landmarks - TEMPLATE / 2).max() < 20
        assert 60 < clip["face_size"]["min"] <= clip["face_size"]["median"] < 200
        assert abs(clip["turn"]["median"]) < 0.5
    # The two people are mirror images of each other.
    turns = [clip["turn"]["median"] for clip in read_metadata(output).values() if clip["source"] == "two.mp4"]
    assert min(turns) < 0 < max(turns)


def test_datasets_reads_the_shards(prepared, tmp_path):
    output, _ = prepared
    data = load_dataset(
        "webdataset", data_files=str(output / "*.tar"), split="train", cache_dir=str(tmp_path / "cache")
    ).cast_column("mp4", Video(decode=False))
    metadata = read_metadata(output)
    assert [row["__key__"] for row in data] == list(metadata)
    for row in data:
        assert row["json"] == metadata[row["__key__"]]
        (tmp_path / "clip.mp4").write_bytes(row["mp4"]["bytes"])
        with VideoReader(tmp_path / "clip.mp4") as reader:
            assert len(list(reader)) == row["json"]["num_frames"]


def test_the_folder_itself_is_a_dataset(prepared, tmp_path):
    data = load_dataset(str(prepared[0]), split="train", cache_dir=str(tmp_path))
    assert len(data) == 6
    assert {"mp4", "json"} <= set(data.column_names)


def test_overview_images_show_the_clips(prepared):
    with Image.open(prepared[0].with_name("sheet.png")) as sheet:
        assert sheet.size == (3 * 4 * 128, 2 * (128 + 34))
        frames = np.asarray(sheet.convert("RGB"))[34:162].reshape(128, 12, 128, 3).astype(float)
    assert all(frames[:, i].std() > 20 for i in range(12))
    with Image.open(prepared[0].with_name("worse.png")) as preview:
        assert preview.size == (6 * 256, 6 * 256 + 17)
        row = np.asarray(preview.convert("L"))[17 : 17 + 256].reshape(256, 6, 256).astype(np.float32)
    sharp, mild, medium, heavy, *drawn = [
        cv2.Laplacian(cv2.GaussianBlur(np.ascontiguousarray(row[:, i]), (0, 0), 2), cv2.CV_32F).var() for i in range(6)
    ]
    assert sharp > mild > medium > heavy
    assert drawn[0] != drawn[1]
    assert max(drawn) < sharp


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_after_a_kill_two_workers_write_the_same_shards(prepared, videos, tmp_path):
    output, state = tmp_path / "faces", tmp_path / "faces.part/videos/deep_one_v2.json"
    command = [sys.executable, "-m", "training.prepare_data", *words(videos, output, *OPTIONS)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=REPOSITORY, **quiet) as process:
        while not state.exists() and process.poll() is None:
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
    assert state.exists()
    assert not contents(output)
    assert not psutil.wait_procs(workers, timeout=300)[1], "the workers end with their parent"
    left = {path: path.stat().st_mtime_ns for path in state.parent.glob("deep_one_v2/*")}

    done = prepare(videos, output, *OPTIONS, "--workers", 2, code=1)
    assert "of 3 videos are done already" in done.stdout
    assert "deep/one" not in done.stdout
    assert contents(output) == contents(prepared[0])
    assert len(left) == 4
    assert all(path.stat().st_mtime_ns == time for path, time in left.items())


def test_failed_videos_are_tried_again_and_then_the_shards_are_complete(prepared, videos, tmp_path):
    source, output = tmp_path / "videos", tmp_path / "faces"
    shutil.copytree(videos, source)
    shutil.copytree(prepared[0], output)
    shutil.copytree(prepared[0].with_name("faces.part"), tmp_path / "faces.part")
    shutil.copy2(source / "two.mp4", source / "broken.mp4")
    done = prepare(source, output, *OPTIONS)
    assert "2 of 3 videos are done already" in done.stdout
    assert "broken.mp4: 4 clips, 40 frames" in done.stdout
    assert len(read_metadata(output)) == 10
    assert not (tmp_path / "faces.part").exists()

    before = contents(output)
    assert "complete already" in prepare(source, output, *OPTIONS).stdout
    assert contents(output) == before
    assert "other min_size" in prepare(source, output, *OPTIONS, "--min-size", 70, code=1).stderr
    assert contents(output) == before
    (source / "broken.mp4").unlink()
    assert "other videos" in prepare(source, output, *OPTIONS, code=1).stderr


def test_small_short_and_blurred_faces_are_dropped(tmp_path):
    rng = np.random.default_rng(0)
    blurred = [cv2.GaussianBlur(image, (0, 0), 4) for image in moving(8, (portrait(600), 0, 10), width=640)]
    noisy = [np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8) for image in blurred]
    images = {
        "sharp": moving(10, (portrait(300), 0, 10), (portrait(110), 330, 40), width=500),
        "blurred": blurred,
        "noisy": noisy,
        "short": moving(5, (portrait(300), 0, 10)),
    }
    settings = Settings("all", size=256, min_size=60, min_frames=6, max_frames=16, min_sharpness=0.25)
    clips, dropped = {}, {}
    for name, frames in images.items():
        (tmp_path / name).mkdir()
        with VideoReader(write_clip(tmp_path / f"{name}.mp4", images=frames)) as reader:
            detector = load_detector(str(DETECTOR))
            clips[name], dropped[name] = cut_clips(reader, name, tmp_path / name, detector, settings)
    (sharp,) = clips.pop("sharp")
    assert sharp in (CutClip("sharp-p000-f000000", 10), CutClip("sharp-p001-f000000", 10))  # one of two people
    assert clips == {"blurred": [], "noisy": [], "short": []}
    small, soft, with_noise, brief = (segments[-1] for segments in dropped.values())
    assert small.reason == "size"
    assert 30 < small.value < 60
    assert soft.reason == with_noise.reason == "sharpness"
    assert max(soft.value, with_noise.value) < 0.25
    assert (brief.reason, brief.value, brief.first_frame, brief.last_frame) == ("length", 5, 0, 4)


def test_dropped_segments_are_reported_with_the_limit(tmp_path):
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos/short.mp4", images=moving(5, (portrait(300), 0, 10)))
    done = prepare(tmp_path / "videos", tmp_path / "faces", code=1)
    assert "person 0, frames 0 to 4: 5 frames are less than --min-frames 6" in done.stdout
    assert "0 clips, 0 frames; dropped: 1 for length, 0 for size, 0 for sharpness" in done.stdout
    assert "No clip is left" in done.stderr
    assert not (tmp_path / "faces.part").exists()


def test_the_layout_of_vfhq(tmp_path):
    for name in ("Clip+aB_9+P0+C1+F10-21", "Clip+xyz+P1+C0+F5-16", "previews"):
        (tmp_path / "vfhq/frames" / name).mkdir(parents=True)
    for index, image in enumerate(moving(6, (portrait(300), 0, 10))):
        Image.fromarray(image).save(tmp_path / f"vfhq/frames/Clip+aB_9+P0+C1+F10-21/{index:08d}.png")
    (tmp_path / "vfhq/meta").mkdir()
    metadata = tmp_path / "vfhq/meta/Clip+aB_9+P0+C1+F10-21.txt"
    metadata.write_text("CLIP aB_9\nH 1080\nW 1920\nFPS 29.97\nCROP 100 100 500 500\n10 1 2 3 4\n")
    first, second = find_vfhq_clips(tmp_path / "vfhq", frame_rate=24)
    assert (first.name, first.frame_rate) == ("frames/Clip+aB_9+P0+C1+F10-21", 29.97)
    assert (second.name, second.frame_rate) == ("frames/Clip+xyz+P1+C0+F5-16", 24)

    settings = Settings("all", size=256, min_size=60, min_frames=6, max_frames=16, min_sharpness=0)
    result = cut_video(first, tmp_path, str(DETECTOR), settings)
    assert isinstance(result, CutVideo)
    assert load_result(first, tmp_path) == result
    assert result.clips == [CutClip("frames_Clip+aB_9+P0+C1+F10-21-p000-f000000", 6)]
    written = json.loads((tmp_path / first.key / f"{result.clips[0].key}.json").read_text())
    assert (written["source"], written["frame_rate"]) == (first.name, 29.97)
    metadata.write_text("something else\n")
    with pytest.raises(ValueError, match="no line FPS"):
        find_vfhq_clips(tmp_path / "vfhq", frame_rate=24)
    with pytest.raises(ValueError, match=r"no folder Clip\+"):
        find_vfhq_clips(tmp_path / "vfhq/meta", frame_rate=24)


def test_wrong_arguments_are_reported(videos, tmp_path):
    def last_line(*arguments, source: Path = videos, code: int = 2) -> str:
        return prepare(source, tmp_path / "faces", *arguments, code=code).stderr.strip().splitlines()[-1]

    (tmp_path / "empty").mkdir()
    (tmp_path / "same").mkdir()
    for name in ("a b.mp4", "a_b.mkv"):
        shutil.copy(videos / "two.mp4", tmp_path / "same" / name)
    assert "there is no folder" in last_line(source=tmp_path / "missing")
    assert "There is no video" in last_line(source=tmp_path / "empty", code=1)
    assert "would have the same names" in last_line(source=tmp_path / "same", code=1)
    assert "is inside" in last_line(source=tmp_path)
    assert "--size must be even and at least 256" in last_line("--size", 255)
    assert "--workers must be at least 1" in last_line("--workers", 0)
    assert "--max-frames must not be less" in last_line("--max-frames", 5)
    assert "--min-sharpness must be 0" in last_line("--min-sharpness", "nan")
    assert "--frame-rate must be positive" in last_line("--frame-rate", 0)
    assert "must be a .jpg or a .png" in last_line("--contact-sheet", tmp_path / "sheet.gif")
    assert "there is no file 'missing.onnx'" in last_line("--detector", "missing.onnx", code=1)
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/shard-00000.tar").touch()
    assert "unknown origin" in last_line(code=1)
