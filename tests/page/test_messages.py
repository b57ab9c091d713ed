"""Errors in words for a user who cannot see this machine."""

import errno
import os
from pathlib import Path

import av
import pytest

from keep_hf.page.messages import explain


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(number):
    error = OSError(number, os.strerror(number), "/srv/secret/part.mp4")
    assert explain(error, None) == (
        "The disk of this machine is full. Old files are deleted within an hour: try again later, or choose a shorter "
        "part."
    )


def test_messages_of_decoders(tmp_path):
    (path := tmp_path / "in.mp4").write_bytes(b"no video")
    with pytest.raises(av.FFmpegError) as raised:
        av.open(str(path))
    message = explain(raised.value, str(path))
    assert message.startswith("A part of the video cannot be decoded or encoded")
    assert "Errno" not in message
    assert "Invalid data" not in message


def test_folders_are_not_shown():
    path = Path("/srv/uploads/in.mp4")
    assert explain(ValueError(f"{path} is\n damaged."), str(path)) == "in.mp4 is damaged."
    assert "/srv" not in explain(PermissionError(errno.EACCES, "Permission denied", str(path)), str(path))


def test_an_unexpected_error_is_in_the_log_only(capsys):
    assert explain(KeyError("secret"), None) == "Unexpected error (KeyError). Try again, or with another video."
    assert "secret" in capsys.readouterr().err
