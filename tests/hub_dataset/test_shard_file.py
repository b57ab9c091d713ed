"""The Parquet file of a shard: its groups of rows are small enough to be read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features, Value, Video

from keep_hf.hub_dataset import shard_file
from keep_hf.hub_dataset.rows import RowResult
from keep_hf.hub_dataset.shard_file import ShardWriter, read_job


COLUMNS = Features({"id": Value("int64"), "video": Video()})


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a shard whose rows have videos of these sizes, in groups of at most 1000 bytes."""
    monkeypatch.setattr(shard_file, "MAX_GROUP_BYTES", 1000)

    def write(*sizes: int) -> Path:
        with ShardWriter(tmp_path / "shard.parquet", COLUMNS, "video", {"option": 1}) as writer:
            for number, size in enumerate(sizes):
                (tmp_path / "restored.mp4").write_bytes(bytes(size))
                row = pa.Table.from_pylist([{"id": number, "video": None}], schema=COLUMNS.arrow_schema)
                writer.add(row, RowResult("restored", None, "a.mp4", "{}"), tmp_path)
        return tmp_path / "shard.parquet"

    return write


def groups(path: Path) -> list[list[int]]:
    file = pq.ParquetFile(path)
    return [file.read_row_group(i, ["id"])["id"].to_pylist() for i in range(file.num_row_groups)]


def test_groups_of_rows_are_bounded_by_bytes(write):
    # A large row after small ones must not share their group, which it would make larger than the limit.
    path = write(300, 300, 900, 5000, 100)
    assert groups(path) == [[0, 1], [2], [3], [4]]
    assert [len(video["bytes"]) for video in pq.read_table(path)["video"].to_pylist()] == [300, 300, 900, 5000, 100]
    assert read_job(path) == {"option": 1}


def test_a_shard_without_rows_can_be_read(write):
    assert pq.read_table(write()).num_rows == 0
