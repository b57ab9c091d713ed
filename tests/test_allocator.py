"""Freed memory is kept: large tensors that are allocated again and again need no new pages."""

import json
import platform
import subprocess
import sys

import pytest


SCRIPT = """
import json, resource, sys, torch
from keep_hf.allocator import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**25 // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# The heap grows for some time until it has a free block that fits.
*_, last = [pages() for _ in range(8)]
print(json.dumps([kept, last]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns freed memory at once")
def test_freed_memory_is_kept():
    def run(mode: str) -> list:
        done = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    (_, default), (kept, pages) = run("default"), run("keep")
    assert kept
    assert default >= 4 * 2**25 / 2**21  # pages are not larger than 2 MB
    assert pages < default / 8


def test_another_c_library_is_left_unchanged(monkeypatch):
    from keep_hf.allocator import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
