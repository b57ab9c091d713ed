"""The videos that clips are cut from: video files, folders of images, the layout of VFHQ."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from keep_hf.video.media_files import VIDEO_SUFFIXES, find_images, find_videos
from keep_hf.video.part_folder import Setting, describe_source


VFHQ_NAME = re.compile(r"Clip\+.+\+P\d+\+C\d+\+F\d+-\d+")


@dataclass(frozen=True)
class SourceVideo:
    """A video file or a folder of images.

    Attributes:
        name (`str`): Path relative to the folder of all videos.
        path (`Path`): Path of the file or folder.
        frame_rate (`float`): Images per second; used for a folder only.
    """

    name: str
    path: Path
    frame_rate: float

    @property
    def key(self) -> str:
        """The start of the names of its clips. It has no dot, because the Hub takes a pair's key to end at a dot."""
        name = Path(self.name)
        stem = name if self.path.is_dir() else name.with_suffix("")
        return re.sub(r"[^\w+-]+", "_", stem.as_posix())

    def version(self) -> dict[str, Setting]:
        """Values that change when the video is replaced by another one of the same name."""
        description = describe_source(self.path)
        del description["source"]
        return description | {"frame rate": self.frame_rate}


def find_source_videos(folder: Path, frame_rate: float) -> list[SourceVideo]:
    """Find all videos in a folder, and all folders in it that contain images but no video.

    Args:
        folder (`Path`): Searched at any depth.
        frame_rate (`float`): Of folders of images, per second.

    Returns:
        `list[SourceVideo]`: sorted by path.

    Raises:
        ValueError: If there is none, or if the clips of two videos would have the same names.
    """
    files = find_videos(folder)
    folders = {path.parent for path in find_images(folder)} - {folder, *(path.parent for path in files)}
    if not files and not folders:
        raise ValueError(
            f"There is no video ({', '.join(sorted(VIDEO_SUFFIXES))}) and no folder of images in {folder}."
        )
    paths = sorted({*files, *folders})
    return _check_keys([SourceVideo(path.relative_to(folder).as_posix(), path, frame_rate) for path in paths])


def find_vfhq_clips(folder: Path, frame_rate: float) -> list[SourceVideo]:
    """Find all folders of frames of VFHQ in a folder, with the frame rates from their metadata.

    Args:
        folder (`Path`): Searched at any depth, for frames and for metadata files.
        frame_rate (`float`): Of clips without a metadata file, per second.

    Returns:
        `list[SourceVideo]`: sorted by path.

    Raises:
        ValueError: If there is none, if a metadata file has no frame rate, or if two clips have the same name.
    """
    paths = sorted(path for path in folder.rglob("Clip+*") if path.is_dir() and VFHQ_NAME.fullmatch(path.name))
    if not paths:
        raise ValueError(f"There is no folder Clip+<video>+P<person>+C<clip>+F<first>-<last> in {folder}.")
    metadata = {path.stem: path for path in sorted(folder.rglob("Clip+*.txt"))}
    videos = []
    for path in paths:
        rate = _read_frame_rate(metadata[path.name]) if path.name in metadata else frame_rate
        videos.append(SourceVideo(path.relative_to(folder).as_posix(), path, rate))
    return _check_keys(videos)


def _read_frame_rate(metadata: Path) -> float:
    found = re.search(r"^FPS\W+([\d.]+)", metadata.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{metadata} has no line FPS, so it is no metadata file of VFHQ.")
    return float(found[1])


def _check_keys(videos: list[SourceVideo]) -> list[SourceVideo]:
    counts = Counter(video.key.lower() for video in videos)
    clashes = [video.name for video in videos if counts[video.key.lower()] > 1]
    if clashes:
        raise ValueError(f"The clips of {', '.join(clashes)} would have the same names; rename all but one.")
    return videos
