"""A split of a dataset of videos on the Hub, read row by row as it is needed.

The library `datasets` streams the rows as Arrow tables. Nothing in them is decoded, so columns of any type pass
through as they are, and no decoder is needed but our own.
"""

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from huggingface_hub import HfApi

from ..video.part_folder import sync


REPOSITORY = re.compile(r"datasets/(?P<name>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?")
# Where every video is a file of its own, rows are cheap to skip, and a shard may have any number of them.
ROWS_PER_SHARD = 100
INSTALL = "Datasets need the package datasets; install it with: pip install 'datasets>=4.8.5'."


def parse_repository(path: str) -> tuple[str, str | None]:
    """The name and the revision of a dataset on the Hub.

    Args:
        path (`str`): "datasets/owner/name" or "datasets/owner/name@revision": a URL without "hf://".

    Raises:
        ValueError: If it is anything else.
    """
    match = REPOSITORY.fullmatch(path)
    if match is None:
        raise ValueError(f"hf://{path} is no dataset; pass hf://datasets/owner/name, or without --column a folder.")
    return match["name"], match["revision"]


def find_commit(repository: str, revision: str | None) -> str:
    """The commit of a revision of a dataset.

    Raises:
        OSError: If the Hub cannot be reached, or has no such dataset or revision.
    """
    with report_dataset_errors(repository):
        commit = HfApi().dataset_info(repository, revision=revision).sha
    assert commit is not None
    return commit


class SourceSplit:
    """A split of a dataset on the Hub.

    Args:
        repository (`str`): "owner/name".
        revision (`str`): The commit.
        config (`str`, *optional*): The configuration (subset); by default that of the dataset.
        split (`str`): The split, for example "train".
        column (`str`): The column with the videos.

    Attributes:
        config (`str`): Name of the configuration.
        features (`datasets.Features`): The columns.

    Raises:
        ValueError: If there is no such configuration, split or column, the column has no videos, or the package
            `datasets` is missing.
        OSError: If the dataset cannot be read.
    """

    def __init__(self, repository: str, revision: str, config: str | None, split: str, column: str) -> None:
        try:
            from datasets import Video, load_dataset_builder
            from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder
        except ImportError as error:
            raise ValueError(INSTALL) from error
        self.repository, self.revision, self.split, self.column = repository, revision, split, column
        with report_dataset_errors(repository):
            builder = load_dataset_builder(repository, config, revision=revision)
            dataset = builder.as_streaming_dataset(split=split)
        self.config = builder.config.name
        self.features = dataset.features or {}
        videos = [name for name, feature in self.features.items() if isinstance(feature, Video)]
        if column not in videos:
            raise ValueError(
                f"{repository} has no column of videos named {column!r} in split {split!r}; "
                + (f"choose {' or '.join(videos)}." if videos else "it has none at all.")
            )
        self._has_files = isinstance(builder, FolderBasedBuilder)
        self._dataset = dataset.decode(False)

    def count_shards(self, num_shards: int | None) -> int:
        """How many shards the result has; see `restore_dataset`.

        Args:
            num_shards (`int`, *optional*): What was asked for; by default one for each file of the dataset.

        Raises:
            ValueError: If the dataset cannot be divided into this number.
        """
        most = self._num_rows() if self._has_files else self._dataset.num_shards
        if num_shards is None:
            return max(1, -(-most // ROWS_PER_SHARD)) if self._has_files else most
        if not self._has_files and num_shards > most:
            with report_dataset_errors(self.repository):
                self._dataset = self._dataset.reshard()  # row groups of Parquet files
            most = self._dataset.num_shards
        if not 1 <= num_shards <= most:
            raise ValueError(
                f"{self.repository} can be divided into 1 to {most} shards, got {num_shards}: it has no more files, "
                "row groups or rows."
            )
        return num_shards

    def read(self, index: int, num_shards: int) -> Iterator[Any]:
        """The rows of a shard in order, each as a `pyarrow.Table`.

        Args:
            index (`int`), num_shards (`int`): The shard, and the number that `count_shards` has returned.
        """
        if self._has_files:
            first, end = (self._num_rows() * each // num_shards for each in (index, index + 1))
            dataset = self._dataset.skip(first).take(end - first)
        else:
            dataset = self._dataset.shard(num_shards, index)
        rows = dataset.with_format("arrow").iter(batch_size=1)
        while True:
            with report_dataset_errors(self.repository):
                row = next(rows, None)
            if row is None:
                return
            yield row

    def name_of(self, row: Any) -> str:
        """The name of the video of a row, for messages; a default if it has none."""
        video = row.column(self.column)[0].as_py()
        name = PurePosixPath(((video or {}).get("path") or "").split("::")[0]).name
        return name if name.strip(".") else "video"

    def fetch(self, row: Any, target: Path) -> None:
        """Write the video of a row to a file, unless the file exists already.

        Args:
            row (`pyarrow.Table`): From `read`.
            target (`Path`): The file, which appears complete.

        Raises:
            ValueError: If there is no video, or it is neither in the row nor a file of the dataset.
            OSError: If it cannot be downloaded, or the dataset cannot be reached.
        """
        if target.exists():
            return
        video = row.column(self.column)[0].as_py()
        if video is None or (video["bytes"] is None and not video["path"]):
            raise ValueError("the row has no video.")
        part = target.with_name(f"{uuid.uuid4().hex}.download")
        try:
            if video["bytes"] is not None:
                part.write_bytes(video["bytes"])
            else:
                self._download(video["path"], part)
            sync(part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    def _download(self, path: str, target: Path) -> None:
        # A dataset of a stranger must not name files of this machine, or others that this user can read.
        if not path.split("::")[-1].startswith(f"hf://datasets/{self.repository}@{self.revision}/"):
            raise ValueError(f"the video is {path}, which is no file of the dataset, and is not read.")
        try:
            with report_dataset_errors(self.repository), fsspec.open(path, "rb") as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, 2**20)
        except FileNotFoundError as error:
            # Without access to the dataset no file seems to exist, and fsspec remembers that.
            fsspec.filesystem("hf").invalidate_cache()
            find_commit(self.repository, self.revision)
            raise ValueError(f"{path} does not exist.") from error

    def _num_rows(self) -> int:
        if not hasattr(self, "_rows"):
            with report_dataset_errors(self.repository):
                tables = self._dataset.with_format("arrow").iter(batch_size=1000)
                self._rows = sum(table.num_rows for table in tables)
        return self._rows


@contextmanager
def report_dataset_errors(repository: str) -> Iterator[None]:
    """Raise errors of `datasets` and the Hub in one line that names the dataset; a missing file as it is."""
    try:
        yield
    except FileNotFoundError as error:
        if type(error) is FileNotFoundError:
            raise
        raise OSError(f"hf://datasets/{repository}: {_first_line(error)}") from error
    except JSONDecodeError as error:
        raise OSError(f"hf://datasets/{repository}: the answer of the Hub cannot be read: {error}") from error
    except ValueError as error:
        raise ValueError(f"hf://datasets/{repository}: {_first_line(error)}") from error
    # The libraries below raise errors of their own, without a common base.
    except Exception as error:
        raise OSError(f"hf://datasets/{repository} cannot be read: {type(error).__name__}: {error}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
