"""The dataset that a run writes: its files appear complete."""

import errno
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pytest

from keep_hf.hub_dataset.output import DatasetOutput


NAME = PurePosixPath("data/train-00000-of-00001.parquet")


@pytest.fixture
def output(tmp_path) -> DatasetOutput:
    return DatasetOutput(tmp_path / "out", "default", "train")


def test_processes_that_write_the_same_file_do_not_disturb_each_other(output, tmp_path, monkeypatch):
    sources = [tmp_path / "a", tmp_path / "b"]
    for source in sources:
        source.write_text(source.name * 1000)
    copied = threading.Barrier(2, timeout=60)
    copyfile = shutil.copyfile

    def copy_at_the_same_time(source: Path, target: Path) -> None:
        copyfile(source, target)
        copied.wait()

    monkeypatch.setattr(shutil, "copyfile", copy_at_the_same_time)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda source: output.put(source, NAME), sources))
    assert (output.root / NAME).read_text() in ("a" * 1000, "b" * 1000)
    assert [path.name for path in (output.root / "data").iterdir()] == [NAME.name]


def test_a_copy_that_fails_leaves_nothing(output, tmp_path, monkeypatch):
    def fill_the_disk(source: Path, target: Path) -> None:
        target.write_text("the beg")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        output.put(tmp_path / "a", NAME)
    assert list((output.root / "data").iterdir()) == []
