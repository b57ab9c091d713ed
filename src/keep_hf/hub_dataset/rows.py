"""One row of a dataset: its video is restored, or the reason why not is recorded.

Only a fault of the video is recorded. What concerns the machine, such as a full disk or too little memory, is raised:
another run may succeed.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from torch import OutOfMemoryError

from ..batch.manifest import FAILED, NO_FACES, RESTORED
from ..state_version import SavedStateError
from ..video.part_folder import OutputInUseError, part_path, sync
from ..video.segments.output_format import OUTPUT_FORMATS, MissingEncoderError
from .source import SourceSplit


# What differs from run to run, or is the name of a temporary file.
LEFT_OUT = ("source", "target", "seconds", "peak_memory_bytes")
# A value is in one page of a Parquet file, whose size, with headers and after compression, has 31 bits.
MAX_BYTES = 2_000_000_000
RESULT = "result.json"

# Restores a video: source, target -> report.
Restore = Callable[[Path, Path], dict[str, Any]]


@dataclass(frozen=True)
class RowResult:
    """What became of the video of a row.

    Args:
        outcome (`str`): "restored", "no faces" or "failed", as in [`Outcome`].
        reason (`str`, *optional*): Why it failed.
        name (`str`, *optional*): Name of the restored video; `None` if it failed.
        report (`str`, *optional*): The report of `KeepPipeline.restore_video` as JSON, without times and memory.
    """

    outcome: str
    reason: str | None = None
    name: str | None = None
    report: str | None = None


def restore_row(source: SourceSplit, row: Any, folder: Path, restore: Restore, codec: str | None) -> RowResult:
    """Restore the video of a row, or take the result that an interrupted run has left.

    Args:
        source ([`SourceSplit`]): The dataset.
        row (`pyarrow.Table`): The row.
        folder (`Path`): Folder for its files.
        restore (`Callable`): Restores a video, and resumes an interrupted restoration.
        codec (`str`, *optional*): See [`EncodingOptions`].

    Raises:
        OSError: If the video cannot be downloaded, or files cannot be written: another run may succeed.
        MemoryError: If there is not enough memory: another machine may have more.
        OutputInUseError: If another process restores the row.
        MissingEncoderError: If this installation cannot encode the result.
    """
    if (folder / RESULT).exists():
        return RowResult(**json.loads((folder / RESULT).read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    name = source.name_of(row)
    result_name = name_result(name, codec)
    video, target = folder / f"source{safe_suffix(name)}", restored_path(folder, result_name)
    try:
        source.fetch(row, video)
        try:
            report = restore(video, target)
        except SavedStateError:
            # Damaged by a power failure, or saved with other versions of libraries: not the fault of the video.
            shutil.rmtree(part_path(target), ignore_errors=True)
            report = restore(video, target)
        if target.stat().st_size > MAX_BYTES:
            raise ValueError(f"the result has {target.stat().st_size:,} bytes; a row holds at most {MAX_BYTES:,}.")
        result = RowResult(RESTORED if report["tracks"] else NO_FACES, None, result_name, describe(report))
    except (MemoryError, OutOfMemoryError) as error:
        raise MemoryError(f"{name}: there is not enough memory to restore it.") from error
    except (OutputInUseError, MissingEncoderError, SavedStateError):
        raise
    except ValueError as error:
        shutil.rmtree(folder)  # with unfinished segments
        folder.mkdir()
        result = RowResult(FAILED, str(error).replace(str(video), name).replace(str(target), result_name))
    video.unlink(missing_ok=True)
    save_result(result, folder / RESULT)
    return result


def save_result(result: RowResult, path: Path) -> None:
    """Write what became of a row into a file that appears complete, also after a power failure."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(asdict(result)))
    sync(new)
    os.replace(new, path)


def restored_path(folder: Path, name: str) -> Path:
    """The restored video in the folder of a row; names from a dataset are not used as names of files."""
    return folder / f"restored{safe_suffix(name)}"


def name_result(name: str, codec: str | None) -> str:
    """The name of a restored video: its own if its format can be written with this codec, or else another suffix."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in OUTPUT_FORMATS and codec in (None, *OUTPUT_FORMATS[suffix].codecs):
        return name
    fitting = next(each for each, written in OUTPUT_FORMATS.items() if codec in (None, *written.codecs))
    return str(PurePosixPath(name).with_suffix(fitting))


def safe_suffix(name: str) -> str:
    """The suffix of a name from a dataset, if it is an ordinary one."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else ""


def describe(report: Mapping[str, Any]) -> str:
    """A report as JSON, without what differs from run to run."""
    return json.dumps({key: value for key, value in report.items() if key not in LEFT_OUT})
