"""MPEG transport streams with times that no muxer writes: their bytes are edited."""

from collections.abc import Callable
from pathlib import Path


PACKET = 188


def edit_times(path: Path, stream_id: int, edit: Callable[[int], int | None]) -> None:
    """Replace the presentation times of one kind of stream: 0xC0 is MPEG audio and AAC, 0xE0 video, 0xBD AC-3.

    `edit` gets a time in units of 1/90000 second, and returns the new one, or `None` for a packet without a time.
    Streams with separate decoding times cannot be edited.
    """
    content = bytearray(path.read_bytes())
    for begin in range(0, len(content), PACKET):
        has_payload_start = content[begin + 1] & 0x40
        has_adaptation, has_payload = content[begin + 3] & 0x20, content[begin + 3] & 0x10
        payload = begin + 4 + (1 + content[begin + 4] if has_adaptation else 0)
        if not (has_payload_start and has_payload):
            continue
        if content[payload : payload + 3] != b"\0\0\1" or content[payload + 3] != stream_id:
            continue
        flags = content[payload + 7] >> 6
        assert flags != 3, "this stream has decoding times"
        if flags == 2:
            field = payload + 9
            time = edit(_read(content[field : field + 5]))
            if time is None:
                content[payload + 7] &= 0x3F
                content[field : field + 5] = b"\xff" * 5  # stuffing
            else:
                content[field : field + 5] = _write(time)
    path.write_bytes(content)


def _read(field: bytes) -> int:
    return (field[0] >> 1 & 7) << 30 | field[1] << 22 | field[2] >> 1 << 15 | field[3] << 7 | field[4] >> 1


def _write(time: int) -> bytes:
    return bytes(
        [
            0x21 | (time >> 30 & 7) << 1,
            time >> 22 & 0xFF,
            0x01 | (time >> 15 & 0x7F) << 1,
            time >> 7 & 0xFF,
            0x01 | (time & 0x7F) << 1,
        ]
    )
