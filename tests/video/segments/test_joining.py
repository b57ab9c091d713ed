"""Joining that fails: no restored frame is lost, and a second attempt joins alone."""

import errno
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from av.container import OutputContainer

from keep_hf.video import writer as writer_module
from keep_hf.video.part_folder import PartFolder
from keep_hf.video.reader import VideoReader
from keep_hf.video.segments import muxer
from keep_hf.video.writer import VideoWriter
from media import packets, times, write_clip
from paths import REPOSITORY


FRAMES, SEGMENT = 12, 4


@pytest.fixture
def source(tmp_path) -> Path:
    return write_clip(tmp_path / "in.mkv", num_frames=FRAMES, width=48, height=32, audio_codec="ac3")


def restore(source: Path, target: Path, resume: bool = False) -> int:
    """Write the frames that are missing, as a restoration does; returns their number."""
    count = 0
    with (
        VideoReader(source) as reader,
        VideoWriter(target, reader, width=reader.width, height=reader.height, resume=resume) as writer,
    ):
        for frame in reader.read(writer.num_written):
            writer.write(frame.image, frame.pts, frame.duration)
            count += 1
            if count % SEGMENT == 0:
                writer.end_segment({"frames": count})
        writer.end_segment({"frames": count})
    return count


def failing(function: Callable, error: BaseException, calls: int = 1, only: Callable = lambda *_: True) -> Callable:
    """A function that raises an error at one of its calls."""
    number = 0

    def fails(*arguments, **options):
        nonlocal number
        number += bool(only(*arguments))
        if number == calls and only(*arguments):
            raise error
        return function(*arguments, **options)

    return fails


FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")
DENIED = PermissionError(errno.EACCES, "Permission denied")
# Where it fails: an object, the name of its function, the error, the number of the call.
INTERRUPTIONS = {
    "opening": (muxer.Muxer, "_write", FULL, 1),
    "disk full at once": (muxer, "carry_streams", FULL, 2),
    "disk full in the middle": (muxer, "decoding_time", FULL, 20),
    "reading of a segment": (muxer, "read_video_packets", BROKEN, 1),
    "sync": (writer_module, "sync", BROKEN, 1),
    "renaming": (os, "replace", DENIED, -1),
    "end of the file": (muxer.Muxer, "_write", BROKEN, 1),
    "interrupted by the user": (muxer, "decoding_time", KeyboardInterrupt(), 9),
    "out of memory": (muxer, "decoding_time", MemoryError(), 15),
    "closed": (muxer, "decoding_time", SystemExit(), 3),
}


@pytest.mark.parametrize("name", INTERRUPTIONS)
def test_no_frame_is_restored_again(source, tmp_path, monkeypatch, name):
    place, function, error, call = INTERRUPTIONS[name]
    expected = tmp_path / "expected.mp4"
    assert restore(source, expected) == FRAMES
    with monkeypatch.context() as patch:
        target = tmp_path / "out.mp4"
        only = lambda *_: True  # noqa: E731
        if function == "replace":
            call, only = 1, lambda _, to: Path(to) == target
        patch.setattr(place, function, failing(getattr(place, function), error, call, only))
        with pytest.raises(type(error)):
            restore(source, target)
    assert (tmp_path / "out.mp4.part").is_dir()
    assert restore(source, target, resume=True) == 0
    assert target.read_bytes() == expected.read_bytes()
    assert not (tmp_path / "out.mp4.part").exists()


def test_a_disk_that_is_full_after_the_joining(source, tmp_path, monkeypatch):
    fails = failing(PartFolder.save, FULL, 1, lambda _, content: content["is_joined"])
    monkeypatch.setattr(PartFolder, "save", fails)
    assert restore(source, tmp_path / "out.mp4") == FRAMES
    assert not (tmp_path / "out.mp4.part").exists()
    assert times(tmp_path / "out.mp4") == times(source)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL, which Windows lacks")
@pytest.mark.parametrize("packet", [0, 15])
def test_no_frame_is_restored_again_after_a_kill(source, tmp_path, packet):
    target = tmp_path / "out.mp4"
    job = json.dumps({"source": str(source), "target": str(target), "end": {"packet": packet}})
    program = REPOSITORY / "tests" / "killed.py"
    finished = subprocess.run(
        [sys.executable, str(program)], input=job + "\n", capture_output=True, text=True, check=True
    )
    assert finished.stdout.split() == ["ready", "9"]
    assert restore(source, target, resume=True) == 0
    assert times(target) == times(source)


def fail_with_sound(monkeypatch, condition: Callable[[OutputContainer], bool]) -> None:
    """Let every file of some kind fail at its end, as the trailer of a container may."""
    write = muxer.Muxer._write

    def fails(self, segments, path, plan):
        write(self, segments, path, plan)
        if condition(plan):
            raise av.InvalidDataError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(muxer.Muxer, "_write", fails)


def run(source: Path, target: Path) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        restore(source, target)
    return [str(warning.message) for warning in caught]


def test_sound_that_cannot_be_joined_is_converted(source, tmp_path, monkeypatch):
    fail_with_sound(monkeypatch, lambda plan: "copy" in plan.streams.values())
    (message,) = run(source, tmp_path / "out.mp4")
    assert "only the audio is taken over, converted" in message
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.codec_context.name for stream in container.streams.audio] == ["aac"]
    assert times(tmp_path / "out.mp4") == times(source)
    assert abs(packets(tmp_path / "out.mp4", "audio")[-1][0] - packets(source, "audio")[-1][0]) < 0.05


def test_sound_that_cannot_be_converted_is_left_out(source, tmp_path, monkeypatch):
    fail_with_sound(monkeypatch, lambda plan: bool(plan.streams))
    messages = run(source, tmp_path / "out.mp4")
    assert "all of them are left out" in messages[-1]
    assert not VideoReader(tmp_path / "out.mp4").has_audio
    assert times(tmp_path / "out.mp4") == times(source)


@pytest.mark.parametrize("error", [TypeError("no time"), ValueError("a bad value"), av.InvalidDataError(1, "bad")])
def test_streams_that_fail_in_the_middle(source, tmp_path, monkeypatch, error):
    def carry(*arguments):
        return map(fails_once, carry_streams(*arguments))

    fails_once = failing(lambda packet: packet, error, 5)
    carry_streams = muxer.carry_streams
    monkeypatch.setattr(muxer, "carry_streams", carry)
    (message,) = run(source, tmp_path / "out.mp4")
    assert "converted" in message
    assert VideoReader(tmp_path / "out.mp4").has_audio
    assert times(tmp_path / "out.mp4") == times(source)


def test_a_video_that_cannot_be_joined_is_kept(source, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fail_with_sound(patch, lambda plan: True)
        with pytest.raises(OSError, match=r"out\.mp4 cannot be written"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            restore(source, tmp_path / "out.mp4")
    assert restore(source, tmp_path / "out.mp4", resume=True) == 0
    assert VideoReader(tmp_path / "out.mp4").has_audio
