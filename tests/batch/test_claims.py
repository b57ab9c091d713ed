"""Claims: one owner at a time, and the succession of one that has ended."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from keep_hf.batch.claims import Claims
from keep_hf.batch.members import Heartbeat, Member, Watch
from keep_hf.batch.processes import this_process


PATIENCE = 0.05


@pytest.fixture
def heartbeats(tmp_path):
    made: list[Heartbeat] = []

    def make() -> Heartbeat:
        made.append(Heartbeat(tmp_path / "processes", 0))
        return made[-1]

    yield make
    for each in made:
        each.close()


def make_claims(folder: Path, heartbeat: Heartbeat) -> Claims:
    return Claims(folder / "claims", heartbeat, Watch(folder / "processes", PATIENCE))


def write_member(folder: Path, heartbeat: Heartbeat, beat: int = 1, **process) -> None:
    """Replace the file of a process by one with another process in it."""
    member = Member(replace(this_process(), **process), 0, beat)
    (folder / "processes" / heartbeat.name).write_text(json.dumps(asdict(member)))


def wait_for_patience(claims: Claims) -> None:
    """Let the time pass after which an unchanged file counts."""
    claims.watch._seen = {
        name: (content, since - 2 * PATIENCE) for name, (content, since) in claims.watch._seen.items()
    }


def test_one_of_many_gets_the_claim(tmp_path, heartbeats):
    many = [make_claims(tmp_path, heartbeats()) for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda claims: claims.take("a.mp4"), many))
    assert len([claim for claim in taken if claim is not None]) == 1
    assert many[0].take("b.mp4") is not None
    assert many[1].take("b.mp4") is None


def test_a_released_claim_is_free(tmp_path, heartbeats):
    claims = make_claims(tmp_path, heartbeats())
    claims.take("a/é.mp4").release()
    assert make_claims(tmp_path, heartbeats()).take("a/é.mp4") is not None


@pytest.mark.parametrize("process", [{"pid": 2**22 + 1}, {"started": 1}], ids=["no such process", "number used again"])
def test_the_claim_of_a_process_that_has_ended_is_taken_over_once(tmp_path, heartbeats, process):
    dead = heartbeats()
    first = make_claims(tmp_path, dead).take("a.mp4")
    write_member(tmp_path, dead, **process)
    many = [make_claims(tmp_path, heartbeats()) for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda claims: claims.take("a.mp4"), many))
    (successor,) = [claim for claim in taken if claim is not None]
    assert first.is_lost()
    assert not successor.is_lost()
    # The claim is free once the successor releases it, not before.
    assert many[0].take("a.mp4") is None
    successor.release()
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_process_of_another_machine_is_dead_when_its_file_stays_the_same(tmp_path, heartbeats):
    remote = heartbeats()
    make_claims(tmp_path, remote).take("a.mp4")
    claims = make_claims(tmp_path, heartbeats())
    for beat in range(3):
        write_member(tmp_path, remote, beat, system="another boot")
        assert claims.take("a.mp4") is None
        wait_for_patience(claims)
    assert claims.take("a.mp4") is not None


def test_a_claim_without_the_name_of_its_owner_is_taken_over_when_it_stays_so(tmp_path, heartbeats):
    """The owner was killed between the creation of the file and its first line."""
    claims = make_claims(tmp_path, heartbeats())
    claims.take("a.mp4")
    (path,) = (tmp_path / "claims").iterdir()
    path.write_text("")
    assert claims.take("a.mp4") is None
    wait_for_patience(claims)
    assert claims.take("a.mp4") is not None


def test_a_removed_folder_is_made_again(tmp_path, heartbeats):
    claims = make_claims(tmp_path, heartbeats())
    (tmp_path / "claims").rmdir()
    assert claims.take("a.mp4") is None
    assert claims.take("a.mp4") is not None
