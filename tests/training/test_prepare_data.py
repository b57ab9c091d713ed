"""prepare_data.py: films become shards, whatever happens on the way."""

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
import pytest
import skimage.data
from datasets import Video, load_dataset
from PIL import Image

from keep_hf.faces.alignment import TEMPLATE
from keep_hf.video.reader import VideoReader
from media import write_clip
from paths import REPOSITORY
from training import prepare_data


# The small detector inside the package: no test here needs a file from elsewhere.
DETECTOR = REPOSITORY / "src/keep_hf/checkpoints/keep-tiny/detector"
FACE = skimage.data.astronaut()[:300, 80:380]
COMMON = ("--detector", DETECTOR, "--size", 256, "--min-size", 60, "--min-frames", 6, "--min-sharpness", 0)


def portrait(size: int) -> np.ndarray:
    """The astronaut in a square of so many pixels; her face takes up about a third of it."""
    return cv2.resize(FACE, (size, size), interpolation=cv2.INTER_AREA if size < 300 else cv2.INTER_CUBIC)


def moving(num_frames: int, *people: tuple[np.ndarray, int, int], width: int = 400) -> list[np.ndarray]:
    """Pictures at places (left, top) of a grey room; all go to the right, a pixel a frame."""
    height = max(top + len(picture) for picture, _, top in people) // 2 * 2 + 2
    frames = np.full((num_frames, height, width, 3), 90, np.uint8)
    for index, frame in enumerate(frames):
        for picture, left, top in people:
            rows, columns = picture.shape[:2]
            frame[top : top + rows, left + index : left + index + columns] = picture
    return list(frames)


class Done(NamedTuple):
    stdout: str
    stderr: str


def prepare(source: Path, output: Path, *arguments, code: int = 0) -> Done:
    """Call the script here: only its workers are processes of their own."""
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


def pairs(folder: Path) -> dict[str, dict]:
    """What the `.json` files of all shards say, by key; each has its video beside it."""
    told = {}
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            names = tar.getnames()
            for about, video in zip(names[::2], names[1::2], strict=True):
                key = about.removesuffix(".json")
                assert video == f"{key}.mp4"
                told[key] = json.load(tar.extractfile(about))
    return told


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """Two people; one person; a film that is cut off; a text."""
    folder = tmp_path_factory.mktemp("films")
    two = moving(20, (portrait(300), 0, 10), (portrait(240)[:, ::-1], 330, 40), width=600)
    write_clip(folder / "two.mp4", images=two, frame_rate=Fraction(30000, 1001))
    (folder / "deep").mkdir()
    write_clip(folder / "deep" / "one.v2.mkv", images=moving(26, (portrait(280), 20, 20)))
    (folder / "broken.mp4").write_bytes((folder / "two.mp4").read_bytes()[:5000])
    (folder / "notes.txt").write_text("no film")
    return folder


@pytest.fixture(scope="module")
def prepared(films, tmp_path_factory) -> tuple[Path, Done]:
    """The shards, made without interruption, and what was said; one film fails."""
    output = tmp_path_factory.mktemp("prepared") / "faces"
    sheets = ("--contact-sheet", output.with_name("sheet.png"), "--degradation-preview", output.with_name("worse.png"))
    return output, prepare(films, output, "--max-frames", 16, "--clips-per-shard", 3, *sheets, code=1)


def test_everybody_becomes_clips_and_a_broken_film_costs_nothing_else(prepared):
    output, done = prepared
    told = pairs(output)
    assert sorted(path.name for path in output.glob("*.tar")) == ["shard-00000.tar", "shard-00001.tar"]
    ends = {(about["source"], about["person"]): [] for about in told.values()}
    for about in told.values():
        ends[about["source"], about["person"]].append((about["first_frame"], about["last_frame"]))
    # Of more than 16 frames two about equal pieces are made.
    assert ends == {
        ("deep/one.v2.mkv", 0): [(0, 12), (13, 25)],
        ("two.mp4", 0): [(0, 9), (10, 19)],
        ("two.mp4", 1): [(0, 9), (10, 19)],
    }
    assert "broken.mp4" in done.stderr and "1 of 3 films failed" in done.stderr
    assert "6 clips, 66 frames" in done.stdout


def test_clips_are_aligned_faces_at_the_rate_of_the_film(prepared, tmp_path):
    output, _ = prepared
    for shard in output.glob("*.tar"):
        with tarfile.open(shard) as tar:
            tar.extractall(tmp_path, filter="data")
    for path in tmp_path.glob("*.mp4"):
        about = json.loads(path.with_suffix(".json").read_text())
        with VideoReader(path) as reader:
            frames = [frame.image for frame in reader]
        assert reader.frame_rate == (25 if "one" in about["source"] else Fraction(30000, 1001))
        assert about["frame_rate"] == pytest.approx(float(reader.frame_rate))
        assert len(frames) == about["num_frames"] == about["last_frame"] - about["first_frame"] + 1
        assert frames[0].shape == (256, 256, 3)
        landmarks = np.array(about["landmarks"])
        assert landmarks.shape == (len(frames), 5, 2)
        assert np.abs(landmarks - TEMPLATE / 2).max() < 20
        assert 60 < about["face_size"]["min"] <= about["face_size"]["median"] < 200
        assert abs(about["turn"]["median"]) < 0.5
        # The two people are mirrored: where the one has her far cheek, the other has her near one.
    turns = [about["turn"]["median"] for about in pairs(output).values() if about["source"] == "two.mp4"]
    assert min(turns) < 0 < max(turns)


def test_datasets_reads_the_shards(prepared, tmp_path):
    output, _ = prepared
    data = load_dataset(
        "webdataset", data_files=str(output / "*.tar"), split="train", cache_dir=str(tmp_path / "cache")
    ).cast_column("mp4", Video(decode=False))
    told = pairs(output)
    assert [row["__key__"] for row in data] == list(told)
    for row in data:
        assert row["json"] == told[row["__key__"]]
        (tmp_path / "clip.mp4").write_bytes(row["mp4"]["bytes"])
        with VideoReader(tmp_path / "clip.mp4") as reader:
            assert len(list(reader)) == row["json"]["num_frames"]


def test_the_folder_itself_is_a_dataset(prepared, tmp_path):
    data = load_dataset(str(prepared[0]), split="train", cache_dir=str(tmp_path))
    assert len(data) == 6 and {"mp4", "json"} <= set(data.column_names)


def test_sheets_show_the_clips(prepared):
    with Image.open(prepared[0].with_name("sheet.png")) as sheet:
        assert sheet.size == (3 * 4 * 128, 2 * (128 + 34))
        looks = np.asarray(sheet.convert("RGB"))[34:162].reshape(128, 12, 128, 3).astype(float)
    assert all(looks[:, i].std() > 20 for i in range(12))
    with Image.open(prepared[0].with_name("worse.png")) as preview:
        assert preview.size == (6 * 256, 6 * 256 + 17)
        row = np.asarray(preview.convert("L"))[17 : 17 + 256].reshape(256, 6, 256).astype(np.float32)
    sharp, mild, medium, heavy, *drawn = [
        cv2.Laplacian(cv2.GaussianBlur(np.ascontiguousarray(row[:, i]), (0, 0), 2), cv2.CV_32F).var() for i in range(6)
    ]
    assert sharp > mild > medium > heavy
    assert drawn[0] != drawn[1] and max(drawn) < sharp


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_and_with_two_workers_the_shards_are_the_same(prepared, films, tmp_path):
    output, options = tmp_path / "faces", ("--max-frames", 16, "--clips-per-shard", 3)
    state = tmp_path / "faces.part/films/deep_one_v2.json"
    command = [sys.executable, "-m", "training.prepare_data", *words(films, output, *options)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=REPOSITORY, **quiet)
    started = time.monotonic()
    while not state.exists() and time.monotonic() - started < 120:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert state.exists() and not contents(output)
    time.sleep(1)  # the worker ends with its parent
    left = {path: path.stat().st_mtime_ns for path in state.parent.glob("deep_one_v2/*")}

    done = prepare(films, output, *options, "--workers", 2, code=1)
    assert "of 3 films are done already" in done.stdout and "deep/one" not in done.stdout
    assert contents(output) == contents(prepared[0])
    assert len(left) == 4 and all(path.stat().st_mtime_ns == time for path, time in left.items())


def test_what_failed_is_tried_again_and_then_nothing_is_left_to_do(prepared, films, tmp_path):
    source, output = tmp_path / "films", tmp_path / "faces"
    shutil.copytree(films, source)
    shutil.copytree(prepared[0], output)
    shutil.copytree(prepared[0].with_name("faces.part"), tmp_path / "faces.part")
    options = ("--max-frames", 16, "--clips-per-shard", 3)
    shutil.copy2(source / "two.mp4", source / "broken.mp4")
    done = prepare(source, output, *options)
    assert "2 of 3 films are done already" in done.stdout and "broken.mp4: 4 clips, 40 frames" in done.stdout
    assert len(pairs(output)) == 10
    assert not (tmp_path / "faces.part").exists()

    before = contents(output)
    assert "complete already" in prepare(source, output, *options).stdout
    assert contents(output) == before
    told = prepare(source, output, *options, "--min-size", 70, code=1).stderr
    assert "other min_size" in told and contents(output) == before
    (source / "broken.mp4").unlink()
    assert "other films" in prepare(source, output, *options, code=1).stderr


def test_the_gates_drop_what_is_small_short_and_blurred(tmp_path):
    (tmp_path / "films").mkdir()
    small = portrait(110)
    write_clip(tmp_path / "films/sharp.mp4", images=moving(12, (portrait(300), 0, 10), (small, 330, 40), width=500))
    blurred = [cv2.GaussianBlur(image, (0, 0), 4) for image in moving(12, (portrait(600), 0, 10), width=640)]
    write_clip(tmp_path / "films/blurred.mp4", images=blurred)
    noise = np.random.default_rng(0)
    noisy = [np.clip(image + noise.normal(0, 8, image.shape), 0, 255).astype(np.uint8) for image in blurred]
    write_clip(tmp_path / "films/noisy.mp4", images=noisy)
    write_clip(tmp_path / "films/short.mp4", images=moving(5, (portrait(300), 0, 10)))
    done = prepare(tmp_path / "films", tmp_path / "faces", "--min-sharpness", 0.25)
    assert [about["source"] for about in pairs(tmp_path / "faces").values()] == ["sharp.mp4"]
    assert "1 for size, 2 for sharpness" in done.stdout
    assert "5 frames are less than --min-frames 6" in done.stdout
    assert "px is less than --min-size 60" in done.stdout

    told = prepare(tmp_path / "films", tmp_path / "none", "--min-sharpness", 9, code=1).stderr
    assert "No clip is left" in told and not (tmp_path / "none.part").exists()


def test_the_layout_of_vfhq(tmp_path):
    for name in ("Clip+aB_9+P0+C1+F10-21", "Clip+xyz+P1+C0+F5-16", "previews"):
        (tmp_path / "vfhq/frames" / name).mkdir(parents=True)
        for index, image in enumerate(moving(12, (portrait(300), 0, 10))):
            Image.fromarray(image).save(tmp_path / "vfhq/frames" / name / f"{index:08d}.png")
    (tmp_path / "vfhq/meta").mkdir()
    text = tmp_path / "vfhq/meta/Clip+aB_9+P0+C1+F10-21.txt"
    text.write_text("CLIP aB_9\nH 1080\nW 1920\nFPS 29.97\nCROP 100 100 500 500\n10 1 2 3 4\n")
    prepare(tmp_path / "vfhq", tmp_path / "faces", "--vfhq", "--frame-rate", 24)
    told = {key: (about["source"], about["frame_rate"]) for key, about in pairs(tmp_path / "faces").items()}
    assert told == {
        "frames_Clip+aB_9+P0+C1+F10-21-p000-f000000": ("frames/Clip+aB_9+P0+C1+F10-21", 29.97),
        "frames_Clip+xyz+P1+C0+F5-16-p000-f000000": ("frames/Clip+xyz+P1+C0+F5-16", 24.0),
    }
    text.write_text("something else\n")
    assert "no line FPS" in prepare(tmp_path / "vfhq", tmp_path / "other", "--vfhq", code=1).stderr
    assert "no folder Clip+" in prepare(tmp_path / "vfhq/meta", tmp_path / "other", "--vfhq", code=1).stderr


def test_wrong_arguments_are_told(films, tmp_path):
    def last_line(*arguments, source: Path = films, code: int = 2) -> str:
        return prepare(source, tmp_path / "faces", *arguments, code=code).stderr.strip().splitlines()[-1]

    (tmp_path / "empty").mkdir()
    (tmp_path / "same").mkdir()
    for name in ("a b.mp4", "a_b.mkv"):
        shutil.copy(films / "two.mp4", tmp_path / "same" / name)
    assert "there is no folder" in last_line(source=tmp_path / "missing")
    assert "There is no video" in last_line(source=tmp_path / "empty", code=1)
    assert "would have the same names" in last_line(source=tmp_path / "same", code=1)
    assert "lies in" in last_line(source=tmp_path)
    assert "--size must be even and at least 256" in last_line("--size", 255)
    assert "--workers must be 1 or more" in last_line("--workers", 0)
    assert "--max-frames must not be less" in last_line("--max-frames", 5)
    assert "--min-sharpness must be 0" in last_line("--min-sharpness", "nan")
    assert "--frame-rate must be positive" in last_line("--frame-rate", 0)
    assert "must be a .jpg or a .png" in last_line("--contact-sheet", tmp_path / "sheet.gif")
    assert "there is no YuNet file" in last_line("--detector", "missing.onnx", code=1)
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/shard-00000.tar").touch()
    assert "unknown origin" in last_line(code=1)
