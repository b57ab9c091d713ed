"""A shard of the result: a Parquet file with the rows of the source, restored videos and what became of them."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..video.part_folder import sync
from .rows import RowResult, restored_path


OUTCOME, REASON, REPORT = "restoration_outcome", "restoration_reason", "restoration_report"
# Key of the job in the metadata of the file.
JOB = b"keep_hf"
# As `datasets` writes them: a reader gets a group of rows at once. A larger row is a group of its own: offsets in a
# column have 32 bits, so a group of videos with more than 2 GiB could not be read at once.
MAX_GROUP_BYTES = 100_000_000


def check_columns(columns: Iterable[str]) -> None:
    """Reject a dataset that has columns of the names of ours.

    Raises:
        ValueError: With their names.
    """
    if clashes := sorted({OUTCOME, REASON, REPORT} & set(columns)):
        raise ValueError(f"The dataset has columns {', '.join(clashes)} already; restore the original dataset.")


class ShardWriter:
    """Writes the Parquet file of a shard, which appears complete. Used as a context.

    Args:
        path (`Path`): The file.
        features (`datasets.Features`): The columns of the source.
        column (`str`): The column of the videos.
        job (`Mapping`): What the result depends on, kept in the metadata of the file.
    """

    def __init__(self, path: Path, features: Any, column: str, job: Mapping[str, Any]) -> None:
        import pyarrow
        from datasets import Features, Value, Video

        text = dict.fromkeys((OUTCOME, REASON, REPORT), Value("string"))
        schema = Features(dict(features) | {column: Video()} | text).arrow_schema
        self.schema = schema.with_metadata(schema.metadata | {JOB: json.dumps(dict(job)).encode()})
        self.path, self.column, self._arrow = path, column, pyarrow
        self._part = path.with_name(f"{path.name}.part")
        self._tables: list[Any] = []

    def __enter__(self) -> "ShardWriter":
        from pyarrow.parquet import ParquetWriter

        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._writer = ParquetWriter(self._part, self.schema, use_content_defined_chunking=True, write_page_index=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._write_group()
        self._writer.close()
        if error is None:
            sync(self._part)
            os.replace(self._part, self.path)
        else:
            self._part.unlink()

    def add(self, row: Any, result: RowResult, folder: Path) -> None:
        """Add a row.

        Args:
            row (`pyarrow.Table`): The row of the source.
            result ([`RowResult`]): What became of its video.
            folder (`Path`): The folder of the row.
        """
        from datasets.table import embed_table_storage

        video = None
        if result.name is not None:
            video = {"bytes": restored_path(folder, result.name).read_bytes(), "path": result.name}
        new = {self.column: video, OUTCOME: result.outcome, REASON: result.reason, REPORT: result.report}
        arrays = [
            self._arrow.array([new[field.name]], field.type)
            if field.name in new
            else row.column(field.name).cast(field.type)
            for field in self.schema
        ]
        table = self._arrow.Table.from_arrays(arrays, schema=self.schema)
        # A row may name any file or address: what only this machine or its token can read stays out of the result.
        table = embed_table_storage(table, local_files=False, remote_files=False)
        if sum(each.nbytes for each in (*self._tables, table)) > MAX_GROUP_BYTES:
            self._write_group()
        self._tables.append(table)

    def _write_group(self) -> None:
        if self._tables:
            table = self._arrow.concat_tables(self._tables)
            self._writer.write_table(table.replace_schema_metadata(self.schema.metadata), row_group_size=len(table))
            self._tables.clear()


def read_job(file: IO[bytes] | Path) -> dict[str, Any] | None:
    """The job of a Parquet file, or `None` if this program has not written it."""
    from pyarrow.parquet import read_schema

    content = (read_schema(file).metadata or {}).get(JOB)
    return None if content is None else json.loads(content)
