"""The shards of a run: each is restored, written, uploaded, and then forgotten here.

Until a shard is uploaded, its finished rows are in a folder on this machine. What an interrupted run or a failed
upload leaves there is used by the next run with the same settings.
"""

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import OutOfMemoryError

from ..batch.manifest import FAILED, RESTORED
from ..batch.remote_file import RemoteFile
from ..batch.shared_folder import Job, SharedFolder
from .output import DatasetOutput
from .rows import Restore, restore_row
from .shard_file import OUTCOME, REASON, REPORT, ShardWriter
from .source import SourceSplit


@dataclass(frozen=True)
class ShardResult:
    """What became of a shard.

    Args:
        name (`str`): Its file in the dataset.
        rows (`dict[str, int]`): Number of rows by outcome; empty if the shard failed.
        failed_rows (`dict[int, str]`): Why rows failed, by their numbers in the shard.
        frames (`int`): Number of restored frames.
        error (`str`, *optional*): Why the shard failed. What is finished of it is kept.
    """

    name: str
    rows: dict[str, int] = field(default_factory=dict)
    failed_rows: dict[int, str] = field(default_factory=dict)
    frames: int = 0
    error: str | None = None


def list_shards(source: str, output: DatasetOutput, num_shards: int) -> list[Job]:
    """The shards as jobs for a [`SharedFolder`].

    Args:
        source (`str`): "datasets/owner/name@commit".
        output ([`DatasetOutput`]): The result.
        num_shards (`int`): Number of shards.
    """
    return [
        Job(RemoteFile("hf", source), output.shard(index, num_shards), str(output.shard_name(index, num_shards)))
        for index in range(num_shards)
    ]


@dataclass(frozen=True, kw_only=True)
class ShardRestorer:
    """Restores shards.

    Args:
        source ([`SourceSplit`]): The dataset.
        output ([`DatasetOutput`]): The result.
        num_shards (`int`): Number of shards.
        job (`Mapping`): What the result depends on.
        restore (`Callable`): Restores a video.
        codec (`str`, *optional*): See [`EncodingOptions`].
        folder (`Path`): Folder for what is not uploaded yet.
    """

    source: SourceSplit
    output: DatasetOutput
    num_shards: int
    job: Mapping[str, Any]
    restore: Restore
    codec: str | None
    folder: Path

    def run(self, shared: SharedFolder) -> Iterator[ShardResult]:
        """Restore the shards that this process claims, until all have an outcome, from this process or others."""
        indices = {job.name: index for index, job in enumerate(shared.jobs)}
        with shared:
            for job in shared.take_jobs():
                started = time.monotonic()
                try:
                    result = self.restore_shard(indices[job.name])
                except (ValueError, OSError, MemoryError, OutOfMemoryError) as error:
                    result = ShardResult(job.name, error=str(error) or "not enough memory")
                outcome = RESTORED if result.error is None else FAILED
                shared.record(job, outcome, result.error, time.monotonic() - started, result.frames)
                yield result
            if not shared.num_failed:
                # Also what processes have left that were killed after an upload.
                shutil.rmtree(self.job_folder, ignore_errors=True)

    @property
    def job_folder(self) -> Path:
        """The folder for the shards of this job."""
        digest = hashlib.sha256(json.dumps(dict(self.job), sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / digest

    def restore_shard(self, index: int) -> ShardResult:
        """Restore and upload a shard; if only its upload has failed before, upload it."""
        folder = self.job_folder / f"{index:05d}"
        path = folder / "shard.parquet"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with ShardWriter(path, self.source.features, self.source.column, self.job) as writer:
                for number, row in enumerate(self.source.read(index, self.num_shards)):
                    place = folder / f"{number:06d}"
                    writer.add(row, restore_row(self.source, row, place, self.restore, self.codec), place)
        for rows in folder.glob("[0-9]*"):
            shutil.rmtree(rows)
        name = self.output.shard_name(index, self.num_shards)
        result = summarize(path, str(name))
        self.output.put(path, name)
        shutil.rmtree(folder, ignore_errors=True)  # the shard is uploaded, whatever is left here
        return result


def summarize(path: Path, name: str) -> ShardResult:
    """What became of the rows of a Parquet file that a [`ShardWriter`] has written."""
    from pyarrow.parquet import read_table

    columns = read_table(path, columns=[OUTCOME, REASON, REPORT]).to_pydict()
    reasons = {number: reason for number, reason in enumerate(columns[REASON]) if reason is not None}
    frames = sum(json.loads(report)["frames"] for report in columns[REPORT] if report is not None)
    return ShardResult(name, dict(Counter(columns[OUTCOME])), reasons, frames)
