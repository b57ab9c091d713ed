"""Shards: tar files with a pair `key.json`, `key.mp4` for each clip, as the Hub's "webdataset" reads them."""

import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from keep_hf.video.reader import VideoReader


PATTERN = "shard-*.tar"
SUFFIXES = (".json", ".mp4")


@dataclass
class Clip:
    """A pair of a shard.

    Attributes:
        key (`str`): Its name.
        about (`dict[str, Any]`): What its `.json` holds.
        video (`bytes`): Its `.mp4`.
    """

    key: str
    about: dict[str, Any]
    video: bytes

    def frames(self, end: int | None = None) -> np.ndarray:
        """The frames before number `end`, or all: RGB, uint8, `(t, h, w, 3)`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            path.write_bytes(self.video)
            with VideoReader(path) as reader:
                return np.stack([frame.image for frame in islice(reader, end)])


def write_shards(stems: list[Path], output: Path, clips_per_shard: int, unfinished: Path) -> None:
    """Put pairs of files into shards, in the order given; equal files give equal shards.

    Args:
        stems (`list[Path]`): The files of each pair, without their suffix.
        output (`Path`): Folder of the shards; others that it holds are removed.
        clips_per_shard (`int`): Pairs in a shard.
        unfinished (`Path`): Where a shard grows until it is complete, on the same disk.
    """
    shards: list[Path] = []
    for first in range(0, len(stems), clips_per_shard):
        with tarfile.open(unfinished, "w") as tar:
            for path in (
                Path(f"{stem}{suffix}") for stem in stems[first : first + clips_per_shard] for suffix in SUFFIXES
            ):
                # Of owner, rights and time nothing is told: they are those of the machine.
                entry = tarfile.TarInfo(path.name)
                entry.size = path.stat().st_size
                with open(path, "rb") as file:
                    tar.addfile(entry, file)
        shards.append(output / f"shard-{len(shards):05d}.tar")
        os.replace(unfinished, shards[-1])
    for path in set(output.glob(PATTERN)) - set(shards):
        path.unlink()


def read_clips(folder: Path, most: int) -> Iterator[Clip]:
    """Read the clips of a folder of shards, or `most` of them, evenly chosen, in order."""
    keys = []
    for shard in sorted(folder.glob(PATTERN)):
        with tarfile.open(shard) as tar:
            keys += [(shard, name.removesuffix(".mp4")) for name in tar.getnames() if name.endswith(".mp4")]
    for index in np.linspace(0, len(keys) - 1, min(most, len(keys))).round().astype(int):
        shard, key = keys[index]
        with tarfile.open(shard) as tar:
            about, video = (_read(tar, f"{key}{suffix}") for suffix in SUFFIXES)
        yield Clip(key, json.loads(about), video)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()
