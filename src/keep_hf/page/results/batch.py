"""Several videos, one after the other: a video that fails does not stop the others, and a ZIP file has all results."""

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..progress import Progress
from .result_names import distinct_names


CHUNK = 1 << 20  # bytes
Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchFailure:
    """A video of a batch that could not be restored.

    Attributes:
        name (`str`): Name of the upload.
        reason (`str`): The reason, for a user.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class BatchProgress:
    """Progress of a batch.

    Attributes:
        index, total (`int`): Which video it is, from 0, and how many there are.
        name (`str`): Name of the video.
        step ([`Progress`]): Progress of this video.
    """

    index: int
    total: int
    name: str
    step: Progress

    @property
    def title(self) -> str:
        """The video and the phase, without the progress of the phase."""
        return f"Video {self.index + 1} of {self.total}, {self.name}: {self.step.phase}"


def run_batch(
    videos: Sequence[Path],
    restore: Callable[[Path], Iterator[Progress | Result]],
    explain: Callable[[Exception, str], str],
) -> Iterator[BatchProgress | Result | BatchFailure]:
    """Restore videos one after the other.

    Args:
        videos (`Sequence[Path]`): The videos.
        restore (`Callable`): Restores one: yields progress, and at the end the result.
        explain (`Callable[[Exception, str], str]`): What a user reads of an error with the path of the video.

    Returns:
        `Iterator`: Progress, and for every video in turn its result or a [`BatchFailure`].
    """
    for index, video in enumerate(videos):
        try:
            for step in restore(video):
                yield BatchProgress(index, len(videos), video.name, step) if isinstance(step, Progress) else step
        except Exception as error:
            yield BatchFailure(video.name, explain(error, str(video)))


def write_zip(target: Path, files: Sequence[tuple[str, Path]], texts: Mapping[str, str]) -> Iterator[int]:
    """Write files into a ZIP file, which appears under its name when it is complete.

    Videos cannot be compressed further, so they are stored as they are. Files above 4 GB use ZIP64.

    Args:
        target (`Path`): The `.zip` to write.
        files (`Sequence[tuple[str, Path]]`): Names in the ZIP file, and the files; equal names are numbered.
        texts (`Mapping[str, str]`): Further files: name and content.

    Returns:
        `Iterator[int]`: The number of bytes of the files written so far, after every MB.

    Raises:
        OSError: If a file cannot be read, or the disk is full. What was written is removed, also when the iterator is
            closed.
    """
    names = distinct_names([*(name for name, _ in files), *texts])
    part = target.with_name(f"{target.name}.part")
    num_bytes = 0
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name, (_, path) in zip(names, files, strict=False):
                entry = zipfile.ZipInfo.from_file(path, name)
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as copy:
                    while chunk := source.read(CHUNK):
                        copy.write(chunk)
                        num_bytes += len(chunk)
                        yield num_bytes
            for name, text in zip(names[len(files) :], texts.values(), strict=True):
                archive.writestr(name, text)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
