"""Opening of media files: what is no fault of the file is another error."""

import contextlib
import sys

import pytest

from conftest import make_clip
from keep_hf.video.containers import open_container
from media import write_clip


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit for open files, which Windows lacks")
def test_too_many_open_files_are_no_fault_of_the_video(tmp_path):
    import resource

    clip = write_clip(tmp_path / "a.mp4", images=list(make_clip(2, 32, 32)))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as files:
        files.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        # No more files than are open now, and those up to the next free number.
        last = files.enter_context(open(clip, "rb"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, limits[1]))
        with pytest.raises(OSError, match=r"a\.mp4 cannot be opened: Too many open files"):
            open_container(clip)
    open_container(clip).close()
