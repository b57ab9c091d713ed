"""Folders of numbered pictures in and out, in the manner of `VideoReader` and `VideoWriter`.

Pictures have no times of their own: they follow each other at a frame rate. They are read in the order in which people
count (img2 before img10), and written as PNG, without loss.
"""

import contextlib
import os
import re
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from .media_files import IMAGE_SUFFIXES, is_image
from .part_folder import PartFolder, describe_source, sync
from .reader import Colour, VideoFrame, VideoReader


# Folder within the unfinished one; it gets the name of the target when it is complete.
PICTURES = "pictures"
NOTHING: dict[str, Any] = {"num_written": 0, "state": None}


class ImageFolderReader:
    """A folder of pictures as a sequence of `VideoFrame`, which can be iterated over again and again.

    PNG, JPEG, WebP, BMP and TIFF; other files are passed over. Pictures are turned upright as their EXIF data say,
    grey ones become RGB, 16 bits become 8, and transparency is ignored.

    Args:
        path (`str` or `os.PathLike`): The folder.
        frame_rate (`float`, *optional*, defaults to 25.0): Pictures per second.

    Attributes:
        width, height (`int`): Of the pictures, in pixels.
        frame_rate (`Fraction`): Pictures per second.
        time_base (`Fraction`): Seconds per unit of the timestamps: one picture.
        num_frames (`int`): How many pictures there are.
        names (`list[str]`): Their names, in order.

    Raises:
        ValueError: If the folder or a picture in it cannot be read, or the sizes of two pictures differ; the latter
            while iterating.
    """

    def __init__(self, path: str | os.PathLike, frame_rate: float = 25.0):
        self.path = Path(path)
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is not a folder." if self.path.exists() else f"{self.path} does not exist.")
        if not 0 < frame_rate < float("inf"):
            raise ValueError(f"frame_rate must be positive, got {frame_rate}.")
        self.names = sorted((file.name for file in self.path.iterdir() if is_image(file)), key=_counting_order)
        if not self.names:
            raise ValueError(f"{self.path} contains no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        self.num_frames = len(self.names)
        self.frame_rate = Fraction(frame_rate).limit_denominator(100_000)
        self.time_base = 1 / self.frame_rate
        self.has_audio, self.colour, self.pixel_aspect = False, Colour(), Fraction(1)
        self.height, self.width = _read_picture(self.path / self.names[0], warn=True).shape[:2]

    def __enter__(self) -> "ImageFolderReader":
        return self

    def __exit__(self, *exception) -> None:
        pass

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.read()

    def read(self, start: int = 0) -> Iterator[VideoFrame]:
        """Read the pictures from number `start` on.

        Args:
            start (`int`, *optional*, defaults to 0): Pictures to leave out.

        Returns:
            `Iterator[VideoFrame]`

        Raises:
            ValueError: If a picture is damaged or has another size than the first.
        """
        for index, name in enumerate(self.names[start:], start):
            image = _read_picture(self.path / name)
            if image.shape != (self.height, self.width, 3):
                raise ValueError(
                    f"{self.path / name} has {image.shape[1]} x {image.shape[0]} pixels, the first picture "
                    f"{self.width} x {self.height}; all must have one size."
                )
            yield VideoFrame(image, index, self.time_base, 1)


class ImageFolderWriter:
    """Writes frames as PNG pictures into a new folder.

    Until the `with` block ends they lie in the folder `name.part` beside it; see [`VideoWriter`], also for resuming.

    Args:
        path (`str` or `os.PathLike`): The folder to write; it must be empty or not exist.
        like ([`ImageFolderReader`] or [`VideoReader`], *optional*): The source. Pictures get the names of the
            pictures that they come from; others are called 000000.png and so on.
        width, height (`int`): Of the frames to come, in pixels.
        resume (`bool`): Go on where an earlier run with the same arguments ended; if there was none, begin.

    Attributes:
        num_written (`int`): Frames so far, with those of the run that is resumed.
        resumed (`dict`, *optional*): The state that the earlier run saved last; its frames need not come again.

    Raises:
        ValueError: If an argument cannot be used; on entering, if the folder is not empty, another process writes to
            it, or what lies there to be resumed is damaged or was begun with other arguments.
        OSError: If a picture cannot be written, for example because the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        like: ImageFolderReader | VideoReader | None = None,
        *,
        width: int,
        height: int,
        resume: bool = False,
    ):
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ValueError(f"{self.path}: the folder {self.path.parent} does not exist; create it first.")
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; name a folder.")
        if width < 1 or height < 1:
            raise ValueError(f"width and height must be positive, got {width} x {height}.")
        self.like, self.width, self.height, self.resume = like, width, height, resume
        names = like.names if isinstance(like, ImageFolderReader) else []
        self._stems = [Path(name).stem for name in names]
        if len({stem.lower() for stem in self._stems}) < len(self._stems):
            raise ValueError(f"{like.path if like else ''} has two pictures of the same name; give them others.")

    def __enter__(self) -> "ImageFolderWriter":
        with contextlib.ExitStack() as resources:
            settings = {"width": self.width, "height": self.height}
            self._folder = PartFolder(self.path, settings | (describe_source(self.like.path) if self.like else {}))
            self._pictures = self._folder.path / PICTURES
            self._folder.open(self.resume)
            self._complete = False
            resources.callback(self._leave_folder)
            saved = self._folder.saved or NOTHING
            self.num_written, self.resumed = saved["num_written"], saved["state"]
            self._num_durable = self.num_written
            if self._folder.saved and self.path.is_dir() and not self._pictures.exists():
                # Only the removal of the unfinished folder was cut short; frames that come again are there already.
                self._complete = True
            elif self.path.is_dir() and any(self.path.iterdir()):
                raise ValueError(f"{self.path} is not empty; name another folder.")
            else:
                self._take_up()
            self._resources = resources.pop_all()
        return self

    def _take_up(self) -> None:
        self._folder.keep([PICTURES])
        self._pictures.mkdir(exist_ok=True)
        found = {path.name for path in self._pictures.iterdir()}
        kept = {self._name(index) for index in range(self.num_written)}
        if not kept <= found:
            raise ValueError(
                f"{self._pictures / min(kept - found)} is missing; start anew without resume, which deletes "
                f"{self._folder.path}."
            )
        for name in found - kept:
            (self._pictures / name).unlink()

    def _name(self, index: int) -> str:
        return f"{self._stems[index] if index < len(self._stems) else f'{index:06d}'}.png"

    def write(self, image: np.ndarray, pts: int | None = None, duration: int | None = None) -> None:
        """Write the next frame.

        Args:
            image (`np.ndarray`): RGB uint8 of shape (height, width, 3).
            pts, duration (`int`, *optional*): Not used; pictures have no times.

        Raises:
            ValueError: If the image has another size or type.
            OSError: If it cannot be written.
        """
        shape = (self.height, self.width, 3)
        if image.dtype != np.uint8 or image.shape != shape:
            raise ValueError(f"{self.path}: image must be uint8 of shape {shape}, got {image.dtype} {image.shape}.")
        if not self._complete:
            _, content = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            with self._errors_named():
                (self._pictures / self._name(self.num_written)).write_bytes(content.tobytes())
        self.num_written += 1

    def end_segment(self, state: Any) -> None:
        """Finish a part from which a killed run can be resumed, and save what the caller needs to go on.

        When it returns, all pictures so far and the state are on the disk.

        Args:
            state: Tensors, numbers, strings, `None`, and lists, tuples and dictionaries of them.

        Raises:
            OSError: If the state cannot be written.
        """
        if not self._complete:
            with self._errors_named():
                self._make_durable()
                self._folder.save({"num_written": self.num_written, "state": state})

    def _make_durable(self) -> None:
        for index in range(self._num_durable, self.num_written):
            sync(self._pictures / self._name(index))
        sync(self._pictures)
        self._num_durable = self.num_written

    def __exit__(self, exception_type, *exception) -> None:
        with self._resources, self._errors_named():
            if exception_type is None and not self._complete:
                if self.num_written == 0:
                    raise ValueError(f"{self.path}: no frame was written to it.")
                self._make_durable()
                if self.path.is_dir():
                    self.path.rmdir()
                os.replace(self._pictures, self.path)
                sync(self.path.parent)
                self._complete = True

    def _leave_folder(self) -> None:
        self._folder.close(remove=self._complete or self._folder.saved is None)

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, f"{self.path} cannot be written: {error.strerror}") from error


def _counting_order(name: str) -> list[tuple[int, str]]:
    # "img10" -> [(0, "img"), (10, "")]; a second look at the name itself tells "img1" from "img01".
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in [*parts, name]]


def _read_picture(path: Path, warn: bool = False) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            upright.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or not a picture that Pillow can read.") from error
    if upright.mode == "F":
        raise ValueError(f"{path} has floating-point colours; convert it to 8 or 16 bits first.")
    if upright.mode.startswith("I"):
        high = (np.asarray(upright).astype(np.int32) >> 8).astype(np.uint8)  # as Pillow does with 3 x 16 bits
        return high[..., None].repeat(3, axis=2)
    has_alpha = upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info
    if has_alpha and warn:
        warnings.warn(f"{path}: the transparency is ignored.", stacklevel=3)
    return np.array((upright.convert("RGBA") if has_alpha else upright).convert("RGB"))
