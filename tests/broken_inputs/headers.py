"""Videos with absurd values in the headers of their container."""

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .case import Case
from .samples import Samples
from .videos import from_bytes


# Of MP4: the box, the place behind its four letters, and the values to write there.
MP4_FIELDS: list[tuple[str, bytes, int, str, tuple[int, ...]]] = [
    ("width of a frame", b"avc1", 24, ">H", (0, 1, 65535)),
    ("height of a frame", b"avc1", 26, ">H", (0, 1, 65535)),
    ("width of the track", b"tkhd", 76, ">I", (0, 1, 0xFFFFFFFF)),
    ("first number of the rotation", b"tkhd", 40, ">i", (0, 1, -(2**31))),
    ("second number of the rotation", b"tkhd", 44, ">i", (12345, -(2**31))),
    ("time scale of the file", b"mvhd", 12, ">I", (0, 1, 0xFFFFFFFF)),
    ("duration of the file", b"mvhd", 16, ">I", (0, 0xFFFFFFFF)),
    ("time scale of the video", b"mdhd", 12, ">I", (0, 1, 1_000_000_000, 0xFFFFFFFF)),
    ("duration of the video", b"mdhd", 16, ">I", (0, 0xFFFFFFFF)),
    ("number of durations", b"stts", 4, ">I", (0, 0xFFFFFFFF)),
    ("duration of a frame", b"stts", 12, ">I", (0, 1, 0x7FFFFFFF, 0xFFFFFFFF)),
    ("shift of a frame", b"ctts", 12, ">i", (-(2**31), 2**31 - 1)),
    ("size of all frames", b"stsz", 4, ">I", (1, 0xFFFFFFFF)),
    ("number of frames", b"stsz", 8, ">I", (0, 1, 0xFFFFFFFF)),
    ("number of chunks", b"stco", 4, ">I", (0, 0xFFFFFFFF)),
    ("place of the first chunk", b"stco", 8, ">I", (0, 0xFFFFFFFF)),
    ("frames per chunk", b"stsc", 12, ">I", (0, 0xFFFFFFFF)),
    ("duration of an edit", b"elst", 8, ">I", (0, 0xFFFFFFFF)),
    ("start of an edit", b"elst", 12, ">i", (-(2**31), 2**31 - 1)),
    ("speed of an edit", b"elst", 16, ">I", (0, 0xFFFFFFFF)),
    ("length of the index", b"moov", -8, ">I", (0, 1, 7, 0xFFFFFFFF)),
    ("length of the frames", b"mdat", -8, ">I", (0, 1, 7, 0xFFFFFFFF)),
]
# Of Matroska: the bytes of the element, its number of length bytes included, and the content.
MKV_FIELDS: list[tuple[str, bytes, tuple[bytes, ...]]] = [
    ("width of a frame", b"\xb0\x81", (b"\x00", b"\x01", b"\xff")),
    ("height of a frame", b"\xba\x81", (b"\x00", b"\xff")),
    ("time scale", b"\x2a\xd7\xb1\x83", (b"\x00\x00\x00", b"\xff\xff\xff")),
    ("duration", b"\x44\x89\x88", tuple(struct.pack(">d", value) for value in (float("nan"), -1.0, 1e300))),
    (
        "length of the segment",
        b"\x18\x53\x80\x67",
        (b"\x01\x00\x00\x00\x00\x00\x00\x00", b"\x80", b"\x01" + b"\xff" * 7),
    ),
    ("start of the segment", b"\x18\x53\x80\x67", (b"",)),
]
# Of AVI: the chunk, the place behind its four letters, and the values.
AVI_FIELDS: list[tuple[str, bytes, int, tuple[int, ...]]] = [
    ("microseconds per frame", b"avih", 4, (0, 1, 0xFFFFFFFF)),
    ("number of frames", b"avih", 20, (0, 0xFFFFFFFF)),
    ("rate of the video", b"vids", 20, (0, 1_000_000_000, 0xFFFFFFFF)),
    ("scale of the video", b"vids", 16, (0, 0xFFFFFFFF)),
    ("width of a frame", b"strf", 8, (0, 1, 65535, 0xFFFFFFFF)),
]
Y4M_HEADERS = (
    "W0 H0 F25:1",
    "W-1 H64 F25:1",
    "W99999999 H99999999 F25:1",
    "W64 H64 F0:0",
    "W64 H64 F0:1",
    "W64 H64 F1000000000:1",
    "W64 H64 F1:1000000000",
    "W64 H64 F25:1 A0:0",
    "W64 H64 F25:1 Cunknown",
)


def cases() -> Iterator[Case]:
    """All cases of this module. Damage of one number may leave the rest usable."""
    for name, box, offset, layout, values in MP4_FIELDS:
        for value in values:
            build = partial(with_number, "mp4", box, offset, struct.pack(layout, value))
            yield Case("header", f"mp4, {name}: {value}", build, None)
    for name, element, contents in MKV_FIELDS:
        for content in contents:
            yield Case("header", f"mkv, {name}: {content.hex()}", partial(with_element, element, content), None)
    for name, chunk, offset, values in AVI_FIELDS:
        for value in values:
            build = partial(with_number, "avi", chunk, offset, struct.pack("<I", value))
            yield Case("header", f"avi, {name}: {value}", build, None)
    for header in Y4M_HEADERS:
        yield Case("header", f"y4m, {header}", partial(with_line, header), None)


def with_number(kind: str, box: bytes, offset: int, content: bytes, folder: Path, samples: Samples) -> list[str]:
    """A file with a number replaced, `offset` bytes after the name of a box."""
    whole = bytearray(samples.read(kind))
    place = whole.index(box) + 4 + offset
    whole[place : place + len(content)] = content
    return from_bytes(folder, samples, kind, bytes(whole))


def with_element(element: bytes, content: bytes, folder: Path, samples: Samples) -> list[str]:
    """A Matroska file with the content of an element replaced; without content the element is removed."""
    whole = bytearray(samples.read("mkv"))
    place = whole.index(element)
    if content:
        place += len(element)
        whole[place : place + len(content)] = content
    else:
        del whole[place : place + len(element)]
    return from_bytes(folder, samples, "mkv", bytes(whole))


def with_line(header: str, folder: Path, samples: Samples) -> list[str]:
    """A Y4M file with another header."""
    _, _, frames = samples.read("y4m").partition(b"\n")
    return from_bytes(folder, samples, "y4m", f"YUV4MPEG2 {header}\n".encode() + frames)
