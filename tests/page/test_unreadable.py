"""Files that are no videos, or that cannot be read: what is wrong with them, and what to do."""

import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from keep_hf.page.clips import probe
from media import write_clip


def truncated(path: Path) -> None:
    write_clip(path, num_frames=10)
    path.write_bytes(path.read_bytes()[:1000])  # the index is at the end


def encrypted(path: Path) -> None:
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 31 + "1", "encryption_kid": "a" * 32}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for level in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 20 * level, np.uint8))))
        container.mux(stream.encode(None))


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def without_frames(path: Path) -> None:
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()


def damaged(path: Path) -> None:
    """Nothing is left of the frames, but the index is."""
    data = write_clip(path, num_frames=10).read_bytes()
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    path.write_bytes(data[:start] + bytes(size) + data[start + size :])


def of_unknown_codec(path: Path) -> None:
    path.write_bytes(write_clip(path, num_frames=10).read_bytes().replace(b"avc1", b"zzz9"))


CASES: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.touch(), "is empty: the file has 0 bytes. Download or copy it again"),
    (lambda path: path.write_text("\n<!DOCTYPE HTML><html>Not found</html>"), "is a web page, not a video. Download"),
    (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)), "is an archive, not a video. Unpack it"),
    (lambda path: Image.new("RGB", (50, 50)).save(path, "PNG"), "is an image, not a video. Upload a video."),
    (lambda path: path.write_bytes(bytes(range(1, 256)) * 20), "is not a video, or is damaged. If it plays elsewhere"),
    (truncated, "is incomplete: its end is missing, and with it the list of all frames. Download or copy it again"),
    (encrypted, "is encrypted (copy protection, DRM), so it cannot be read."),
    (sound_only, "contains only sound. Upload a file that has a video in it."),
    (without_frames, "contains no frames; its recording was probably interrupted."),
    (of_unknown_codec, "was made with a codec that is not known here. Convert it to MP4 (H.264)"),
    (damaged, "is damaged: no frame of it can be decoded. Download or copy it again"),
]


@pytest.mark.parametrize(("write", "message"), CASES)
def test_the_reason_and_what_to_do(tmp_path, write, message):
    write(path := tmp_path / "clip.mp4")
    with pytest.raises(ValueError, match=f"^clip.mp4 {re.escape(message)}") as raised:
        probe(path)
    assert str(tmp_path) not in str(raised.value)
    assert "\n" not in str(raised.value)
