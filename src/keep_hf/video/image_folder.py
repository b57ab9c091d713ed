"""Reading and writing of folders of numbered images, with the interfaces of `VideoReader` and `VideoWriter`.

Images have no times of their own: they follow each other at a frame rate. They are read in natural order (img2 before
img10), and written as PNG, without loss.
"""

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from ..state_version import SavedStateError, check_state_version
from .animation import AnimationReader
from .colour import Colour
from .decoding.damage import Damage
from .decoding.source import FrameSource, VideoFrame
from .deep.deep_format import warn_of_eight_bits
from .deep.deep_image import DeepImage
from .fitting import fit_image
from .media_files import IMAGE_ERRORS, IMAGE_SUFFIXES, check_exists, check_output_size, is_image, open_image
from .part_folder import PartFolder, Setting, describe_source, report_write_errors, sync
from .reader import VideoReader


# Folder within the unfinished one; it is moved to the name of the target when it is complete.
IMAGES = "images"
STATE_VERSION = 1


class ImageFolderReader(FrameSource):
    """A folder of images as a sequence of `VideoFrame`, which can be iterated over any number of times.

    PNG, JPEG, WebP, BMP and TIFF; other files are ignored. Images are rotated upright as their EXIF data say, grey
    images become RGB, 16 bits become 8, and transparency is ignored. In the place of a damaged image, the last good
    one is shown again, and images of another size are fitted into the size of the first; warnings count them.

    Args:
        path (`str` or `os.PathLike`): The folder.
        frame_rate (`float`, *optional*, defaults to 25.0): Images per second.
        strict (`bool`, *optional*, defaults to `False`): Raise an error instead of these warnings.

    Attributes:
        width, height (`int`): Size of the images in pixels.
        frame_rate (`Fraction`): Images per second.
        time_base (`Fraction`): Seconds per unit of the timestamps: one image.
        num_frames (`int`): Number of images.
        names (`list[str]`): Their file names, in order.
        damage ([`Damage`]): What was damaged, once an iteration has reached the end.

    Raises:
        ValueError: If the folder or its first image cannot be read; with `strict`, while iterating, if any image
            cannot be read or has another size than the first.
    """

    def __init__(self, path: str | os.PathLike, frame_rate: float = 25.0, strict: bool = False) -> None:
        super().__init__(Path(path), strict)
        check_exists(self.path)
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is not a folder.")
        if not 0 < frame_rate < float("inf"):
            raise ValueError(f"frame_rate must be positive, got {frame_rate}.")
        self.names = sorted((file.name for file in self.path.iterdir() if is_image(file)), key=_natural_order)
        if not self.names:
            raise ValueError(f"{self.path} contains no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        self.num_frames = len(self.names)
        self.frame_rate = Fraction(frame_rate).limit_denominator(100_000)
        self.time_base = 1 / self.frame_rate
        self.has_audio, self.colour, self.pixel_aspect = False, Colour(), Fraction(1)
        self.height, self.width = _read_image(self.path / self.names[0], warn=True).shape[:2]

    def read(self, start: int = 0) -> Iterator[VideoFrame]:
        """Read the images from number `start` on.

        Args:
            start (`int`, *optional*, defaults to 0): Number of images to skip.

        Returns:
            `Iterator[VideoFrame]`

        Raises:
            ValueError: If an image is damaged or has another size than the first, and the reader is strict.
        """
        damage = Damage()
        good = None
        for index, name in enumerate(self.names):
            good = self._read_or_repeat(self.path / name, good, damage)
            damage.num_read += 1
            if index >= start:
                yield VideoFrame(good, index, self.time_base, 1)
        self._report(damage)

    def _read_or_repeat(self, path: Path, good: np.ndarray | None, damage: Damage) -> np.ndarray:
        try:
            image = _read_image(path)
        except ValueError:
            if self.strict or good is None:
                raise
            damage.add_repeated()
            return good.copy()
        if image.shape == (self.height, self.width, 3):
            return image
        if self.strict:
            raise ValueError(
                f"{path} has {image.shape[1]} x {image.shape[0]} pixels, the first image {self.width} x {self.height}"
                ". Without strict, it is fitted into the size of the first."
            )
        damage.num_resized += 1
        return fit_image(image, self.width, self.height)


@dataclass(frozen=True)
class ImageFolderState:
    """What an `ImageFolderWriter` saves at the end of a segment.

    Args:
        num_written (`int`): Number of finished images.
        caller_state: What the caller passed to `end_segment`.
    """

    num_written: int = 0
    caller_state: Any = None

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values, with its version."""
        return {"version": STATE_VERSION, **vars(self)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "ImageFolderState":
        """Restore a state that `state_dict` returned.

        Raises:
            SavedStateError: If another version of the package saved it, or it is damaged.
        """
        check_state_version(state, STATE_VERSION, "ImageFolderWriter")
        num_written = state.get("num_written")
        if not isinstance(num_written, int) or num_written < 0 or "caller_state" not in state:
            raise SavedStateError("The saved state of ImageFolderWriter is damaged; start again without resume.")
        return cls(num_written, state["caller_state"])


class ImageFolderWriter:
    """Writes frames as PNG images into a new folder.

    Until the `with` block ends they are in the folder `name.part` beside it; see [`VideoWriter`], also for resuming.

    Args:
        path (`str` or `os.PathLike`): The folder to write; it must be empty or not exist.
        source ([`ImageFolderReader`], [`AnimationReader`] or [`VideoReader`], *optional*): Images are named after
            those of the source; without any, they are named 000000.png and so on.
        width, height (`int`): Size of the frames in pixels.
        resume (`bool`, *optional*, defaults to `False`): Continue an earlier run with the same arguments; without
            such a run, start from the beginning.

    Attributes:
        bits (`int`): Bits per colour: 8.
        num_written (`int`): Number of frames so far, including those of the run that is resumed.
        resumed: State that the earlier run saved last, or `None`; the frames before it must not be written again.

    Raises:
        ValueError: If an argument is not valid; on entering, if the folder is not empty, another process writes to it,
            or the work to be resumed is damaged or was started with other arguments.
        OSError: If an image cannot be written, for example because the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        source: ImageFolderReader | AnimationReader | VideoReader | None = None,
        *,
        width: int,
        height: int,
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ValueError(f"{self.path}: the folder {self.path.parent} does not exist; create it first.")
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; pass a folder name.")
        check_output_size(self.path, width, height)
        if isinstance(source, VideoReader) and source.deep is not None:
            warn_of_eight_bits(source.deep, source.path, self.path)
        self.source, self.width, self.height, self.resume = source, width, height, resume
        self.bits = 8
        names = source.names if isinstance(source, ImageFolderReader) else []
        self._stems = [Path(name).stem for name in names]
        if source is not None and len({stem.lower() for stem in self._stems}) < len(self._stems):
            raise ValueError(f"{source.path} has two images whose names differ only in the suffix; rename one.")

    def __enter__(self) -> "ImageFolderWriter":
        with contextlib.ExitStack() as resources:
            settings: dict[str, Setting] = {"width": self.width, "height": self.height}
            self._folder = PartFolder(self.path, settings | (describe_source(self.source.path) if self.source else {}))
            self._images = self._folder.path / IMAGES
            self._folder.open(self.resume)
            self._is_complete = False
            resources.callback(self._close_folder)
            saved = self._folder.saved
            state = ImageFolderState() if saved is None else ImageFolderState.from_state_dict(saved)
            self.num_written = self._num_synced = state.num_written
            self.resumed = state.caller_state
            if saved is not None and self.path.is_dir() and not self._images.exists():
                # Only the removal of the unfinished folder was interrupted; the images are in the target already.
                self._is_complete = True
            elif self.path.is_dir() and any(self.path.iterdir()):
                raise ValueError(f"{self.path} is not empty; choose another folder.")
            else:
                self._restore_images()
            self._resources = resources.pop_all()
        return self

    def _restore_images(self) -> None:
        """Keep the images that the saved state refers to, and delete the others."""
        self._folder.keep([IMAGES])
        self._images.mkdir(exist_ok=True)
        found = {path.name for path in self._images.iterdir()}
        kept = {self._name(index) for index in range(self.num_written)}
        if not kept <= found:
            raise SavedStateError(
                f"{self._images / min(kept - found)} is missing; start again without resume, which deletes "
                f"{self._folder.path}."
            )
        for name in found - kept:
            (self._images / name).unlink()

    def _name(self, index: int) -> str:
        return f"{self._stems[index] if index < len(self._stems) else f'{index:06d}'}.png"

    def write(self, image: np.ndarray | DeepImage, pts: int | None = None, duration: int | None = None) -> None:
        """Write the next frame.

        Args:
            image (`np.ndarray`): RGB uint8 of shape `(height, width, 3)`.
            pts, duration (`int`, *optional*): Not used; images have no times.

        Raises:
            ValueError: If the image has another size or type.
            OSError: If it cannot be written.
        """
        shape = (self.height, self.width, 3)
        if isinstance(image, DeepImage):
            raise ValueError(f"{self.path}: images have 8 bits per colour, got a frame of 10 bits.")
        if image.dtype != np.uint8 or image.shape != shape:
            raise ValueError(f"{self.path}: image must be uint8 of shape {shape}, got {image.dtype} {image.shape}.")
        if not self._is_complete:
            _, content = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            with report_write_errors(self.path):
                (self._images / self._name(self.num_written)).write_bytes(content.tobytes())
        self.num_written += 1

    def end_segment(self, state: Any) -> None:
        """Save the state of the caller; a run that is killed later can be resumed from here.

        When the method returns, all images so far and the state are on the disk.

        Args:
            state: Tensors, numbers, strings, `None`, and lists, tuples and dictionaries of them.

        Raises:
            OSError: If the state cannot be written.
        """
        if not self._is_complete:
            with report_write_errors(self.path):
                self._sync_images()
                self._folder.save(ImageFolderState(self.num_written, state).state_dict())

    def _sync_images(self) -> None:
        for index in range(self._num_synced, self.num_written):
            sync(self._images / self._name(index))
        sync(self._images)
        self._num_synced = self.num_written

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._resources, report_write_errors(self.path):
            if kind is None and not self._is_complete:
                if self.num_written == 0:
                    raise ValueError(f"{self.path}: no frames were written to it.")
                self._sync_images()
                if self.path.is_dir():
                    self.path.rmdir()
                os.replace(self._images, self.path)
                sync(self.path.parent)
                self._is_complete = True

    def _close_folder(self) -> None:
        self._folder.close(remove=self._is_complete or self._folder.saved is None)


def _natural_order(name: str) -> list[tuple[int, str]]:
    # "img10" -> [(-1, "img"), (10, "")]; the name itself, at the end, orders "img1" and "img01".
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in [*parts, name]]


def _read_image(path: Path, warn: bool = False) -> np.ndarray:
    with open_image(path) as image:
        try:
            upright = ImageOps.exif_transpose(image)
            upright.load()
        except (Image.DecompressionBombError, *IMAGE_ERRORS) as error:
            raise ValueError(f"{path} is damaged, or not an image that Pillow can read.") from error
    if upright.mode == "F":
        raise ValueError(f"{path} has floating-point colours; convert it to 8 or 16 bits first.")
    if upright.mode.startswith("I"):
        high = (np.asarray(upright).astype(np.int32) >> 8).astype(np.uint8)  # as Pillow does with 3 x 16 bits
        return high[..., None].repeat(3, axis=2)
    has_alpha = upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info
    if has_alpha and warn:
        warnings.warn(f"{path}: transparency is ignored.", stacklevel=3)
    return np.array((upright.convert("RGBA") if has_alpha else upright).convert("RGB"))
