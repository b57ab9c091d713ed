"""Pack portraits and videos for the training of the direct path into tar files that are easy to upload.

    python -m training.pack_faces portraits/ clips/ --output packs/ --detector face_detection_yunet_2023mar.onnx

A source is a folder of portraits with a `metadata.jsonl`, or of videos, of which the largest face is followed.
"""

import argparse
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keep_hf.faces.alignment import estimate_alignment
from keep_hf.faces.follower import FaceFollower
from keep_hf.video.media_files import find_videos
from keep_hf.video.reader import VideoReader

from .data.packed_faces import SIZE
from .data.portraits import read_portraits
from .preparation.detectors import load_detector


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+", help="folders of portraits or videos")
    parser.add_argument("--output", type=Path, required=True, help="folder for the packs")
    parser.add_argument("--detector", required=True, help="YuNet file, Hub repository or folder of a detector")
    parser.add_argument("--max-size", type=float, default=36, help="megabytes per pack")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    files = (file for source in args.sources for file in read_source(source, args.detector))
    print(f"{write_packs(files, args.output, args.max_size * 1e6)} packs in {args.output}")


def read_source(folder: Path, detector: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the files of a source with their landmarks or alignment.

    Raises:
        ValueError: If the folder has no portraits and no videos.
    """
    metadata, videos = folder / "metadata.jsonl", find_videos(folder)
    if not metadata.is_file() and not videos:
        raise ValueError(f"{folder} has no metadata.jsonl with portraits and no videos.")
    if metadata.is_file():
        for path, landmarks in read_portraits(metadata):
            yield path, {"landmarks": landmarks.tolist()}
    for path in videos:
        with VideoReader(path) as reader:
            follower = FaceFollower(load_detector(detector), float(reader.frame_rate), faces="largest")
            tracks = follower.tracks(frame.image for frame in reader)
        if tracks:
            track = max(tracks, key=lambda track: len(track.frames))
            matrices = [np.round(estimate_alignment(landmarks, SIZE), 4).tolist() for landmarks in track.landmarks]
            yield path, {"frames": [int(index) for index in track.frames], "matrices": matrices}


def write_packs(files: Iterator[tuple[Path, dict[str, Any]]], output: Path, max_size: float) -> int:
    """Write `pack_001.tar` and so on, each at most about `max_size` bytes; returns their number.

    Raises:
        ValueError: If there are packs already, which the training would read, too.
    """
    if any(output.glob("*.tar")):
        raise ValueError(f"{output} has packs already: name a new folder.")
    number = size = 0
    for path, meta in files:
        content = path.read_bytes()
        if number == 0 or size + len(content) > max_size:
            number, size = number + 1, 0
        with tarfile.open(output / f"pack_{number:03d}.tar", "a" if size else "w") as pack:
            add_file(pack, f"{path.name}.json", json.dumps(meta).encode())
            add_file(pack, path.name, content)
        size += len(content)
    return number


def add_file(pack: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    pack.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main()
