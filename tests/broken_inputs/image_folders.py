"""Broken folders of images."""

import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from .case import Case
from .samples import Samples


FORMATS = ("png", "jpg", "webp", "bmp", "tif")


def cases() -> Iterator[Case]:
    """All cases of this module."""
    for kind in FORMATS:
        for kept in (0.0, 0.1, 0.6):
            yield Case("image folder", f"first {kind}, {kept:.0%} kept", partial(truncated, kind, kept, 0), None)
        yield Case("image folder", f"third {kind}, 10% kept", partial(truncated, kind, 0.1, 2), True)
        for seed in range(2):
            yield Case("image folder", f"all {kind}, wrong bits, seed {seed}", partial(flipped, kind, seed), None)
    for name, change, usable in CHANGES:
        yield Case("image folder", name, partial(changed, change), usable, privileged="unreadable" not in name)


def write_images(folder: Path, samples: Samples, kind: str = "png") -> Path:
    """A folder of eight images."""
    path = folder / "in"
    path.mkdir()
    for index, image in enumerate(samples.images):
        Image.fromarray(image).save(path / f"{index}.{kind}")
    return path


def truncated(kind: str, kept: float, index: int, folder: Path, samples: Samples) -> list[str]:
    path = write_images(folder, samples, kind) / f"{index}.{kind}"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    return samples.restore(path.parent)


def flipped(kind: str, seed: int, folder: Path, samples: Samples) -> list[str]:
    path, chance = write_images(folder, samples, kind), random.Random(f"{kind} {seed}")
    for image in path.iterdir():
        content = bytearray(image.read_bytes())
        for _ in range(10):
            content[chance.randrange(min(300, len(content)))] ^= 1 << chance.randrange(8)
        image.write_bytes(content)
    return samples.restore(path)


def changed(change: Callable[[Path], object], folder: Path, samples: Samples) -> list[str]:
    path = write_images(folder, samples)
    change(path)
    return samples.restore(path)


def replace_all(make: Callable[[Path], object], path: Path) -> None:
    for image in path.iterdir():
        image.unlink()
        make(image)


def save(image: Image.Image, name: str) -> Callable[[Path], object]:
    return lambda path: image.save(path / name)


def gigantic(path: Path) -> None:
    """An image whose header says 2^31 x 2^31."""
    content = bytearray((path / "0.png").read_bytes())
    content[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (path / "0.png").write_bytes(content)


CHANGES: list[tuple[str, Callable[[Path], object], bool | None]] = [
    ("no images", partial(replace_all, lambda path: path.with_suffix(".txt").touch()), False),
    ("folders named as images", partial(replace_all, lambda path: path.mkdir()), False),
    ("fifos named as images", partial(replace_all, lambda path: os.mkfifo(path)), False),
    ("symlink loops named as images", partial(replace_all, lambda path: path.symlink_to(path)), False),
    ("a fifo among images", lambda path: os.mkfifo(path / "9.png"), True),
    ("unreadable image", lambda path: (path / "0.png").chmod(0), False),
    ("unreadable folder", lambda path: path.chmod(0), False),
    ("first image has another size", save(Image.new("RGB", (32, 48)), "0.png"), True),
    ("third image is 1 x 1", save(Image.new("RGB", (1, 1)), "2.png"), True),
    ("first image is 2^31 x 2^31", gigantic, False),
    ("black and white image", save(Image.new("1", (64, 64)), "0.png"), True),
    ("palette with transparency", save(Image.new("P", (64, 64)), "0.png"), True),
    ("floating-point image", save(Image.fromarray(np.zeros((64, 64), np.float32)), "0.tif"), None),
    ("CMYK image", save(Image.new("CMYK", (64, 64)), "2.jpg"), None),
    ("two images of one name", save(Image.new("RGB", (64, 64)), "0.jpg"), None),
    ("numbers of 1,000 digits", lambda path: (path / "0.png").rename(path / ("1" * 200 + ".png")), True),
    ("names with other digits", lambda path: (path / "0.png").rename(path / "²①٣.png"), True),
]
