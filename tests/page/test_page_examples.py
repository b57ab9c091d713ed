"""The example clips of the page: they open, the detector finds the people in them, the script makes them."""

import runpy
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from keep_hf import KeepPipeline, VideoReader
from keep_hf.page.examples import EXAMPLES, FOLDER, RESULT, SHOWN, Example
from paths import REPOSITORY


SCRIPTS = REPOSITORY / "examples" / "page_examples"


def read(path: Path) -> tuple[np.ndarray, float]:
    """Frames and frame rate."""
    with VideoReader(path) as reader:
        return np.stack([frame.image for frame in reader]), float(reader.frame_rate)


@pytest.fixture(scope="module")
def detector():
    return KeepPipeline.from_pretrained("keep-small").detector


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.path.stem)
def test_every_person_of_an_example_is_found(example: Example, detector):
    frames, frame_rate = read(example.path)
    assert 3 <= len(frames) / frame_rate <= 5
    found = detector.detect(list(frames[::8]))
    assert [len(faces) for faces in found] == [example.num_people] * len(found)
    assert min(np.ptp(faces.landmarks[:, :, 0], axis=1).min() for faces in found) > 20, "the faces are small"


def test_the_examples_differ_and_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.mp4")) < 1_500_000
    assert {path.name for path in FOLDER.glob("*.mp4")} == {path.name for path in [*files(), RESULT]}
    assert len({example.title for example in EXAMPLES}) == len(EXAMPLES) == 4
    sounds = [has_sound(path) for path in files()]
    assert sounds == [False, True, True, True]  # old footage is silent
    assert has_sound(RESULT) == has_sound(SHOWN.path)


def files() -> list[Path]:
    return [example.path for example in EXAMPLES]


def has_sound(path: Path) -> bool:
    with av.open(str(path)) as container:
        return len(container.streams.audio) == 1


def test_the_result_belongs_to_its_example(detector):
    """Frame by frame; only the face differs."""
    before, after = (read(path)[0].astype(int) for path in (SHOWN.path, RESULT))
    assert before.shape == after.shape
    (left, top, right, bottom), *_ = detector.detect([np.uint8(before[0])])[0].boxes.astype(int)
    change = np.abs(after - before).mean(axis=(0, 3))
    face = change[top:bottom, left:right].mean()
    border = np.concatenate([change[:20].ravel(), change[:, :20].ravel()]).mean()
    assert face > 3 * border
    assert border < 3


def test_the_script_makes_the_bundled_files(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    draw = runpy.run_path(str(SCRIPTS / "scenes.py"))["SCENES"]
    recordings = runpy.run_path(str(SCRIPTS / "recordings.py"))["RECORDINGS"]
    assert set(draw) == set(recordings) == {example.path.stem for example in EXAMPLES}
    for name in ("old_footage", "two_people"):
        recording = recordings[name]
        drawn = np.stack(list(recording.degrade(draw[name](2, recording.frame_rate))))
        bundled, frame_rate = read(FOLDER / f"{name}.mp4")
        assert frame_rate == recording.frame_rate
        assert np.abs(drawn - bundled[:2]).mean() < 6  # what the encoder changes


def test_an_unknown_example_is_refused(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", ["make.py", "holiday"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPTS / "make.py"), run_name="__main__")
    assert stopped.value.code == 2
    assert "there is no example holiday: use old_footage" in capsys.readouterr().err
