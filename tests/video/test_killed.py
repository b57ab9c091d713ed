"""Writers that are killed at any moment and resumed: the result is equal to that of an uninterrupted run."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import pytest

from media import gradient, packets, times, write_clip
from paths import REPOSITORY


pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL"),
    pytest.mark.slow,
]

KILLED = 9
SEGMENT, FRAMES = 4, 11


@pytest.fixture(scope="module")
def run() -> Callable[..., int]:
    """Write a video in a process that may be killed; returns its exit status, 9 if it was killed."""
    program = REPOSITORY / "tests" / "killed.py"
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"

        def run(source: Path, target: Path, **end) -> int:
            process.stdin.write(json.dumps({"source": str(source), "target": str(target), "end": end or None}) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield run
        process.stdin.close()


def contents(path: Path) -> dict[str, bytes]:
    files = path.iterdir() if path.is_dir() else [path]
    return {file.name.replace(path.stem, ""): file.read_bytes() for file in files}


def make_source(folder: Path, kind: str) -> Path:
    if kind == "images":
        (folder / "in").mkdir()
        for index in range(FRAMES):
            cv2.imwrite(str(folder / "in" / f"shot{index + 95}.png"), gradient(index, 48, 32)[..., ::-1])
        return folder / "in"
    if kind == "variable":
        # Around the borders of segments, the intervals are much shorter than 1 / frame rate (40 milliseconds).
        gaps = [9 if index % SEGMENT in (0, 2, 3) else 60 + 7 * index for index in range(FRAMES)]
        pts = [sum(gaps[:index]) for index in range(FRAMES)]
        return write_clip(
            folder / "in.mkv",
            num_frames=FRAMES,
            width=48,
            height=32,
            pts=pts,
            time_base=Fraction(1, 1000),
            audio_codec="aac",
        )
    return write_clip(
        folder / "in.mp4", num_frames=FRAMES, width=48, height=32, audio_codec="aac", frame_rate=Fraction(30000, 1001)
    )


CASES = [
    ("constant", "out.mp4"),
    ("variable", "out.mp4"),
    ("variable", "out.mkv"),
    ("constant", "out.webm"),
    ("images", "out"),
    ("images", "out.mov"),
    ("constant", "out"),
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_killed_at_random_moments(tmp_path, run, kind, name):
    source, expected = make_source(tmp_path, kind), tmp_path / f"whole_{name}"
    begin = time.monotonic()
    assert run(source, expected) == 0
    duration = time.monotonic() - begin
    moments = 10 if name == "out.mp4" else 4
    choose = random.Random(kind + name)
    kills = 0
    for moment in range(moments):
        target = tmp_path / str(moment) / name
        target.parent.mkdir()
        # The second kill hits the resumed run.
        kills += sum(run(source, target, seconds=choose.uniform(0.1, 0.7) * duration) == KILLED for _ in range(2))
        if not target.exists():
            assert run(source, target) == 0
        assert contents(target) == contents(expected), f"moment {moment}"
    assert kills >= moments / 2


@pytest.mark.parametrize(("kind", "name"), [("constant", "out.mp4"), ("images", "out")])
def test_killed_before_every_file_operation(tmp_path, run, kind, name):
    source, expected = make_source(tmp_path, kind), tmp_path / f"whole_{name}"
    assert run(source, expected) == 0
    step = 1
    while True:
        target = tmp_path / str(step) / name
        target.parent.mkdir()
        status = run(source, target, step=step)
        if status != KILLED:
            break
        # At the very end the images are complete, and the state that describes their source is deleted.
        complete = target.is_dir() and not (target.parent / f"{name}.part" / "state.pt").exists()
        if not complete:
            assert run(source, target) == 0, f"step {step}"
            assert [path.name for path in target.parent.iterdir()] == [name], f"step {step}"
        assert contents(target) == contents(expected), f"step {step}"
        step += 1
    assert status == 0
    assert step > 20


def test_killed_while_the_segments_are_joined(tmp_path, run):
    source, target, expected = make_source(tmp_path, "variable"), tmp_path / "out.mp4", tmp_path / "whole.mp4"
    target.write_bytes(b"an earlier result")
    assert run(source, expected) == 0
    for packet in (0, 9, 30):
        assert run(source, target, packet=packet) == KILLED
        assert target.read_bytes() == b"an earlier result"
    assert run(source, target) == 0
    assert contents(target) == contents(expected)


def test_times_and_audio_across_the_borders_of_segments(tmp_path, run):
    source, target = make_source(tmp_path, "variable"), tmp_path / "out.mp4"
    assert run(source, target, step=25) == KILLED
    assert run(source, target) == 0
    assert times(target) == times(source)
    assert [content for _, content in packets(target, "audio")] == [content for _, content in packets(source, "audio")]
    with av.open(str(target)) as container:
        frames = [packet for packet in container.demux(video=0) if packet.size]
    decoding = [packet.dts for packet in frames]
    assert decoding == sorted(set(decoding))
    assert all(packet.dts <= packet.pts for packet in frames)
    assert [index for index, packet in enumerate(frames) if packet.is_keyframe] == [0, SEGMENT, 2 * SEGMENT]
    assert b"stss" in target.read_bytes()  # the list of key frames, for seeking
