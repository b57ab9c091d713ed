"""What there is to cut clips from: video files, folders of pictures, the layout of VFHQ."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keep_hf.video.media_files import VIDEO_SUFFIXES, find_images, find_videos
from keep_hf.video.part_folder import describe_source


VFHQ_NAME = re.compile(r"Clip\+.+\+P\d+\+C\d+\+F\d+-\d+")


@dataclass(frozen=True)
class Film:
    """A video file or a folder of pictures.

    Attributes:
        name (`str`): Path within SOURCE.
        path (`Path`): Where it is.
        frame_rate (`float`): Pictures per second of a folder.
    """

    name: str
    path: Path
    frame_rate: float

    @property
    def key(self) -> str:
        """How the names of its clips begin: up to the first dot is what the Hub takes for the key of a pair."""
        name = Path(self.name)
        stem = name if self.path.is_dir() else name.with_suffix("")
        return re.sub(r"[^\w+-]+", "_", stem.as_posix())

    def version(self) -> dict[str, Any]:
        """Tells the film from a changed one of the same name."""
        about = describe_source(self.path)
        return {name: about[name] for name in about if name != "source"} | {"frame rate": self.frame_rate}


def list_films(source: Path, frame_rate: float) -> list[Film]:
    """Find all videos in a folder, and all folders in it that hold pictures but no video.

    Args:
        source (`Path`): The folder; it is searched at all depths.
        frame_rate (`float`): Of folders of pictures, per second.

    Returns:
        `list[Film]`: in the order of their names.

    Raises:
        ValueError: If there is none, or the clips of two films would have the same names.
    """
    videos = find_videos(source)
    folders = {path.parent for path in find_images(source)}
    folders -= {source, *(path.parent for path in videos)}
    films = [Film(path.relative_to(source).as_posix(), path, frame_rate) for path in sorted({*videos, *folders})]
    if not films:
        raise ValueError(
            f"There is no video ({', '.join(sorted(VIDEO_SUFFIXES))}) and no folder of pictures in {source}."
        )
    return refuse_equal_keys(films)


def list_vfhq(source: Path, frame_rate: float) -> list[Film]:
    """Find all folders of frames of VFHQ in a folder, at the frame rates that their meta texts tell.

    Args:
        source (`Path`): The folder; it is searched at all depths, for frames and for texts.
        frame_rate (`float`): Where there is no text of the same name, per second.

    Returns:
        `list[Film]`: in the order of their names.

    Raises:
        ValueError: If there is none, a text tells no frame rate, or the clips of two would have the same names.
    """
    folders = sorted(path for path in source.rglob("Clip+*") if path.is_dir() and VFHQ_NAME.fullmatch(path.name))
    if not folders:
        raise ValueError(f"There is no folder Clip+<video>+P<person>+C<clip>+F<first>-<last> in {source}.")
    texts = {path.stem: path for path in sorted(source.rglob("Clip+*.txt"))}
    films = []
    for path in folders:
        text = texts.get(path.name)
        told = re.search(r"^FPS\W+([\d.]+)", text.read_text(), re.MULTILINE) if text else None
        if text and not told:
            raise ValueError(f"{text} has no line FPS; it is no meta text of VFHQ.")
        films.append(Film(path.relative_to(source).as_posix(), path, float(told[1]) if told else frame_rate))
    return refuse_equal_keys(films)


def refuse_equal_keys(films: list[Film]) -> list[Film]:
    counts = Counter(film.key.lower() for film in films)
    clashes = [film.name for film in films if counts[film.key.lower()] > 1]
    if clashes:
        raise ValueError(f"The clips of {', '.join(clashes)} would have the same names; rename all but one.")
    return films
