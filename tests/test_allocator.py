"""Freed memory is kept: large tensors, made again and again, cost no new pages."""

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
pages()
print(json.dumps([kept, pages()]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives freed memory back at once")
def test_freed_memory_is_kept():
    def run(how: str) -> list:
        done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    (_, left_alone), (kept, pages) = run("leave"), run("keep")
    assert kept
    assert left_alone >= 4 * 2**25 / 2**21, "a page of 2 MB at the most"
    assert pages < left_alone / 8


def test_elsewhere_it_says_so(monkeypatch):
    from keep_hf.allocator import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
