"""The commands: the files that they write, their messages and exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import gradio
import numpy as np
import pytest
import torch
from accelerate import PartialState
from PIL import Image

from conftest import SIZE, make_clip, make_components
from damaged import damage_packets
from keep_hf import FaceDetector, KeepPipeline, VideoReader
from keep_hf.cli import main
from keep_hf.cli.output import write_text
from keep_hf.models import fast_paths
from keep_hf.models.recursion import KalmanRecursion
from media import packets, write_clip, write_two_videos
from paths import SHARED


pytestmark = pytest.mark.slow


YUNET = SHARED / "weights" / "yunet_n_dynamic.onnx"
REAL_CLIP = SHARED / "media" / "lq" / "keep_real_1.mp4"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A folder with a tiny pipeline, whose detector finds no faces."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    detector = FaceDetector(block_out_channels=(4, 4, 8, 8, 8), neck_channels=8, close_up_channels=(4, 4, 8, 8))
    KeepPipeline(**make_components(), detector=detector, gain_window=4).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def crops_file(tmp_path) -> Path:
    return write_clip(tmp_path / "in.mp4", images=list(make_clip(6, SIZE, SIZE)), audio_codec="aac")


@pytest.fixture(autouse=True)
def fresh_state():
    PartialState._reset_state()
    yield
    PartialState._reset_state()


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def read_images(path: Path) -> np.ndarray:
    with VideoReader(path) as reader:
        return np.stack([frame.image for frame in reader])


def fails(arguments: list, capsys) -> str:
    """The one line with which a command fails."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("keep-hf: ")
    return lines[0]


# restore


def test_restore_writes_the_video_and_the_report(model, crops_file, tmp_path, capsys):
    target, report = tmp_path / "new" / "out.mp4", tmp_path / "report.json"
    arguments = ["restore", crops_file, target, "--model", model, "--aligned", "--report", report]
    assert main([str(argument) for argument in arguments]) == 0
    content = json.loads(report.read_text())
    assert content["frames"] == 6
    assert content["size"] == [SIZE, SIZE]
    assert content["target"] == str(target)
    (track,) = content["tracks"]
    assert f"keep-hf: {crops_file}: person 0: {track['strength']['reason']}\n" in capsys.readouterr().err
    assert packets(target, "audio") == packets(crops_file, "audio")
    assert files(tmp_path) == ["in.mp4", "new/out.mp4", "report.json"]
    # The command passes its options to the pipeline.
    pipe = KeepPipeline.from_pretrained(model)
    pipe.restore_video(crops_file, tmp_path / "expected.mp4", aligned=True)
    assert target.read_bytes() == (tmp_path / "expected.mp4").read_bytes()
    for option in (["--fidelity", "0"], ["--strength", "0.5"], ["--gain-mode", "official"], ["--dtype", "bf16"]):
        assert main([*map(str, arguments[:6]), *option]) == 0
        assert target.read_bytes() != (tmp_path / "expected.mp4").read_bytes(), option


def test_slow_bf16_is_reported(model, crops_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fast_paths, "FAST_DTYPES", {torch.float32})
    arguments = ["restore", crops_file, tmp_path / "out.mp4", "--model", model, "--aligned", "--device", "cpu"]
    assert main([*map(str, arguments), "--dtype", "bf16"]) == 0
    assert "keep-hf: warning: bf16 is slow on this CPU" in capsys.readouterr().err


def test_the_command_runs_as_a_program(crops_file, tmp_path):
    """The first command of the README, with the model in the package."""
    command = [sys.executable, "-m", "keep_hf.cli", "restore", "in.mp4", "out.mp4", "--aligned"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "keep-hf: in.mp4: person 0: left as it is: already sharp"
    assert len(read_images(tmp_path / "out.mp4")) == 6


def test_a_video_without_faces_is_reported(model, crops_file, tmp_path, capsys):
    assert main(["restore", str(crops_file), str(tmp_path / "out.mp4"), "--model", model]) == 0
    assert "No faces found. The frames are unchanged." in capsys.readouterr().err
    command = ["restore", str(crops_file), str(tmp_path / "selected.mp4"), "--model", model, "--faces", "7"]
    assert main(command) == 0
    assert "None of the selected people found. The frames are unchanged." in capsys.readouterr().err
    assert np.abs(read_images(tmp_path / "out.mp4").astype(int) - read_images(crops_file)).mean() < 6


@pytest.mark.skipif(
    not (YUNET.is_file() and REAL_CLIP.is_file()), reason="the clips and YuNet of ../shared are missing"
)
def test_a_real_face_is_found_and_restored(model, tmp_path):
    with VideoReader(REAL_CLIP) as reader:
        images = [frame.image for frame, _ in zip(reader, range(6), strict=False)]
    source = write_clip(tmp_path / "in.mp4", images=images)
    arguments = ["restore", source, tmp_path / "out.mp4", "--model", model, "--detector", YUNET, "--strength", 1]
    assert main([*map(str, arguments), "--report", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["tracks"]
    assert report["tracks"][0]["face_size"] > 20
    before, after = read_images(source).astype(int), read_images(tmp_path / "out.mp4").astype(int)
    changed = np.abs(after - before).max(axis=-1) > 40
    assert 0.001 < changed.mean() < 0.9


def test_a_warning_is_one_line(model, tmp_path, capsys):
    source = write_clip(tmp_path / "in.mkv", images=list(make_clip(25, SIZE, SIZE)), subtitle_codec="ass")
    arguments = ["restore", source, tmp_path / "out.mp4", "--model", model, "--aligned", "--strength", 1]
    assert main(list(map(str, arguments))) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("keep-hf: warning: ")
    assert "stream 1" in line


def test_another_video_stream_is_restored(model, tmp_path, capsys):
    source = write_two_videos(tmp_path / "in.mkv", 0)
    arguments = ["restore", source, tmp_path / "out.mkv", "--model", model]
    for options, sizes in (([], [96, 48]), (["--video-stream", "2"], [48, 96])):
        assert main([*map(str, arguments), *options]) == 0
        with av.open(str(tmp_path / "out.mkv")) as container:
            assert [stream.width for stream in container.streams.video] == sizes
    assert "in.mkv has no video stream 1; choose one of 0, 2" in fails([*arguments, "--video-stream", "1"], capsys)
    assert "no video stream 1" in fails(["faces", source, "--model", model, "--video-stream", "1"], capsys)


def test_a_damaged_video_is_restored_with_a_warning(model, tmp_path, capsys):
    whole = write_clip(tmp_path / "whole.mkv", images=list(make_clip(25, SIZE, SIZE)), subtitle_codec="ass")
    damage_packets(whole, tmp_path / "in.mkv", [12])
    for name in ("whole", "in"):
        arguments = ["restore", tmp_path / f"{name}.mkv", tmp_path / "out.mp4", "--model", model, "--aligned"]
        arguments += ["--strength", "1"]
        assert main([*map(str, arguments), "--report", str(tmp_path / f"{name}.json")]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("keep-hf: warning: ") for line in lines)
    assert all("stream 1" in line for line in lines[:2])  # the subtitles are converted
    assert "in.mkv: 1 frame could not be decoded" in lines[2]
    # The report has all warnings.
    messages = [line.removeprefix("keep-hf: warning: ") for line in lines]
    reports = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "in")]
    assert [sorted(report["warnings"]) for report in reports] == [messages[:1], sorted(messages[1:])]
    assert [report["damaged_frames"] for report in reports] == [0, 1]
    assert main([*map(str, arguments), "--strict"]) == 1
    assert "in.mkv: frame" in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_keeps_its_layout(model, tmp_path, capsys):
    source, target, report = tmp_path / "in", tmp_path / "out", tmp_path / "report.json"
    (source / "deep").mkdir(parents=True)
    images = list(make_clip(2, SIZE, SIZE))
    write_clip(source / "a.mp4", images=images)
    write_clip(source / "deep" / "b.MKV", images=images)
    write_clip(source / "old.avi", images=images)
    (source / "bad.mp4").write_text("no video")
    (source / "notes.txt").write_text("no video either")
    arguments = ["restore", source, target, "--model", model, "--aligned", "--report", report]
    assert main([str(argument) for argument in arguments]) == 1
    assert files(target) == ["a.mp4", "deep/b.MKV", "keep-hf.jsonl", "old.mp4"]
    lines = capsys.readouterr().err.splitlines()
    done, failed = ([line for line in lines if ("person 0" in line) == is_done] for is_done in (True, False))
    assert [line.split(": ")[1] for line in done] == [str(source / n) for n in ("a.mp4", "deep/b.MKV", "old.avi")]
    assert "bad.mp4" in failed[0]
    assert failed[1:] == ["keep-hf: 1 of 4 videos failed."]
    assert [Path(done["source"]).name for done in json.loads(report.read_text())] == ["a.mp4", "b.MKV", "old.avi"]
    # The same as a page.
    arguments[-1] = tmp_path / "report.html"
    assert main([str(argument) for argument in arguments]) == 1
    page = arguments[-1].read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Not restored", "a.mp4", "b.MKV", "old.avi"]
    assert page.count("<h4>Person 1</h4>") == page.count('alt="Person 1 after the restoration"') == 3
    assert re.search(r"<strong>bad\.mp4</strong>: bad\.mp4 is not a video", page)
    assert str(tmp_path) not in page


def test_errors_are_one_line(model, crops_file, tmp_path, capsys):
    target = tmp_path / "out.mp4"
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    restore = ["restore", crops_file, target, "--model", model]
    assert "missing.mp4 does not exist" in fails(["restore", tmp_path / "missing.mp4", target], capsys)
    assert "notes.mp4 is not a video" in fails(["restore", text, target, *restore[3:]], capsys)
    assert "out.gif" in fails(["restore", crops_file, tmp_path / "out.gif", *restore[3:]], capsys)
    assert "source itself" in fails(["restore", crops_file, crops_file, *restore[3:]], capsys)
    assert "strength" in fails([*restore, "--strength", "2"], capsys)
    assert "fidelity" in fails([*restore, "--fidelity", "-1"], capsys)
    assert "upscale" in fails([*restore, "--upscale", "9"], capsys)
    assert "min_face_size" in fails([*restore, "--min-face-size", "nan"], capsys)
    assert "report" in fails([*restore, "--report", tmp_path / "missing" / "report.json"], capsys)
    assert "notes.mp4 is damaged" in fails([*restore[:3], "--model", text], capsys)
    assert "nowhere" in fails([*restore[:3], "--model", tmp_path / "nowhere"], capsys)
    assert files(tmp_path) == ["in.mp4", "notes.mp4"]


def test_inputs_and_outputs_that_are_no_files(model, crops_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = ["--model", model]
    for command in (["restore", "https://a.org/b.mp4", "o.mp4"], ["faces", "https://a.org/b.mp4"],
                    ["degrade", "https://a.org/b.mp4", "o.mp4"], ["evaluate", "https://a.org/b.mp4"]):  # fmt: skip
        assert fails(command, capsys) == (
            "keep-hf: https://a.org/b.mp4 is a URL; download the video first, and pass the file."
        )
    assert "ftp://b/o.mp4 is a URL; write a file first" in fails(["restore", "in.mp4", "ftp://b/o.mp4"], capsys)
    assert "standard input" in fails(["restore", "-", "o.mp4"], capsys)
    assert "standard output" in fails(["restore", "in.mp4", "-"], capsys)
    assert files(tmp_path) == ["in.mp4"]
    # A name that starts with a dash is passed behind "--", or as a path.
    crops_file.rename("-a:b.mp4")
    assert main(["restore", "--aligned", *model, "--", "-a:b.mp4", "-o:p.mp4"]) == 0
    assert main(["restore", "--aligned", *model, "./-a:b.mp4", "./q.mp4"]) == 0
    assert Path("q.mp4").read_bytes() == Path("-o:p.mp4").read_bytes()
    assert files(tmp_path) == ["-a:b.mp4", "-o:p.mp4", "q.mp4"]


def test_outputs_that_cannot_be_written_are_refused_before_any_work(crops_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(KeepPipeline, "from_pretrained", None)  # no model is loaded
    missing, text = tmp_path / "missing", tmp_path / "notes.txt"
    text.touch()
    assert "contact sheet" in fails(["faces", crops_file, "--sheet", missing / "a.png"], capsys)
    (tmp_path / "frames").mkdir()
    (tmp_path / "in.png").touch()
    assert "would replace" in fails(["faces", tmp_path / "in.png", "--sheet", tmp_path / "in.png"], capsys)
    sheet = tmp_path / "frames" / "people.png"
    assert "would be a frame of" in fails(["faces", tmp_path / "frames", "--sheet", sheet], capsys)
    assert "a.gif must be a .jpg or a .png" in fails(["faces", crops_file, "--sheet", tmp_path / "a.gif"], capsys)
    assert "report" in fails(["restore", crops_file, tmp_path / "o.mp4", "--report", missing / "a.json"], capsys)
    assert "add --ray" in fails(["restore", crops_file, tmp_path / "o.mp4", "--workers", 2], capsys)
    assert "report" in fails(["evaluate", crops_file, "--report", tmp_path], capsys)
    assert "report" in fails(["benchmark", "--report", missing / "a.json"], capsys)
    assert "notes.txt is a file" in fails(["evaluate", crops_file, "--plots", text], capsys)
    assert files(tmp_path) == ["in.mp4", "in.png", "notes.txt"]


def test_a_foreign_folder_is_reported_without_a_hint(model, crops_file, tmp_path, capsys):
    (tmp_path / "out.mp4.part").mkdir()
    (tmp_path / "out.mp4.part" / "letter.txt").touch()
    line = fails(["restore", crops_file, tmp_path / "out.mp4", "--model", model, "--aligned"], capsys)
    assert "holds files that this program has not written" in line
    assert "--resume" not in line


def test_errors_name_the_file(model, crops_file, tmp_path, capsys, monkeypatch):
    def fail(*args, **options):
        raise ValueError("29 is not a valid Type")

    monkeypatch.setattr(KeepPipeline, "restore_video", fail)
    line = fails(["restore", crops_file, tmp_path / "out.mp4", "--model", model], capsys)
    assert line == f"keep-hf: {crops_file}: 29 is not a valid Type"


def test_an_interrupted_run_is_resumed(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(KeepPipeline.restore_video.__kwdefaults__, "segment_frames", 20)
    source = write_clip(tmp_path / "in.mp4", images=list(make_clip(60, SIZE, SIZE)))
    command = ["restore", source, tmp_path / "out.mp4", "--model", model, "--aligned"]
    step, calls = KalmanRecursion.step, []

    def interrupted(self, *args, **options):
        calls.append(None)
        if len(calls) == 50:
            raise KeyboardInterrupt
        return step(self, *args, **options)

    monkeypatch.setattr(KalmanRecursion, "step", interrupted)
    line = fails(command, capsys)
    assert "interrupted" in line
    assert "--resume continues from there" in line
    assert (tmp_path / "out.mp4.part").is_dir()
    assert not (tmp_path / "out.mp4").exists()
    assert main([*map(str, command), "--resume"]) == 0
    assert len(calls) < 50 + 30
    assert len(read_images(tmp_path / "out.mp4")) == 60
    assert files(tmp_path) == ["in.mp4", "out.mp4"]


def test_a_folder_of_images_is_a_video(model, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for i, image in enumerate(make_clip(4, SIZE, SIZE)):
        Image.fromarray(image).save(source / f"{i}.png")
    for target in ("out.mp4", "out"):
        assert main(["restore", str(source), str(tmp_path / target), "--model", model, "--aligned"]) == 0
    assert len(read_images(tmp_path / "out.mp4")) == 4
    assert files(tmp_path / "out") == ["0.png", "1.png", "2.png", "3.png"]


def changed_halves(one: Path, other: Path) -> list[bool]:
    """Whether two videos differ on the left, and on the right."""
    difference = np.abs(read_images(one).astype(int) - read_images(other)).max(axis=(0, 1, 3))
    half = len(difference) // 2
    return [difference[: half - 40].max() > 40, difference[half + 40 :].max() > 40]


@pytest.mark.skipif(
    not (YUNET.is_file() and REAL_CLIP.is_file()), reason="the clips and YuNet of ../shared are missing"
)
def test_faces_are_listed_drawn_and_selected(model, tmp_path, capsys):
    with VideoReader(REAL_CLIP) as reader:
        images = [frame.image for frame, _ in zip(reader.read(), range(8), strict=False)]
    # The same person twice, side by side
    source = write_clip(tmp_path / "in.mp4", images=[np.concatenate([image, image], axis=1) for image in images])
    options = ["--model", model, "--detector", str(YUNET)]
    assert main(["faces", str(source), *options, "--sheet", str(tmp_path / "people.png")]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["0", "1"]
    assert Image.open(tmp_path / "people.png").size == (320, 160)
    both, one = tmp_path / "both.mp4", tmp_path / "one.mp4"
    options += ["--strength", "1"]
    assert main(["restore", str(source), str(both), *options]) == 0
    options += ["--faces", "1", "--report", str(tmp_path / "r.json")]
    assert main(["restore", str(source), str(one), *options]) == 0
    assert [track["id"] for track in json.loads((tmp_path / "r.json").read_text())["tracks"]] == [1]
    halves = changed_halves(both, one)
    assert sorted(halves) == [False, True]
    capsys.readouterr()
    options[-4:] = ["--person-strength", "0=0", "--report", str(tmp_path / "r.json")]
    assert main(["restore", str(source), str(one), *options]) == 0
    assert changed_halves(both, one) == halves
    assert [track["strength"]["weight"] for track in json.loads((tmp_path / "r.json").read_text())["tracks"]] == [0, 1]
    assert "person 0: left as it is, as requested" in capsys.readouterr().err


def test_reports_hold_names_that_are_no_utf_8(tmp_path):
    write_text(tmp_path / "report.html", "é: caf\udce9.mp4")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == r"é: caf\udce9.mp4"


def test_a_full_disk_leaves_no_partial_file(model, crops_file, tmp_path, capsys):
    resource = pytest.importorskip("resource", reason="Windows has no limits of a process")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        line = fails(["restore", crops_file, tmp_path / "out.mp4", "--model", model, "--aligned"], capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "out.mp4 cannot be written" in line
    assert files(tmp_path) == ["in.mp4"]


# degrade and convert


def test_degrade(tmp_path, capsys):
    source = write_clip(tmp_path / "in.mp4", num_frames=4, width=160, height=128)
    for seed in ("1", "1", "2"):
        assert main(["degrade", str(source), str(tmp_path / f"{seed}.mp4"), "--level", "heavy", "--seed", seed]) == 0
    assert len(read_images(tmp_path / "1.mp4")) == 4
    assert (tmp_path / "1.mp4").read_bytes() != (tmp_path / "2.mp4").read_bytes()
    assert "missing.mp4 does not exist" in fails(["degrade", tmp_path / "missing.mp4", tmp_path / "3.mp4"], capsys)
    assert "seed" in fails(["degrade", source, tmp_path / "3.mp4", "--seed", "-1"], capsys)
    assert files(tmp_path) == ["1.mp4", "2.mp4", "in.mp4"]


def test_convert_rejects_other_files(tmp_path, capsys):
    checkpoint = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(2)}, checkpoint)
    assert "not a checkpoint of KEEP" in fails(["convert", checkpoint, tmp_path / "out"], capsys)
    assert "no checkpoint file" in fails(["convert", tmp_path / "missing.pth", tmp_path / "out"], capsys)
    assert "name a folder" in fails(["convert", checkpoint, checkpoint], capsys)
    assert files(tmp_path) == ["other.pth"]


# demo


def test_demo_opens_the_page(model, monkeypatch, capsys):
    opened = {}

    def launch(demo, **options):
        opened.update(options, demo=demo)

    monkeypatch.setattr(gradio.Blocks, "launch", launch)
    assert main(["demo", "--model", model, "--device", "cpu", "--port", "7999", "--max-seconds", "7"]) == 0
    assert (opened["server_name"], opened["server_port"]) == ("127.0.0.1", 7999)
    assert "7 seconds at a time" in str(opened["demo"].get_config_file()["components"])
    assert "seconds must be positive, got 0" in fails(["demo", "--model", model, "--max-seconds", "0"], capsys)


def test_demo_needs_gradio(model, monkeypatch, capsys):
    monkeypatch.setattr("keep_hf.cli.demo.find_spec", lambda name: None)
    assert "pip install 'gradio>=6,<7'" in fails(["demo", "--model", model], capsys)
