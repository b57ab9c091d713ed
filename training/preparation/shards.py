"""Shards: tar files with a pair `key.json`, `key.mp4` per clip, as the "webdataset" loader of the Hub reads them."""

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
    """A pair of files in a shard.

    Attributes:
        key (`str`): Name of the files, without suffix.
        metadata (`dict[str, Any]`): Content of the `.json`.
        video (`bytes`): Content of the `.mp4`.
    """

    key: str
    metadata: dict[str, Any]
    video: bytes

    def frames(self, end: int | None = None) -> np.ndarray:
        """Decode the frames, or those before index `end`: uint8, RGB, `(t, h, w, 3)`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            path.write_bytes(self.video)
            with VideoReader(path) as reader:
                return np.stack([frame.image for frame in islice(reader, end)])


def write_shards(stems: list[Path], output: Path, clips_per_shard: int, unfinished: Path) -> None:
    """Write pairs of files into shards, in the given order. Equal files give equal shards.

    Args:
        stems (`list[Path]`): Paths of the pairs, without suffix.
        output (`Path`): Folder of the shards; other shards in it are deleted.
        clips_per_shard (`int`): Pairs per shard.
        unfinished (`Path`): Path of the shard that is being written, on the same disk.
    """
    shards: list[Path] = []
    for first in range(0, len(stems), clips_per_shard):
        with tarfile.open(unfinished, "w") as tar:
            for path in (
                Path(f"{stem}{suffix}") for stem in stems[first : first + clips_per_shard] for suffix in SUFFIXES
            ):
                # Owner, permissions and time are left out, because they differ between machines.
                entry = tarfile.TarInfo(path.name)
                entry.size = path.stat().st_size
                with open(path, "rb") as file:
                    tar.addfile(entry, file)
        shards.append(output / f"shard-{len(shards):05d}.tar")
        os.replace(unfinished, shards[-1])
    for path in set(output.glob(PATTERN)) - set(shards):
        path.unlink()


def read_clips(folder: Path, max_clips: int) -> Iterator[Clip]:
    """Read clips from a folder of shards, in order: all of them, or `max_clips` at equal distances."""
    keys = []
    for shard in sorted(folder.glob(PATTERN)):
        with tarfile.open(shard) as tar:
            keys += [(shard, name.removesuffix(".mp4")) for name in tar.getnames() if name.endswith(".mp4")]
    for index in np.linspace(0, len(keys) - 1, min(max_clips, len(keys))).round().astype(int):
        shard, key = keys[index]
        with tarfile.open(shard) as tar:
            metadata, video = (_read(tar, f"{key}{suffix}") for suffix in SUFFIXES)
        yield Clip(key, json.loads(metadata), video)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()
