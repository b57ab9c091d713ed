"""The backend of the page, without a browser: parts of videos, limits, progress, borrowed GPUs."""

import inspect
import json
import math
import pickle
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from conftest import make_components
from keep_hf import KeepPipeline, VideoReader
from keep_hf.faces.tracking.tracks import FaceTrack
from keep_hf.page import backend as backend_module
from keep_hf.page.backend import Backend
from keep_hf.page.clips import cut_clip, probe, write_side_by_side
from keep_hf.page.limits import Limits
from keep_hf.page.progress import Phase, Progress
from keep_hf.page.requests import RestorationRequest, RestoredPart
from keep_hf.page.slices import MAX_SECONDS, OVERHEAD, SliceTimer, gpu_seconds
from media import difference, packets, times, write_clip
from portraits import write_people


def images(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


def tone(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


# Parts of videos


def test_a_part_has_its_frames_and_audio(tmp_path):
    source, part = write_clip(tmp_path / "in.mp4", num_frames=50, audio_codec="aac"), tmp_path / "part.mp4"
    assert list(cut_clip(source, part, 0.4, 1.2)) == list(range(1, 21))
    assert times(part) == [Fraction(index, 25) for index in range(20)]
    for mine, theirs in zip(images(part), images(source)[10:30], strict=True):
        assert difference(mine, theirs) <= 12
    assert len(packets(part, "audio")) * 1024 / 48000 == pytest.approx(0.8, abs=0.06)
    assert np.abs(tone(part)[5000:30000]).max() > 0.2


def test_a_part_keeps_the_frame_intervals(tmp_path):
    pts = [0, 3, 4, 9, 12, 20]
    source = write_clip(tmp_path / "in.mkv", num_frames=6, pts=pts, time_base=Fraction(1, 25))
    list(cut_clip(source, tmp_path / "part.mp4", 0.15, 0.5))
    assert times(tmp_path / "part.mp4") == [Fraction(pts - 4, 25) for pts in (4, 9, 12)]


def test_odd_sides_become_even(tmp_path):
    source = write_clip(tmp_path / "in.mp4", num_frames=3, width=97, height=65, pixel_format="yuv444p")
    list(cut_clip(source, tmp_path / "part.mp4"))
    with av.open(str(tmp_path / "part.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.pix_fmt) == (96, 64, "yuv420p")


def test_a_part_without_frames(tmp_path):
    source = write_clip(tmp_path / "in.mp4", num_frames=5)
    with pytest.raises(ValueError, match=r"no frame between 0\.21 and 9 seconds"):
        list(cut_clip(source, tmp_path / "part.mp4", 0.21, 9))


@pytest.mark.parametrize("name", ["in.mp4", "in.webm"])
def test_the_length_of_a_video(tmp_path, name):
    """WebM does not state the number of frames."""
    codec = "libx264" if name == "in.mp4" else "libvpx-vp9"
    clip = probe(write_clip(tmp_path / name, num_frames=15, frame_rate=10, codec=codec))
    assert (clip.num_frames, clip.width, clip.height) == (15, 96, 64)
    assert clip.seconds == pytest.approx(1.5, abs=0.01)
    assert clip.frames_between(0.5, math.inf) == 10


def test_side_by_side(tmp_path):
    left = write_clip(tmp_path / "left.mp4", num_frames=6, audio_codec="aac")
    right = write_clip(tmp_path / "right.mp4", images=[image.repeat(2, 0).repeat(2, 1) for image in images(left)])
    assert list(write_side_by_side(left, right, tmp_path / "both.mp4")) == [1, 2, 3, 4, 5, 6]
    both = images(tmp_path / "both.mp4")
    assert len(both) == 6
    assert both[0].shape == (128, 2 * 192, 3)
    assert np.abs(both[4][:, :192].astype(int) - both[4][:, 192:]).mean() < 3
    assert packets(tmp_path / "both.mp4", "audio")


# Limits


def test_limits(tmp_path):
    clip, limits = probe(write_clip(tmp_path / "in.mp4", num_frames=50)), Limits(seconds=1, megapixels=0.05)
    limits.check(clip, 0, 1, 2)
    limits.check(clip, 1.5, math.inf, 1)
    for arguments, message in (
        ((0, math.inf), r"2\.0 seconds are too long: choose a part of at most 1 seconds"),
        ((1, 1), "must end after it starts; got 1 to 1"),
        ((-1, 1), "must end after it starts"),
        ((math.nan, 1), "must end after it starts"),
        ((2, 3), r"is 2\.0 seconds long; the part starts after that, at 2"),
        ((0, 1, 3), r"288 x 192 pixels are too large: the limit is 0\.05 megapixels. Choose a smaller enlargement"),
    ):
        with pytest.raises(ValueError, match=message):
            limits.check(clip, *arguments)
    with pytest.raises(ValueError, match="limit of seconds must be positive, got 0"):
        Limits(seconds=0)


# Progress


def test_progress_estimates_the_time_left():
    phase = Phase("Working")
    phase.started -= 30
    assert str(phase.at(0.25)) == "Working: 25 %, about 1 min 30 s left"
    assert str(phase.at(0.02)) == "Working: 2 %"
    assert str(Phase("Working").at(0.5)) == "Working: 50 %"
    assert str(Progress("Waiting")) == "Waiting ..."


# Borrowed GPUs


@pytest.fixture(scope="module")
def pipe() -> KeepPipeline:
    detector = KeepPipeline.from_pretrained("keep-tiny").detector
    return KeepPipeline(**make_components(), detector=detector, gain_window=4)


class BorrowedGPU:
    """Runs functions as `spaces.GPU` does: arguments and results pass to another process and back."""

    def __init__(self) -> None:
        self.requested: list[tuple[str, int]] = []  # name of the function, seconds

    def __call__(self, function, duration):
        assert inspect.isgeneratorfunction(function)  # spaces.GPU treats other functions as ones that return a value

        def on_device(*arguments):
            self.requested.append((function.__name__, duration(*arguments)))
            for step in function(*pickle.loads(pickle.dumps(arguments))):
                yield pickle.loads(pickle.dumps(step))

        return on_device


def track(backend: Backend, part: Path, num_frames: int) -> list[FaceTrack]:
    """The tracks of a part: what the generator returns."""
    steps = backend.track_part(part, num_frames)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def targets(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "after.mp4", folder / "both.mp4", folder / "report.json"


def test_a_gpu_is_requested_for_the_number_of_frames(pipe, tmp_path):
    gpu = BorrowedGPU()
    clip = write_people(tmp_path / "in.mp4", 10, num_people=1)
    backend = Backend(pipe, gpu)
    assert [len(found) for found in track(backend, clip, 10)] == [10]
    *_, result = backend.restore_part(clip, 10, RestorationRequest(0, 1), targets(tmp_path))
    assert isinstance(result, RestoredPart)
    assert len(images(result.after)) == result.num_frames == 10
    assert gpu.requested == [("_track", gpu_seconds(10)), ("_restore", gpu_seconds(10))]


def test_seconds_to_request():
    assert OVERHEAD < gpu_seconds(1) < gpu_seconds(200) < gpu_seconds(300) < MAX_SECONDS
    assert gpu_seconds(100_000) == MAX_SECONDS == 60  # more than that, and some users are refused


def test_a_slice_ends_before_its_time_is_over():
    timer = SliceTimer(10)

    def step(seconds: float) -> bool:
        timer.last -= seconds
        timer.end -= seconds
        return timer.is_over()

    assert not step(4)
    assert not step(1)  # 5 seconds are left, and the longest step took 4
    assert step(2)
    assert not SliceTimer(math.inf).is_over()


def test_slices_give_the_result_of_one_run(pipe, tmp_path, monkeypatch):
    """Every slice ends at the first possible frame."""
    monkeypatch.setattr(backend_module, "SEGMENT_FRAMES", 3)
    monkeypatch.setattr(backend_module, "gpu_seconds", lambda num_left: OVERHEAD)
    clip, gpu = write_people(tmp_path / "in.mp4", 20, num_people=1), BorrowedGPU()

    def run(backend: Backend, folder: Path) -> tuple[list[FaceTrack], list[bytes], list[dict], list[float]]:
        folder.mkdir()
        tracks = track(backend, clip, 20)
        files, reports, shares = [], [], []
        for step in backend.restore_part(clip, 20, RestorationRequest(0, 4, strength=1.0), targets(folder)):
            if isinstance(step, RestoredPart):
                files = [path.read_bytes() for path in (step.after, step.both)]
                reports.append(json.loads(step.report.read_text()))
            elif step.phase == "Restoring the faces":
                shares.append(step.share)
        return tracks, files, reports, shares

    tracks, files, (report,), shares = run(Backend(pipe, gpu), tmp_path / "slices")
    expected, whole_files, (whole_report,), _ = run(Backend(pipe), tmp_path / "whole")
    assert gpu.requested.count(("_track", OVERHEAD)) == 21  # one frame in each, and the end
    assert gpu.requested.count(("_restore", OVERHEAD)) == 5  # blocks of 4 frames
    assert len(tracks) == 1
    for one, other in zip(tracks, expected, strict=True):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(other, name))
    assert files == whole_files
    assert report["frames"] == 20
    changing = {"seconds", "peak_memory_bytes"}
    assert {key: report[key] for key in report.keys() - changing} == {
        key: whole_report[key] for key in whole_report.keys() - changing
    }
    # The bar goes on from slice to slice.
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
