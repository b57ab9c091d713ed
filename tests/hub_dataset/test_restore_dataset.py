"""`restore_dataset` and `keep-hf restore --column`, against a Hub on this machine."""

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from accelerate import PartialState
from datasets import Features, Image, Value, Video, load_dataset

from conftest import SIZE, make_clip, make_components
from keep_hf import KeepPipeline, restore_dataset
from keep_hf.batch.members import Heartbeat
from keep_hf.cli import main
from loopback_hub import LoopbackHub, run_hub, use_hub
from media import write_clip
from processes import launch


pytestmark = pytest.mark.slow

JOB = ".keep-hf/default-train.json"
COLUMNS = Features({"id": Value("int64"), "video": Video(), "thumbnail": Image(), "label": Value("string")})


@pytest.fixture(scope="module")
def pipe() -> KeepPipeline:
    pipe = KeepPipeline(**make_components(), gain_window=4)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def model(pipe, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    pipe.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / f"clip {i}.mp4", images=list(make_clip(2 + i, SIZE, SIZE, seed=i))) for i in range(4)]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with run_hub() as hub:
        use_hub(monkeypatch, hub, tmp_path / "cache")
        yield hub


def parquet(rows: list[dict], row_group_size: int = 10) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS.arrow_schema), file, row_group_size=row_group_size)
    return file.getvalue()


def row(number: int, video: dict | None) -> dict:
    return {
        "id": number,
        "video": video,
        "thumbnail": {"bytes": b"thumb", "path": "t.png"},
        "label": f"label {number}",
    }


def make_dataset(hub: LoopbackHub, clips: list[Path]) -> None:
    """Five rows in two files; the third is broken."""
    rows = [row(i, {"bytes": clip.read_bytes(), "path": clip.name}) for i, clip in enumerate(clips)]
    rows.insert(2, row(9, {"bytes": b"no video", "path": "broken.mp4"}))
    names = [f"data/train-{i:05d}-of-00002.parquet" for i in range(2)]
    hub.create("datasets/me/clips", {names[0]: parquet(rows[:3], 1), names[1]: parquet(rows[3:], 1)})


def restore(pipe: KeepPipeline, tmp_path: Path, target: str = "hf://datasets/me/restored", **options):
    options = {"aligned": True, "work_dir": tmp_path / "work"} | options
    return restore_dataset("hf://datasets/me/clips", target, lambda: pipe, **options)


def read_rows(name: str, split: str = "train") -> list[dict]:
    return list(load_dataset(name, split=split, streaming=True).decode(False))


def test_a_dataset_becomes_a_dataset_of_restored_videos(hub, pipe, clips, tmp_path):
    make_dataset(hub, clips)
    first, second = restore(pipe, tmp_path)
    assert (first.rows, second.rows) == ({"restored": 2, "failed": 1}, {"restored": 2})
    assert "broken.mp4 is not a video" in first.failed_rows[2]
    repository = hub.repositories["datasets/me/restored"]
    assert repository.private
    assert sorted(repository.files) == [
        JOB,
        "README.md",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
    ]
    rows = read_rows("me/restored")
    assert [row["id"] for row in rows] == [0, 1, 9, 2, 3]
    assert [row["label"] for row in rows] == [f"label {row['id']}" for row in rows]
    assert rows[0]["thumbnail"] == {"bytes": b"thumb", "path": "t.png"}
    for row, clip in zip([each for each in rows if each["video"]], clips, strict=True):
        pipe.restore_video(clip, tmp_path / "expected.mp4", aligned=True)
        assert row["video"] == {"bytes": (tmp_path / "expected.mp4").read_bytes(), "path": clip.name}
        assert row["restoration_reason"] is None
        report = json.loads(row["restoration_report"])
        assert report["frames"] == 2 + row["id"]
        assert report.keys().isdisjoint({"source", "target", "seconds", "peak_memory_bytes"})
    assert (rows[2]["video"], rows[2]["restoration_report"]) == (None, None)
    assert rows[2]["restoration_outcome"] == "failed"
    assert "broken.mp4 is not a video" in rows[2]["restoration_reason"]
    assert load_dataset("me/restored", split="train", streaming=True).features["video"] == Video()
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file() and path.suffix != ".jsonl"]


def count_restorations(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[Path]:
    """The sources that are restored from now on; after some of them, the run is interrupted."""
    restored: list[Path] = []
    restore_video = KeepPipeline.restore_video

    def counted(self, source, target, **options):
        if len(restored) == stop_after:
            raise KeyboardInterrupt
        restored.append(source)
        return restore_video(self, source, target, **options)

    monkeypatch.setattr(KeepPipeline, "restore_video", counted)
    return restored


def test_a_failed_upload_loses_nothing(hub, pipe, clips, tmp_path, monkeypatch):
    make_dataset(hub, clips)
    hub.refuse = lambda path: path.endswith("train-00000-of-00002.parquet")
    failed, done = restore(pipe, tmp_path)
    assert "The storage is full" in failed.error
    assert (done.error, done.rows) == (None, {"restored": 2})
    files = sorted(hub.repositories["datasets/me/restored"].files)
    assert files == [JOB, "README.md", "data/train-00001-of-00002.parquet"]
    hub.refuse = lambda path: False
    restored = count_restorations(monkeypatch)
    (uploaded,) = restore(pipe, tmp_path, resume=True)
    assert uploaded.rows == {"restored": 2, "failed": 1}
    assert restored == []
    assert [row["id"] for row in read_rows("me/restored")] == [0, 1, 9, 2, 3]


def test_an_interrupted_run_continues_with_the_next_row_of_the_same_commit(hub, pipe, clips, tmp_path, monkeypatch):
    make_dataset(hub, clips)
    restore(pipe, tmp_path, "hf://datasets/me/expected")
    with monkeypatch.context() as patch:
        count_restorations(patch, stop_after=4)  # with the broken one
        with pytest.raises(KeyboardInterrupt):
            restore(pipe, tmp_path)
    result = hub.repositories["datasets/me/restored"]
    assert sorted(result.files) == [JOB, "README.md", "data/train-00000-of-00002.parquet"]
    with pytest.raises(ValueError, match="has shards of the split 'train' already"):
        restore(pipe, tmp_path)
    with pytest.raises(ValueError, match=r"started as another job: fidelity was 1\.0 and is 0\.5"):
        restore(pipe, tmp_path, resume=True, fidelity=0.5)
    hub.repositories["datasets/me/clips"].commit({"data/train-00001-of-00002.parquet": parquet([])})
    restored = count_restorations(monkeypatch)
    (second,) = restore(pipe, tmp_path, resume=True)
    assert second.rows == {"restored": 2}
    assert len(restored) == 1
    files = hub.repositories["datasets/me/expected"].files
    assert {name: result.files[name] for name in files if name != "README.md"} == {
        name: content for name, content in files.items() if name != "README.md"
    }


def test_nothing_stays_of_a_run_that_was_killed_after_its_last_upload(hub, pipe, clips, tmp_path, monkeypatch):
    make_dataset(hub, clips)
    rmtree = shutil.rmtree

    def interrupt(path: str | Path, **options) -> None:
        if Path(path).name == "00001":  # the second shard, when it is uploaded
            raise KeyboardInterrupt
        rmtree(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            restore(pipe, tmp_path)
    assert restore(pipe, tmp_path, resume=True) == []
    assert [path.name for path in (tmp_path / "work").rglob("*") if path.is_file()] == ["keep-hf.jsonl"]


def test_a_run_is_resumed_before_its_first_upload(hub, pipe, clips, tmp_path, monkeypatch):
    make_dataset(hub, clips)
    source = hub.repositories["datasets/me/clips"]
    started, newer = source.commits[-1][0], parquet([row(7, None)])
    with monkeypatch.context() as patch:
        count_restorations(patch, stop_after=0)
        with pytest.raises(KeyboardInterrupt):
            restore(pipe, tmp_path)
    result = hub.repositories["datasets/me/restored"]
    assert sorted(result.files) == [JOB, "README.md"]
    source.commit({"data/train-00001-of-00002.parquet": newer})
    elsewhere = tmp_path / "other machine"
    with pytest.raises(ValueError, match=r"started as another job: fidelity was 1\.0 and is 0\.5"):
        restore(pipe, tmp_path, resume=True, fidelity=0.5, work_dir=elsewhere)
    # A run that is at work is joined.
    (shared,) = (tmp_path / "work" / "datasets").iterdir()
    other = Heartbeat(shared / ".keep-hf" / "processes", 0)
    with pytest.raises(ValueError, match=r"started as another job: fidelity was 1\.0 and is 0\.5"):
        restore(pipe, tmp_path, fidelity=0.5)
    other.close()
    restore(pipe, tmp_path, resume=True, work_dir=elsewhere)
    assert [row["id"] for row in read_rows("me/restored")] == [0, 1, 9, 2, 3]
    assert f"Commit `{started}`" in result.files["README.md"].decode()


def test_a_run_without_shards_starts_again_with_the_newest_commit(hub, pipe, clips, tmp_path, monkeypatch):
    make_dataset(hub, clips)
    with monkeypatch.context() as patch:
        count_restorations(patch, stop_after=0)
        with pytest.raises(KeyboardInterrupt):
            restore(pipe, tmp_path)
    newest = hub.repositories["datasets/me/clips"].commit(
        {"data/train-00001-of-00002.parquet": parquet([row(7, None)])}
    )
    restore(pipe, tmp_path, strength=0.5)
    result = hub.repositories["datasets/me/restored"]
    assert [row["id"] for row in read_rows("me/restored")] == [0, 1, 9, 7]
    assert json.loads(result.files[JOB])["revision"] == newest
    card = result.files["README.md"].decode()
    assert card.count("## Split `train` of `default`") == 1
    assert f"Commit `{newest}`" in card
    assert "| strength | 0.5 |" in card


def test_an_output_of_another_origin_is_refused(hub, pipe, clips, tmp_path):
    make_dataset(hub, clips)
    hub.create("datasets/me/foreign", {"README.md": b"# Mine\n", "data/train-00000-of-00001.csv": b"id\n1\n"})
    with pytest.raises(
        ValueError, match=r"has files that keep-hf has not written, such as data/train-00000-of-00001\.csv"
    ):
        restore(pipe, tmp_path, "hf://datasets/me/foreign")
    assert len(hub.repositories["datasets/me/foreign"].commits) == 2
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_text("a")
    with pytest.raises(ValueError, match=r"such as a\.jpg: choose an output that is new or empty"):
        restore(pipe, tmp_path, str(folder))
    # What the Hub writes into a new repository is no content.
    hub.create("datasets/me/new", {"README.md": b"---\nlicense: mit\n---\n", ".gitattributes": b""})
    restore(pipe, tmp_path, "hf://datasets/me/new")
    card = hub.repositories["datasets/me/new"].files["README.md"].decode()
    assert "license: mit" in card
    assert "## Split `train`" in card


def test_videos_that_are_files_are_fetched_one_by_one(hub, pipe, clips, tmp_path):
    lines = [{"file_name": f"{clip.stem}.mp4", "n": i} for i, clip in enumerate(clips)]
    lines.insert(1, {"file_name": "missing.mp4", "n": 9})
    files = {f"train/{clip.stem}.mp4": clip.read_bytes() for clip in clips}
    metadata = "\n".join(map(json.dumps, lines)).encode()
    hub.create("datasets/me/clips", files | {"train/metadata.jsonl": metadata})
    results = restore(pipe, tmp_path, num_shards=2)
    assert [result.name for result in results] == [f"data/train-0000{i}-of-00002.parquet" for i in range(2)]
    rows = read_rows("me/restored")
    assert [row["n"] for row in rows] == [0, 9, 1, 2, 3]
    assert [row["restoration_outcome"] for row in rows] == ["restored", "failed", *["restored"] * 3]
    assert "missing.mp4 does not exist" in rows[1]["restoration_reason"]
    assert rows[2]["video"]["path"] == "clip 1.mp4"
    fetched = [name for name, _ in hub.downloaded if name.endswith(".mp4")]
    assert len(fetched) == len(set(fetched)) == len(clips)


def test_videos_in_tar_files(hub, pipe, clips, tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for i, clip in enumerate(clips[:2]):
            tar.add(clip, f"{i}.mp4")
            label = json.dumps({"label": i}).encode()
            info = tarfile.TarInfo(f"{i}.json")
            info.size = len(label)
            tar.addfile(info, io.BytesIO(label))
    hub.create("datasets/me/clips", {"clips-00000.tar": file.getvalue()})
    (result,) = restore(pipe, tmp_path, column="mp4")
    assert result.rows == {"restored": 2}
    rows = read_rows("me/restored")
    assert [(row["__key__"], row["json"]) for row in rows] == [("0", {"label": 0}), ("1", {"label": 1})]
    assert all(row["mp4"]["bytes"] for row in rows)


def test_only_the_shard_that_is_restored_is_read(hub, pipe, clips, tmp_path, monkeypatch):
    names = [f"data/train-{i:05d}-of-00002.parquet" for i in range(2)]
    video = clips[0].read_bytes() + os.urandom(200_000)  # does not shrink
    rows = [row(i, {"bytes": video, "path": "a.mp4"}) for i in range(2)]
    hub.create("datasets/me/clips", dict.fromkeys(names, parquet(rows, 1)))
    count_restorations(monkeypatch, stop_after=0)
    with pytest.raises(KeyboardInterrupt):
        restore(pipe, tmp_path)
    assert {name for name, size in hub.downloaded if size > 100_000} == {f"datasets/me/clips/{names[0]}"}


def test_more_shards_than_files_are_made_of_row_groups(hub, pipe, clips, tmp_path):
    make_dataset(hub, clips)
    results = restore(pipe, tmp_path, num_shards=4)
    assert [sum(result.rows.values()) for result in results] == [2, 1, 1, 1]
    assert [row["id"] for row in read_rows("me/restored")] == [0, 1, 9, 2, 3]
    with pytest.raises(ValueError, match="can be divided into 1 to 5 shards, got 6"):
        restore(pipe, tmp_path, "hf://datasets/me/other", num_shards=6)


def test_a_row_cannot_name_a_file_that_is_not_in_the_dataset(hub, pipe, clips, tmp_path):
    paths = [str(clips[0]), f"file://{clips[0]}", "hf://datasets/me/other@main/a.mp4", "../a.mp4", None]
    rows = [row(i, {"bytes": None, "path": path}) for i, path in enumerate(paths)] + [row(9, None)]
    rows[0]["thumbnail"] = {"bytes": None, "path": str(clips[0])}
    hub.create("datasets/me/clips", {"data/train-00000-of-00001.parquet": parquet(rows)})
    (result,) = restore(pipe, tmp_path)
    assert result.rows == {"failed": 6}
    assert all("is no file of the dataset" in result.failed_rows[i] for i in range(4))
    assert result.failed_rows[4] == result.failed_rows[5] == "the row has no video."
    assert read_rows("me/restored")[0]["thumbnail"]["bytes"] is None


def test_the_card_names_what_made_it(hub, model, clips, tmp_path):
    make_dataset(hub, clips)
    source = hub.repositories["datasets/me/clips"]
    (train,) = [source.files["data/train-00001-of-00002.parquet"]]
    source.commit({"data/test-00000-of-00001.parquet": train})
    for split in ("test", "train"):
        restore_dataset(
            "hf://datasets/me/clips",
            "hf://datasets/me/restored",
            model,
            split=split,
            aligned=True,
            work_dir=tmp_path / "work",
        )
    card = hub.repositories["datasets/me/restored"].files["README.md"].decode()
    assert [row["id"] for row in read_rows("me/restored", "test")] == [2, 3]
    assert [row["id"] for row in read_rows("me/restored", "train")] == [0, 1, 9, 2, 3]
    assert card.count("# restored\n") == card.count("## Split `test` of `default`") == 1
    assert card.count("## Split `train` of `default`") == 1
    assert card.count(f"Commit `{source.commits[-1][0]}` of [me/clips]") == 2
    for line in ("| model | tiny |", "| aligned | True |", "| strength | auto |"):
        assert line in card
    assert str(tmp_path.parent) not in card
    assert "license:" not in card.split("---")[1]


def test_a_local_folder_is_an_output_too(hub, pipe, clips, tmp_path):
    make_dataset(hub, clips)
    restore(pipe, tmp_path, str(tmp_path / "restored"))
    assert [row["id"] for row in read_rows(str(tmp_path / "restored"))] == [0, 1, 9, 2, 3]
    with pytest.raises(ValueError, match="continue with resume"):
        restore(pipe, tmp_path, str(tmp_path / "restored"))
    assert restore(pipe, tmp_path, str(tmp_path / "restored"), resume=True) == []


# The command


def command(model: str, tmp_path: Path, *words: object) -> list[str]:
    options = ["--model", model, "--aligned", "--device", "cpu", "--work-dir", tmp_path / "work", "--column", "video"]
    return [str(word) for word in ["restore", *options, *words]]


def test_two_processes_share_the_shards(hub, pipe, model, clips, tmp_path):
    make_dataset(hub, clips)
    restore(pipe, tmp_path, str(tmp_path / "expected"), num_shards=4)
    words = command(model, tmp_path, "hf://datasets/me/clips", "hf://datasets/me/restored", "--num-shards", 4)
    launched = launch(2, "-m", "keep_hf.cli", *words)
    assert launched.returncode == 0, launched.stderr
    assert launched.stderr.count(": row ") == 1
    assert "broken.mp4 is not a video" in launched.stderr
    files = hub.repositories["datasets/me/restored"].files
    assert len(hub.repositories["datasets/me/restored"].commits) == 1 + 2 + 4  # empty, job and card, every shard once
    for path in (tmp_path / "expected").rglob("*.parquet"):
        assert files[path.relative_to(tmp_path / "expected").as_posix()] == path.read_bytes()


def test_errors_are_one_line(hub, model, clips, tmp_path, capsys):
    make_dataset(hub, clips)

    def fails(*words: object) -> str:
        PartialState._reset_state()
        capsys.readouterr()
        assert main(command(model, tmp_path, *words)) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    source, target = "hf://datasets/me/clips", tmp_path / "out"
    assert "hf://datasets/me/none cannot be read" in fails("hf://datasets/me/none", target)
    assert "Bad split: test. Available splits: ['train']" in fails(source, target, "--split", "test")
    assert "'other' not found. Available: ['default']" in fails(source, target, "--config", "other")
    assert "no column of videos named 'label' in split 'train'; choose video." in fails(
        source, target, "--column", "label"
    )
    assert "is no dataset on the Hub; pass hf://datasets/owner/name" in fails(clips[0].parent, target)
    assert "hf://me/clips is no dataset" in fails("hf://me/clips", target)
    assert "names a revision" in fails(source, "hf://datasets/me/restored@v1")
    assert "into 1 to 2 shards, got 0" in fails(source, target, "--num-shards", 0)
    assert "--ray is not supported for a dataset" in fails(source, target, "--ray")
    assert "--report is not supported for a dataset" in fails(source, target, "--report", tmp_path / "a.json")
    assert "name the column of videos, --column" in fails(source, target, "--column", "", "--split", "train")
    assert not target.exists()
