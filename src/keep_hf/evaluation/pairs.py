"""Match videos with their references, and read both frame by frame at one size."""

import itertools
from collections.abc import Generator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ..video.media_files import check_exists, find_videos
from ..video.open import open_video


Images = tuple[np.ndarray, ...]  # of the restored video and, if there is one, of the reference


def pair_videos(restored: Path, reference: Path | None) -> list[tuple[str, Path, Path | None]]:
    """Find videos and their references.

    Args:
        restored (`Path`): Video file, folder of images, or folder of videos at any depth.
        reference (`Path`, *optional*): The same for the references.  Videos in folders are matched by their path
            relative to the folder, without the suffix.

    Returns:
        `list[tuple[str, Path, Path | None]]`: name, restored video and reference of each pair.

    Raises:
        ValueError: If a path does not exist, or a video has no counterpart.
    """
    videos = _find_videos(restored)
    if reference is None:
        return [(name or restored.stem, path, None) for name, path in videos.items()]
    references = _find_videos(reference)
    if alone := videos.keys() ^ references.keys():
        paths = ", ".join(sorted(str(videos.get(name) or references[name]) for name in alone))
        raise ValueError(
            f"no counterpart for {paths}; videos in both folders must have the same names apart from the suffix."
        )
    return [(name or restored.stem, path, references[name]) for name, path in videos.items()]


def _find_videos(source: Path) -> dict[str, Path]:
    """Videos by their path in a folder without the suffix; a file or a folder of images has the name ""."""
    check_exists(source)
    found = find_videos(source) if source.is_dir() else []
    if not found:
        return {"": source}
    videos: dict[str, Path] = {}
    for path in found:
        name = path.relative_to(source).with_suffix("").as_posix()
        if name in videos:
            raise ValueError(f"{videos[name]} and {path} have the same name apart from the suffix; rename one.")
        videos[name] = path
    return videos


class VideoPair:
    """A video and, if there is one, its reference; both can be read together any number of times.

    Args:
        restored (`Path`): Video file or folder of images.
        reference (`Path`, *optional*): Video file or folder of images.
        resize (`bool`, defaults to `False`): Whether to shrink the larger one by area to the size of the smaller one.
        frame_rate (`float`, defaults to 25.0): Frames per second of folders of images.
        show_progress (`bool`, defaults to `False`): Whether reading shows a progress bar on stderr.

    Raises:
        ValueError: If one cannot be read, or their sizes differ and `resize` is not set or cannot help; while reading,
            if their numbers of frames differ.
    """

    def __init__(
        self,
        restored: Path,
        reference: Path | None,
        resize: bool = False,
        frame_rate: float = 25.0,
        show_progress: bool = False,
    ) -> None:
        paths = [restored] if reference is None else [restored, reference]
        self.readers = [open_video(path, frame_rate) for path in paths]
        self.sizes = [(reader.width, reader.height) for reader in self.readers]
        self.size = min(self.sizes)
        self.show_progress = show_progress
        for reader, (width, height) in zip(self.readers, self.sizes, strict=True):
            if (width, height) == self.size:
                continue
            sizes = f"{reader.path} has {width} x {height} pixels and the other video {self.size[0]} x {self.size[1]}"
            if height < self.size[1]:
                raise ValueError(f"{sizes}: neither contains the other, crop or resize one first.")
            if not resize:
                raise ValueError(f"{sizes}: resize (--resize) shrinks the larger one by area.")

    def read(self, purpose: str) -> Generator[Images, None, None]:
        """Decode both from the start."""
        streams = [reader.read() for reader in self.readers]
        total = self.readers[-1].num_frames
        with tqdm(total=total, desc=purpose, unit="frame", leave=False, disable=not self.show_progress) as bar:
            for index, frames in enumerate(itertools.zip_longest(*streams)):
                ended = [reader.path for reader, frame in zip(self.readers, frames, strict=True) if frame is None]
                if ended:
                    raise ValueError(
                        f"{ended[0]} ends after {index} frames and the other video continues: cut both to the same "
                        "frames."
                    )
                yield tuple(self._fit(frame.image) for frame in frames)
                bar.update()

    def _fit(self, image: np.ndarray) -> np.ndarray:
        if image.shape[1::-1] == self.size:
            return image
        return cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)
