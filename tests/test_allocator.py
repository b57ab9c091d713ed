"""Freed memory is kept, so that large tensors need no new pages; batches are halved when that of a GPU is full."""

import gc
import json
import platform
import subprocess
import sys
import weakref

import pytest
import torch

from keep_hf.allocator import BatchSize, keep_freed_memory


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
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False


def test_a_batch_is_halved_until_it_fits():
    tried = []

    def work(size: int) -> int:
        tried.append(size)
        if size > 2:
            raise torch.OutOfMemoryError("out of memory")
        return size

    faces = BatchSize(8, "faces")
    with pytest.warns(UserWarning, match="at most 2 faces at a time") as warnings:
        assert faces.run(work) == 2
    assert len(warnings) == 2
    assert faces.run(work) == 2
    assert tried == [8, 4, 2, 2]


def test_one_item_that_does_not_fit_is_an_error():
    def work(size: int) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning, match="at most 1 faces"):
        BatchSize(2, "faces").run(work)


def test_the_tensors_of_a_failed_batch_are_freed_before_the_next_one():
    failed = []

    def work(size: int) -> None:
        if size > 1:
            tensor = torch.zeros(10)
            failed.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("out of memory")
        assert failed[0]() is None

    gc.disable()
    try:
        with pytest.warns(UserWarning, match="Out of GPU memory"):
            BatchSize(2, "faces").run(work)
    finally:
        gc.enable()
