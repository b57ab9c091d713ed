"""`keep-hf restore` from and to object stores: in memory, and S3 on this machine."""

import json
import sys
from pathlib import Path

import pytest
from accelerate import PartialState

from conftest import SIZE, make_clip, make_components
from keep_hf import KeepPipeline
from keep_hf.batch.remote_file import RemoteFile
from keep_hf.cli import main
from loopback_hub import run_hub, use_hub
from media import write_clip
from stores import memory, s3, s3_server


pytestmark = pytest.mark.slow
__all__ = ["memory", "s3", "s3_server"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    KeepPipeline(**make_components(), gain_window=4).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with run_hub() as hub:
        use_hub(monkeypatch, hub, tmp_path / "cache")
        yield hub


@pytest.fixture
def clips(tmp_path) -> Path:
    folder = tmp_path / "clips"
    (folder / "deep").mkdir(parents=True)
    for name, count in (("a.mp4", 2), ("deep/b.avi", 12)):
        write_clip(folder / name, images=list(make_clip(count, SIZE, SIZE)))
    (folder / "notes.txt").write_text("no video")
    return folder


def run(source: object, target: object, model: str, work: Path, *options: str) -> int:
    PartialState._reset_state()
    words = ["restore", str(source), str(target), "--model", model, "--aligned", "--device", "cpu"]
    return main([*words, "--work-dir", str(work), *options])


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def manifest(text: bytes) -> list[tuple[str, str, str]]:
    lines = [json.loads(line) for line in text.splitlines()]
    return [(line["source"], line["target"], line["outcome"]) for line in lines]


@pytest.mark.parametrize("store", ["memory", "s3"])
def test_a_folder_in_a_store_is_restored_into_a_store(model, clips, tmp_path, store, request, capsys):
    system = request.getfixturevalue(store)
    system.put(str(clips), "bucket/in", recursive=True)
    assert run(clips, tmp_path / "expected", model, tmp_path / "work") == 0
    source, target = f"{store}://bucket/in", f"{store}://bucket/out"
    assert run(source, target, model, tmp_path / "work") == 0
    assert f"keep-hf: {source}/a.mp4: person 0: restored" in capsys.readouterr().err
    assert system.cat("bucket/out/a.mp4") == (tmp_path / "expected" / "a.mp4").read_bytes()
    assert system.cat("bucket/out/deep/b.mp4") == (tmp_path / "expected" / "deep" / "b.mp4").read_bytes()
    done = [(f"{source}/deep/b.avi", "deep/b.mp4", "restored"), (f"{source}/a.mp4", "a.mp4", "restored")]
    assert manifest(system.cat("bucket/out/keep-hf.jsonl")) == done
    # Nothing but the manifest stays here.
    (left,) = files(tmp_path / "work")
    assert left.endswith("keep-hf.jsonl")
    # A run that is resumed restores what is missing.
    system.rm("bucket/out/a.mp4")
    assert run(source, target, model, tmp_path / "work", "--resume") == 0
    assert sorted(outcome for _, _, outcome in manifest(system.cat("bucket/out/keep-hf.jsonl"))[2:]) == [
        "already done",
        "restored",
    ]


def test_local_videos_into_a_store_and_back(model, clips, tmp_path, memory):
    assert run(clips, "memory://bucket/out", model, tmp_path / "work") == 0
    memory.put(str(clips), "bucket/in", recursive=True)
    assert run("memory://bucket/in", tmp_path / "back", model, tmp_path / "work") == 0
    assert files(tmp_path / "back") == ["a.mp4", "deep/b.mp4", "keep-hf.jsonl"]
    for name in ("a.mp4", "deep/b.mp4"):
        assert memory.cat(f"bucket/out/{name}") == (tmp_path / "back" / name).read_bytes()
    assert run("memory://bucket/in/a.mp4", tmp_path / "one.mp4", model, tmp_path / "work") == 0
    assert run(clips / "a.mp4", "memory://bucket/one.mp4", model, tmp_path / "work") == 0
    assert (tmp_path / "one.mp4").read_bytes() == memory.cat("bucket/one.mp4") == memory.cat("bucket/out/a.mp4")


def test_a_failed_upload_is_not_marked_as_done(model, clips, tmp_path, memory, monkeypatch, capsys):
    upload = RemoteFile.upload

    def fail(self, source):
        if self.name == "a.mp4":
            raise OSError(f"{self} cannot be reached: the line was cut.")
        upload(self, source)

    monkeypatch.setattr(RemoteFile, "upload", fail)
    assert run(clips, "memory://bucket/out", model, tmp_path / "work") == 1
    error = capsys.readouterr().err
    assert "memory://bucket/out/a.mp4 cannot be reached" in error
    assert "The restored video is kept: --resume uploads it." in error
    outcomes = [outcome for _, _, outcome in manifest(memory.cat("bucket/out/keep-hf.jsonl"))]
    assert outcomes == ["restored", "failed"]
    assert not memory.exists("bucket/out/a.mp4")
    monkeypatch.setattr(RemoteFile, "upload", upload)
    assert run(clips, tmp_path / "expected", model, tmp_path / "work") == 0
    # The next run only uploads it, unless the source or an option is another one.
    calls = []
    restore_video = KeepPipeline.restore_video

    def counted(self, source, target, **options):
        calls.append(source)
        return restore_video(self, source, target, **options)

    monkeypatch.setattr(KeepPipeline, "restore_video", counted)
    assert run(clips, "memory://bucket/out", model, tmp_path / "work", "--resume") == 0
    assert calls == []
    assert memory.cat("bucket/out/a.mp4") == (tmp_path / "expected" / "a.mp4").read_bytes()
    assert manifest(memory.cat("bucket/out/keep-hf.jsonl"))[-1][2] == "restored"
    assert files(tmp_path / "work") == [left for left in files(tmp_path / "work") if left.endswith("keep-hf.jsonl")]


@pytest.mark.parametrize("changed", ["option", "source"])
def test_a_result_that_was_not_uploaded_is_not_used_for_another_job(
    model, clips, tmp_path, memory, monkeypatch, changed
):
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFile, "upload", lambda self, source: (_ for _ in ()).throw(OSError("the line was cut.")))
        assert run(clips / "a.mp4", "memory://bucket/a.mp4", model, tmp_path / "work") == 1
    words = ["--crf", "30"] if changed == "option" else []
    if changed == "source":
        write_clip(clips / "a.mp4", images=list(make_clip(3, SIZE, SIZE, seed=5)))
    assert run(clips / "a.mp4", "memory://bucket/a.mp4", model, tmp_path / "work", "--resume", *words) == 0
    assert run(clips / "a.mp4", tmp_path / "expected.mp4", model, tmp_path / "work", *words) == 0
    assert memory.cat("bucket/a.mp4") == (tmp_path / "expected.mp4").read_bytes()


def test_files_in_repositories_of_the_hub(model, clips, tmp_path, hub, capsys):
    hub.create("datasets/me/clips", {f"in/{name}": (clips / name).read_bytes() for name in ("a.mp4", "deep/b.avi")})
    repository = hub.create("datasets/me/out", {})
    assert run(clips, tmp_path / "expected", model, tmp_path / "work") == 0
    source, target = "hf://datasets/me/clips/in", "hf://datasets/me/out/restored"
    assert run(source, target, model, tmp_path / "work") == 0
    expected = {f"restored/{name}": (tmp_path / "expected" / name).read_bytes() for name in ("a.mp4", "deep/b.mp4")}
    results = dict(repository.files)
    results.pop("restored/keep-hf.jsonl")
    assert results == expected
    assert [outcome for _, _, outcome in manifest(repository.files["restored/keep-hf.jsonl"])] == ["restored"] * 2
    # Another process has changed the repository.
    repository.commits.append(("1" * 40, {"restored/a.mp4": expected["restored/a.mp4"]}))
    assert run(source, target, model, tmp_path / "work", "--resume") == 0
    assert repository.files["restored/deep/b.mp4"] == expected["restored/deep/b.mp4"]
    outcomes = [outcome for _, _, outcome in manifest(repository.files["restored/keep-hf.jsonl"])]
    assert outcomes[2:] == ["already done", "restored"]
    capsys.readouterr()
    assert run(clips / "a.mp4", "hf://datasets/me/none/a.mp4", model, tmp_path / "work") == 1
    assert "hf://datasets/me/none/a.mp4 does not exist, or its bucket or folder does not" in capsys.readouterr().err
    hub.create("datasets/me/rows", {"data/train.parquet": b"PAR1"})
    assert run("hf://datasets/me/rows", tmp_path / "rows", model, tmp_path / "work") == 1
    assert "name the column with --column" in capsys.readouterr().err


def test_a_source_that_has_changed_is_fetched_again(model, clips, tmp_path, memory):
    (tmp_path / "bad.mp4").write_text("no video")
    memory.put(str(tmp_path / "bad.mp4"), "bucket/a.mp4")
    assert run("memory://bucket/a.mp4", tmp_path / "out.mp4", model, tmp_path / "work") == 1
    memory.put(str(clips / "a.mp4"), "bucket/a.mp4")
    assert run("memory://bucket/a.mp4", tmp_path / "out.mp4", model, tmp_path / "work", "--resume") == 0


def test_errors_are_one_line(model, clips, tmp_path, s3, monkeypatch, capsys):
    def fails(source: object, target: object, *options: str) -> str:
        capsys.readouterr()
        assert run(source, target, model, tmp_path / "work", *options) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "s3://nowhere/in does not exist, or its bucket or folder does not" in fails(
        "s3://nowhere/in", tmp_path / "out"
    )
    assert "s3://bucket/in does not exist or contains no videos" in fails("s3://bucket/in", tmp_path / "out")
    assert "s3://nowhere/a.mp4 does not exist" in fails(clips / "a.mp4", "s3://nowhere/a.mp4")
    assert "missing does not exist" in fails(tmp_path / "missing", "s3://bucket/out")
    assert "local files only" in fails(clips, "s3://bucket/out", "--report", str(tmp_path / "report.html"))
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3")  # fsspec.registry is another object
    assert "s3://bucket/in cannot be opened. Install s3fs" in fails("s3://bucket/in", tmp_path / "out")


def test_missing_credentials_are_one_line(model, tmp_path, s3, monkeypatch, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3.clear_instance_cache()
    assert run("s3://bucket/in", tmp_path / "out", model, tmp_path / "work") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "s3://bucket/in" in line
    assert "credentials" in line.lower()
