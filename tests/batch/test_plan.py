"""What a run restores, where input and output are in a store."""

from pathlib import Path

import pytest

from keep_hf.batch.plan import make_plan
from stores import memory


__all__ = ["memory"]


@pytest.mark.parametrize(
    ("source", "target"),
    [("clips", "clips"), ("clips", "clips/"), ("clips", "clips/restored"), ("clips/a.mp4", "clips/a.mp4")],
)
def test_an_output_in_the_input_would_replace_videos_of_the_user(memory, tmp_path, source, target):
    memory.pipe("bucket/clips/a.mp4", b"video")
    with pytest.raises(ValueError, match="is the input or lies in it"):
        make_plan(Path(f"memory://bucket/{source}"), Path(f"memory://bucket/{target}"), tmp_path)


@pytest.mark.parametrize("target", ["clips 2", "", "other/clips", "clips/../b.mp4"])
def test_any_other_output_is_possible(memory, tmp_path, target):
    memory.pipe("bucket/clips/a.mp4", b"video")
    assert make_plan(Path("memory://bucket/clips/a.mp4"), Path(f"memory://bucket/{target}"), tmp_path).jobs
