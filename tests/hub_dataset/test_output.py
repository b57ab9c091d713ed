"""The dataset that a run writes: its files appear complete."""

import errno
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pytest
from huggingface_hub import DatasetCard

from keep_hf.hub_dataset import output as output_module
from keep_hf.hub_dataset.output import CARD, DatasetOutput
from loopback_hub import run_hub, use_hub


NAME = PurePosixPath("data/train-00000-of-00001.parquet")


@pytest.fixture
def output(tmp_path) -> DatasetOutput:
    return DatasetOutput(tmp_path / "out", "default", "train")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with run_hub() as hub:
        use_hub(monkeypatch, hub, tmp_path / "cache")
        yield hub


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


def add_section(output: DatasetOutput) -> None:
    job = {"source": "me/clips", "revision": "1" * 40, "column": "video"}
    output.write_card(job, "keep-small", None, is_new=True)


def test_two_splits_that_change_the_card_at_the_same_time_both_have_a_section(hub, monkeypatch):
    repository = hub.create("datasets/me/restored", {"README.md": b"# Clips\n\nWritten by a user.\n"})
    place = Path("hf://datasets/me/restored")
    train, test = (DatasetOutput.parse(place, "default", split) for split in ("train", "test"))
    add_split = output_module.add_split

    def add_after_the_other(*args: object) -> str | None:
        monkeypatch.setattr(output_module, "add_split", add_split)
        add_section(test)  # after this run has read the card
        return add_split(*args)

    monkeypatch.setattr(output_module, "add_split", add_after_the_other)
    add_section(train)
    card = repository.files["README.md"].decode()
    assert "Written by a user." in card
    assert "## Split `train` of `default`" in card
    assert "## Split `test` of `default`" in card
    assert [each["split"] for each in DatasetCard(card).data.configs[0]["data_files"]] == ["test", "train"]


def test_an_upload_waits_for_the_commit_of_another_process(hub, tmp_path):
    repository = hub.create("datasets/me/restored", {})
    (tmp_path / "a").write_text("content")
    hub.num_busy = 2
    DatasetOutput.parse(Path("hf://datasets/me/restored"), "default", "train").put(tmp_path / "a", NAME)
    assert repository.files[str(NAME)] == b"content"
    hub.refuse = lambda path: True
    with pytest.raises(OSError, match="The storage is full"):  # at once
        DatasetOutput.parse(Path("hf://datasets/me/restored"), "default", "train").put(tmp_path / "a", CARD)
