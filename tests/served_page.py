"""A page that is served for tests, with its files in a folder of their own."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from keep_hf import KeepPipeline
from keep_hf.page import build_demo
from keep_hf.page.app import Demo
from page_steps import LIMITS


@contextmanager
def serve_page(pipe: KeepPipeline, folder: Path, **options: Any) -> Iterator[Demo]:
    """Serve a page; all its files are in a folder of its own, of which nothing is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        demo = build_demo(pipe, limits=LIMITS, **options)
    try:
        demo.launch(prevent_thread_lock=True, quiet=True)
        yield demo
    finally:
        demo.close()
    assert not list(folder.iterdir())
