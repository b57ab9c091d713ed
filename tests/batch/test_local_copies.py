"""Local copies of remote files: the result belongs to the version of the source that was read."""

import json
from pathlib import Path

import pytest

from keep_hf.batch.local_copies import LocalCopies
from keep_hf.batch.remote_file import RemoteFile
from keep_hf.batch.shared_folder import Job
from stores import memory


__all__ = ["memory"]

JOB = Job(RemoteFile("memory", "bucket/in/a.mp4"), RemoteFile("memory", "bucket/out/a.mp4"), "a.mp4")


def finish(copies: LocalCopies, change: bytes | None = None) -> None:
    """Restore the job; the source may change while it is restored. The result is not delivered."""
    copy = copies.begin(JOB)
    content = copy.fetch().read_bytes()
    if change is not None:
        JOB.source.write(change)
    copy.target.parent.mkdir(parents=True, exist_ok=True)
    copy.target.write_bytes(b"restored " + content)
    copy.keep({"crf": 16}, {"frames": 1})


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_result_belongs_to_the_version_that_was_read(memory, tmp_path):
    copies = LocalCopies(tmp_path)
    JOB.source.write(b"old")
    finish(copies, change=b"newer")
    assert copies.begin(JOB).find_finished({"crf": 16}) is None
    finish(copies)
    assert copies.begin(JOB).find_finished({"crf": 16}) == {"frames": 1}
    assert copies.begin(JOB).find_finished({"crf": 17}) is None


def test_the_copy_that_was_read_is_removed_after_the_delivery(memory, tmp_path):
    JOB.source.write(b"old")
    copy = LocalCopies(tmp_path).begin(JOB)
    copy.fetch()
    JOB.source.write(b"newer")
    copy.target.parent.mkdir(parents=True)
    copy.target.write_bytes(b"restored old")
    copy.deliver()
    assert files(tmp_path) == []
    assert JOB.target.read() == b"restored old"


def test_copies_that_cannot_be_removed_do_not_fail_a_delivered_job(memory, tmp_path, monkeypatch):
    def refuse(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(f"{path} is in use.")

    JOB.source.write(b"old")
    finish(LocalCopies(tmp_path))
    monkeypatch.setattr("shutil.rmtree", refuse)
    LocalCopies(tmp_path).begin(JOB).deliver()
    assert JOB.target.read() == b"restored old"


def test_copies_and_reports_are_on_the_disk_before_they_have_their_names(memory, tmp_path, monkeypatch):
    """After a power failure, a file without its content would be taken for complete."""
    synced = []
    for module in ("remote_file", "local_copies"):
        monkeypatch.setattr(f"keep_hf.batch.{module}.sync", lambda path: synced.append(path.read_bytes()))
    JOB.source.write(b"old")
    finish(LocalCopies(tmp_path))
    assert synced[0] == b"old"
    assert json.loads(synced[1])[1:] == [{"crf": 16}, {"frames": 1}]
    assert len(synced) == 2


def test_a_source_that_changes_while_it_is_downloaded_is_not_restored(memory, tmp_path, monkeypatch):
    JOB.source.write(b"old")
    copy = LocalCopies(tmp_path).begin(JOB)
    download = RemoteFile.download

    def change_first(self: RemoteFile, target: Path) -> None:
        self.write(b"newer")
        download(self, target)

    monkeypatch.setattr(RemoteFile, "download", change_first)
    with pytest.raises(OSError, match="has changed while it was downloaded"):
        copy.fetch()
    assert files(tmp_path) == []
