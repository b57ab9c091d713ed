"""The manifest: whole lines, from several processes, also after a power failure."""

import subprocess
import sys

import pytest

from keep_hf.batch.manifest import RESTORED, Manifest, Outcome


WRITER = """
import sys
from pathlib import Path
from keep_hf.batch.manifest import Manifest, Outcome
manifest = Manifest(Path(sys.argv[1]))
for number in range(200):
    name = f"{sys.argv[2]}-{number}" + 300 * "x"
    manifest.append(Outcome("in", name, "restored", None, 0.0, 1, 1, "host", 1, "now"))
"""


def make_outcome(name: str) -> Outcome:
    return Outcome("in", name, RESTORED, None, 1.0, 25, 1000, "host", 1, "2026-01-01T00:00:00+00:00")


def test_processes_append_whole_lines(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(i)]) for i in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    lines = (tmp_path / "keep-hf.jsonl").read_text().splitlines()
    assert len(lines) == 600
    assert len({each.target for each in Manifest(tmp_path).read_new()}) == 600


def test_only_new_outcomes_are_read(tmp_path):
    manifest = Manifest(tmp_path)
    assert (manifest.size(), list(manifest.read_new())) == (0, [])
    manifest.append(make_outcome("a"), make_outcome("b"))
    assert list(manifest.read_new()) == [make_outcome("a"), make_outcome("b")]
    start = manifest.size()
    manifest.append(make_outcome("c"))
    assert list(manifest.read_new()) == list(Manifest(tmp_path, start).read_new()) == [make_outcome("c")]
    assert list(manifest.read_new()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit for the size of files, which Windows lacks")
def test_a_line_that_is_not_written_whole_is_an_error(tmp_path):
    import resource

    manifest = Manifest(tmp_path)
    manifest.append(make_outcome("a"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (manifest.size() + 20, limits[1]))  # as on a disk that is almost full
    try:
        with pytest.raises(OSError, match="too large"):
            manifest.append(make_outcome("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    manifest.append(make_outcome("c"))
    assert list(manifest.read_new()) == [make_outcome("a"), make_outcome("c")]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.append(make_outcome("a"))
    with open(manifest.path, "a") as file:
        file.write('{"source": "in", "tar' + 100_000 * "x")
    assert list(manifest.read_new()) == [make_outcome("a")]
    later = Manifest(tmp_path, manifest.size())  # a run that begins after the line was cut off
    manifest.append(make_outcome("b"))
    assert list(manifest.read_new()) == list(later.read_new()) == [make_outcome("b")]
    assert len(manifest.path.read_text().splitlines()) == 2
