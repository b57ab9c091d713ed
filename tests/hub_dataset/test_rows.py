"""One row: faults of its video are recorded; those of the machine are raised, and the next run repeats the row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
import torch

from conftest import make_clip
from keep_hf import VideoReader, VideoWriter
from keep_hf.batch.manifest import FAILED, RESTORED
from keep_hf.hub_dataset.rows import RowResult, restore_row
from keep_hf.hub_dataset.source import SourceSplit
from keep_hf.video.part_folder import LOCK, STATE, OutputInUseError, lock_file, part_path
from keep_hf.video.segments.output_format import MissingEncoderError
from loopback_hub import run_hub, use_hub
from media import write_clip


@pytest.fixture
def run_row(tmp_path) -> Callable[..., RowResult]:
    """Restores a row whose video is in the row, in `tmp_path / "000000"`."""
    clip = write_clip(tmp_path / "clip.mp4", images=list(make_clip(4, 32, 32)))
    row = pa.table({"video": [{"bytes": clip.read_bytes(), "path": "clip.mp4"}]})
    source = SourceSplit.__new__(SourceSplit)  # without a Hub: the video is in the row
    source.column = "video"
    return lambda restore: restore_row(source, row, tmp_path / "000000", restore, None)


def copy(source: Path, target: Path, interrupt: bool = False) -> dict[str, Any]:
    """Stands for a restoration, with a real file and real segments."""
    with VideoReader(source) as reader:
        images = list(reader)
        with VideoWriter(target, reader, width=32, height=32, resume=True) as writer:
            for number, frame in enumerate(images):
                if number >= writer.num_written:
                    writer.write(frame.image, frame.pts, frame.duration)
                    writer.end_segment(None)
                    if interrupt:
                        raise KeyboardInterrupt
    return {"tracks": [1], "frames": len(images)}


def interrupt(run_row: Callable[..., RowResult]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_row(lambda source, target: copy(source, target, interrupt=True))


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_too_little_memory_is_not_recorded(run_row, error):
    def fail(source: Path, target: Path) -> dict[str, Any]:
        raise error

    with pytest.raises(MemoryError, match=r"^clip\.mp4: there is not enough memory"):
        run_row(fail)
    assert run_row(copy).outcome == RESTORED


def test_a_row_that_another_process_restores_is_not_recorded(run_row, tmp_path):
    interrupt(run_row)
    with lock_file(part_path(tmp_path / "000000" / "restored.mp4") / LOCK), pytest.raises(OutputInUseError):
        run_row(copy)
    assert part_path(tmp_path / "000000" / "restored.mp4").is_dir()
    assert run_row(copy).outcome == RESTORED


def test_a_missing_encoder_is_not_recorded(run_row, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("av.codecs_available", set())
        with pytest.raises(MissingEncoderError):
            run_row(copy)
    assert run_row(copy).outcome == RESTORED


def test_a_row_with_damaged_work_is_restored_from_scratch(run_row, tmp_path):
    interrupt(run_row)
    (part_path(tmp_path / "000000" / "restored.mp4") / STATE).write_bytes(b"damaged")
    result = run_row(copy)
    assert (result.outcome, json.loads(result.report)["frames"]) == (RESTORED, 4)


def test_a_fault_of_the_video_is_recorded(run_row, tmp_path):
    def fail(source: Path, target: Path) -> dict[str, Any]:
        raise ValueError(f"{source} is not a video.")

    expected = RowResult(FAILED, "clip.mp4 is not a video.")
    assert run_row(fail) == expected
    assert run_row(copy) == expected  # from the file
    assert [path.name for path in (tmp_path / "000000").iterdir()] == ["result.json"]


def test_without_access_to_the_dataset_no_file_counts_as_missing(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "clip.mp4", images=list(make_clip(2, 32, 32)))
    with run_hub() as hub:
        use_hub(monkeypatch, hub, tmp_path / "cache")
        metadata = json.dumps({"file_name": "clip.mp4"}).encode()
        files = {"train/clip.mp4": clip.read_bytes(), "train/metadata.jsonl": metadata}
        revision = hub.create("datasets/me/clips", files).commits[-1][0]
        source = SourceSplit("me/clips", revision, None, "train", "video")
        (row,) = source.read(0, 1)
        repository = hub.repositories.pop("datasets/me/clips")
        fsspec.get_filesystem_class("hf").clear_instance_cache()
        with pytest.raises(OSError, match="me/clips cannot be read"):
            source.fetch(row, tmp_path / "video.mp4")
        hub.repositories["datasets/me/clips"] = repository
        source.fetch(row, tmp_path / "video.mp4")
        assert (tmp_path / "video.mp4").read_bytes() == clip.read_bytes()
