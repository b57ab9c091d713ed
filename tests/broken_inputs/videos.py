"""Broken videos: cut off, with changed bits, of other kinds than their names say, with frames that are too large."""

import functools
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image

from damaged import damage_packets, join_sizes
from media import write_clip

from .case import Case
from .samples import Samples


KINDS = (
    "mp4",
    "fast.mp4",
    "mkv",
    "webm",
    "avi",
    "mov",
    "flv",
    "ts",
    "mpg",
    "wmv",
    "h264",
    "y4m",
    "gif",
    "png",
    "webp",
)
KEPT = {0.0: None, 0.03: None, 0.3: None, 0.7: None, 0.97: None}
BOMB_SIDE = 16000  # FFmpeg itself refuses 16384

Build = Callable[[Path, Samples], list[str]]


def cases() -> Iterator[Case]:
    """All cases of this module."""
    for kind in KINDS:
        for kept, usable in KEPT.items():
            yield Case(
                "truncated", f"{kind}, {kept:.0%} kept", partial(truncated, kind, kept), usable if kept else False
            )
    for kind in KINDS:
        for seed in range(3):
            yield Case("bit flips", f"{kind}, seed {seed}", partial(flipped, kind, seed), None)
    for name, build, usable in ODD_VIDEOS:
        yield Case("odd video", name, build, usable)
    for name, build in NO_VIDEOS:
        yield Case("no video", name, build, privileged=name != "unreadable file")
    for name, build in BOMBS:
        yield Case("large frames", name, build)


def truncated(kind: str, kept: float, folder: Path, samples: Samples) -> list[str]:
    """The first part of a file."""
    content = samples.read(kind)
    return from_bytes(folder, samples, kind, content[: int(kept * len(content))])


def flipped(kind: str, seed: int, folder: Path, samples: Samples) -> list[str]:
    """A file in which one bit of every 200 bytes is wrong, or 20 bits of a small one, at random places."""
    content, chance = bytearray(samples.read(kind)), random.Random(f"{kind} {seed}")
    for _ in range(max(20, len(content) // 200)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return from_bytes(folder, samples, kind, bytes(content))


def from_bytes(folder: Path, samples: Samples, kind: str, content: bytes) -> list[str]:
    """Restore a file with a given content."""
    path = folder / f"in.{kind}"
    path.write_bytes(content)
    return samples.restore(path)


# Videos that can be restored, and inputs of which a part can


def changed_size(folder: Path, samples: Samples) -> list[str]:
    return samples.restore(join_sizes(samples.video("h264"), folder / "in.h264"))


def only_audio(folder: Path, samples: Samples) -> list[str]:
    return _some_streams(folder / "in.mp4", samples.video("mp4"), "audio", samples)


def only_subtitles(folder: Path, samples: Samples) -> list[str]:
    clip = write_clip(folder / "clip.mkv", num_frames=50, subtitle_codec="ass")
    return _some_streams(folder / "in.mkv", clip, "subtitle", samples)


def _some_streams(path: Path, source: Path, kind: str, samples: Samples) -> list[str]:
    with av.open(str(source)) as whole, av.open(str(path), "w") as container:
        (original,) = (stream for stream in whole.streams if stream.type == kind)
        copy = container.add_stream_from_template(original)
        for packet in whole.demux(original):
            if packet.size:
                packet.stream = copy
                container.mux(packet)
    return samples.restore(path)


def every_packet_damaged(folder: Path, samples: Samples) -> list[str]:
    return samples.restore(damage_packets(samples.video("mkv"), folder / "in.mkv", range(100)))


def tail_damaged(folder: Path, samples: Samples) -> list[str]:
    return samples.restore(damage_packets(samples.video("mkv"), folder / "in.mkv", range(4, 100), 0.3))


def renamed(kind: str, name: str, folder: Path, samples: Samples) -> list[str]:
    path = folder / name
    path.write_bytes(samples.read(kind))
    return samples.restore(path)


def clip(folder: Path, samples: Samples, **options: object) -> list[str]:
    return samples.restore(write_clip(folder / "in.mkv", **{"images": samples.images} | options))


def tiny_frames(folder: Path, samples: Samples) -> list[str]:
    Image.new("RGB", (1, 1)).save(
        folder / "in.gif", save_all=True, append_images=[Image.new("RGB", (1, 1), "red")], duration=40
    )
    return samples.restore(folder / "in.gif")


def long_name(folder: Path, samples: Samples) -> list[str]:
    return renamed("mp4", "ü " + "x" * 240 + ".mp4", folder, samples)


ODD_VIDEOS: list[tuple[str, Build, bool | None]] = [
    ("size changes in the middle", changed_size, True),
    ("every packet damaged", every_packet_damaged, False),
    ("second half damaged", tail_damaged, True),
    ("only audio", only_audio, False),
    ("only subtitles", only_subtitles, False),
    ("wrong suffix: mkv named mp4", partial(renamed, "mkv", "in.mp4"), True),
    ("wrong suffix: mp4 named txt", partial(renamed, "mp4", "in.txt"), True),
    ("no suffix", partial(renamed, "mp4", "in"), True),
    ("gif named mp4", partial(renamed, "gif", "in.mp4"), True),
    ("mp4 named gif", partial(renamed, "mp4", "in.gif"), True),
    ("long name", long_name, True),
    ("name with line breaks", partial(renamed, "mp4", "a\nb\r\x1b[31m.mp4"), True),
    ("1 frame per 1,000 seconds", partial(clip, frame_rate=Fraction(1, 1000)), True),
    ("100,000 frames per second", partial(clip, frame_rate=100_000, time_base=Fraction(1, 1_000_000)), None),
    ("negative times", partial(clip, pts=list(range(-5, 3))), True),
    ("times 100 days apart", partial(clip, pts=[index * 8_640_000 * 25 for index in range(8)]), None),
    ("pixels 1 : 10,000", partial(clip, sample_aspect=Fraction(1, 10_000)), None),
    ("rotation by 37 degrees", partial(clip, rotation=37), True),
    ("one frame", lambda folder, samples: clip(folder, samples, images=samples.images[:1]), True),
    ("frames of 1 x 1", tiny_frames, True),
]


# What is no video


def text(folder: Path, samples: Samples) -> list[str]:
    return from_bytes(folder, samples, "mp4", b"This is no video.\n" * 100)


def noise(folder: Path, samples: Samples) -> list[str]:
    return from_bytes(folder, samples, "mp4", random.Random(0).randbytes(100_000))


def zeros(folder: Path, samples: Samples) -> list[str]:
    return from_bytes(folder, samples, "mp4", bytes(100_000))


def web_page(folder: Path, samples: Samples) -> list[str]:
    return from_bytes(folder, samples, "mp4", b"<!DOCTYPE html><html><body>404 Not Found</body></html>")


def playlist(folder: Path, samples: Samples) -> list[str]:
    """A playlist that names another file: what it names must not be read."""
    (folder / "secret.ts").write_bytes(samples.read("ts"))
    content = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n"
    return from_bytes(folder, samples, "mp4", content.encode())


def concat_script(folder: Path, samples: Samples) -> list[str]:
    (folder / "secret.mp4").write_bytes(samples.read("mp4"))
    return from_bytes(folder, samples, "mp4", b"ffconcat version 1.0\nfile secret.mp4\n")


def missing(folder: Path, samples: Samples) -> list[str]:
    return samples.restore(folder / "in.mp4")


def directory(folder: Path, samples: Samples) -> list[str]:
    (folder / "in.mp4").mkdir()
    return samples.restore(folder / "in.mp4")


def fifo(folder: Path, samples: Samples) -> list[str]:
    os.mkfifo(folder / "in.mp4")
    return samples.restore(folder / "in.mp4")


def unix_socket(folder: Path, samples: Samples) -> list[str]:
    descriptor = os.open(folder, os.O_RDONLY)  # names of sockets are limited to 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{descriptor}/in.mp4")
    os.close(descriptor)
    return samples.restore(folder / "in.mp4")


def symlink(target: str, folder: Path, samples: Samples) -> list[str]:
    (folder / "in.mp4").symlink_to(target)
    return samples.restore(folder / "in.mp4")


def unreadable(folder: Path, samples: Samples) -> list[str]:
    (folder / "in.mp4").write_bytes(samples.read("mp4"))
    (folder / "in.mp4").chmod(0)
    return samples.restore(folder / "in.mp4")


def literally(name: str, folder: Path, samples: Samples) -> list[str]:
    return samples.restore_to(Path(name), folder / "out.mp4")


NO_VIDEOS: list[tuple[str, Build]] = [
    ("text", text),
    ("noise", noise),
    ("zeros", zeros),
    ("web page", web_page),
    ("playlist of another file", playlist),
    ("concat script", concat_script),
    ("missing", missing),
    ("empty folder", directory),
    ("fifo", fifo),
    ("socket", unix_socket),
    ("symlink loop", partial(symlink, "in.mp4")),
    ("broken symlink", partial(symlink, "missing.mp4")),
    ("symlink to /dev/zero", partial(symlink, "/dev/zero")),
    ("unreadable file", unreadable),
    ("/dev/null", partial(literally, "/dev/null")),
    ("/dev/zero", partial(literally, "/dev/zero")),
    ("empty name", partial(literally, "")),
    ("name of 5,000 characters", partial(literally, "x" * 5000)),
    ("name beneath a file", lambda folder, samples: literally(f"{samples.video('mp4')}/in.mp4", folder, samples)),
    ("URL", partial(literally, "https://example.com/in.mp4")),
    ("FFmpeg's protocol concat", partial(literally, "concat:a.mp4|b.mp4")),
    ("standard input", partial(literally, "-")),
]


# Frames that are small in the file, and huge in memory


@functools.cache
def one_colour_png(side: int) -> bytes:
    """A grey PNG of one colour, compressed row by row: nothing of its size is ever in memory."""
    compressor = zlib.compressobj(1)
    row = b"\0" + b"\x80" * side
    data = b"".join(compressor.compress(row) for _ in range(side)) + compressor.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def large_video(header_side: int, folder: Path, samples: Samples) -> list[str]:
    """PNG images as the frames of an AVI; the side that its header says may be another one."""
    small = write_clip(folder / "small.avi", images=samples.images, codec="png", pixel_format="rgb24")
    path = damage_packets(small, folder / "in.avi", range(100), one_colour_png(BOMB_SIDE))
    content = bytearray(path.read_bytes())
    place = content.index(b"strf") + 12
    content[place : place + 8] = struct.pack("<II", header_side, header_side)
    path.write_bytes(content)
    return samples.restore(path)


def large_images(folder: Path, samples: Samples) -> list[str]:
    (folder / "in").mkdir()
    for index in range(3):
        (folder / "in" / f"{index}.png").write_bytes(one_colour_png(BOMB_SIDE))
    return samples.restore(folder / "in")


def large_animation(kind: str, folder: Path, samples: Samples) -> list[str]:
    """An animation whose header says 65,535 x 65,535."""
    content = bytearray(samples.read(kind))
    if kind == "gif":
        content[6:10] = b"\xff\xff\xff\xff"
    else:
        content[16:24] = struct.pack(">II", 65535, 65535)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return from_bytes(folder, samples, kind, bytes(content))


def large_result(folder: Path, samples: Samples) -> list[str]:
    """Frames that are allowed, but not four times as wide and high."""
    image = np.zeros((4096, 4096, 3), np.uint8)
    arguments = samples.restore(write_clip(folder / "in.avi", images=[image], codec="mjpeg", pixel_format="yuvj420p"))
    arguments.remove("--aligned")
    return [*arguments, "--upscale", "4"]


BOMBS: list[tuple[str, Build]] = [
    ("16k x 16k video of one colour", partial(large_video, BOMB_SIDE)),
    ("16k x 16k video, 64 x 64 in the header", partial(large_video, 64)),
    ("folder of 16k x 16k images", large_images),
    ("64k x 64k GIF", partial(large_animation, "gif")),
    ("64k x 64k PNG", partial(large_animation, "png")),
    ("4k enlarged to 16k", large_result),
]
