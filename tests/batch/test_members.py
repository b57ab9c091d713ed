"""The files of the processes that work in a folder, and what they say about others."""

from keep_hf.batch import members
from keep_hf.batch.members import Heartbeat, Member, Watch
from keep_hf.batch.processes import this_process


def test_a_process_is_a_member_until_it_closes_its_file(tmp_path):
    heartbeat, watch = Heartbeat(tmp_path, 17), Watch(tmp_path)
    assert list(watch.members()) == [Member(this_process(), 17, 1)]
    assert not watch.has_ended(heartbeat.name)
    heartbeat.close()
    assert list(watch.members()) == []
    assert watch.has_ended(heartbeat.name)
    assert list(tmp_path.iterdir()) == []


def test_the_file_changes_while_the_process_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "BEAT", 0.001)
    heartbeat = Heartbeat(tmp_path, 0)
    while Member.read(tmp_path / heartbeat.name).beat < 3:
        pass
    heartbeat.close()


def test_a_broken_file_is_no_member(tmp_path):
    for number, content in enumerate(("", "[]", '{"process": {"pid": 1}}', '{"process": 3, "start": 1, "beat": 1}')):
        path = tmp_path / f"{number}.json"
        path.write_text(content)
        assert Member.read(path) is None
    watch = Watch(tmp_path, patience=0)
    assert not watch.has_ended("0.json")
    assert watch.has_ended("0.json")  # it has stayed the same
