"""The dataset of restored videos: where its shards are, and how they get there.

On the Hub it is a repository, which is created as a private one. A local folder or another store works as well:
`load_dataset` reads all of them. From the start on, the output has the job of each split in a hidden folder: a run
that is resumed, on any machine, reads the same commit of the source with the same options.
"""

import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import DatasetCard, HfApi

from ..batch.remote_file import RemoteFile, commit_despite_others, is_remote, report_errors
from ..batch.store_claims import FOLDER
from ..video.part_folder import sync
from .card import add_split
from .shard_file import read_job
from .source import parse_repository


CARD = PurePosixPath("README.md")


@dataclass(frozen=True)
class EarlierWork:
    """What earlier runs have written of a split.

    Args:
        job (`dict`, *optional*): The job of the last one.
        has_shards (`bool`): Whether there are shards.
    """

    job: dict[str, Any] | None
    has_shards: bool


@dataclass(frozen=True)
class DatasetOutput:
    """The dataset that a run writes.

    Args:
        root (`Path` or [`RemoteFile`]): The folder or the repository.
        config (`str`): Its configuration.
        split (`str`): Its split.
    """

    root: Path | RemoteFile
    config: str
    split: str

    @classmethod
    def parse(cls, target: Path, config: str, split: str) -> "DatasetOutput":
        """The output of a path or URL.

        Raises:
            ValueError: If it is a place on the Hub, but no dataset.
        """
        if not is_remote(target):
            return cls(target, config, split)
        root = RemoteFile.parse(target)
        if root.protocol == "hf" and parse_repository(root.path)[1] is not None:
            raise ValueError(f"{root} names a revision; results go to the branch main: leave it out.")
        return cls(root, config, split)

    @property
    def folder(self) -> PurePosixPath:
        """The folder of the shards, named as `push_to_hub` of `datasets` does."""
        return PurePosixPath("data" if self.config == "default" else self.config)

    def create(self) -> None:
        """Create the repository, private, or the folder, if there is none.

        Raises:
            OSError: If it cannot be created.
        """
        if isinstance(self.root, Path):
            self.root.mkdir(parents=True, exist_ok=True)
        elif self.root.protocol == "hf":
            with report_errors(self.root):
                HfApi().create_repo(
                    parse_repository(self.root.path)[0], repo_type="dataset", private=True, exist_ok=True
                )

    def shard_name(self, index: int, num_shards: int) -> PurePosixPath:
        """The name of a shard in the dataset."""
        return self.folder / f"{self.split}-{index:05d}-of-{num_shards:05d}.parquet"

    def shard(self, index: int, num_shards: int) -> Path | RemoteFile:
        """The file of a shard."""
        return self.root / self.shard_name(index, num_shards)

    @property
    def job_name(self) -> PurePosixPath:
        """The file with the job of the split; `load_dataset` skips hidden folders."""
        return FOLDER / f"{self.config}-{self.split}.json"

    def find_earlier_work(self) -> EarlierWork:
        """What earlier runs have written of the split.

        Raises:
            ValueError: If the output has files that this program has not written.
        """
        names = self._list_files()
        pattern = re.compile(rf"{re.escape(f'{self.folder}/{self.split}')}-\d{{5}}-of-\d{{5}}\.parquet")
        shard = next((name for name in names if pattern.fullmatch(str(name))), None)
        if shard is not None:
            return EarlierWork(self._read_job(shard), True)
        if self.job_name in names:
            return EarlierWork(json.loads(self._read(self.job_name)), False)
        foreign = [name for name in names if name != CARD and not name.parts[0].startswith(".")]
        if foreign and not any(name.parent == FOLDER and name.suffix == ".json" for name in names):
            raise ValueError(
                f"{self.root} has files that keep-hf has not written, such as {foreign[0]}: choose an output that is "
                "new or empty."
            )
        return EarlierWork(None, False)

    def _list_files(self) -> list[PurePosixPath]:
        if isinstance(self.root, RemoteFile):
            return sorted(self.root.find())
        found = [path for path in self.root.rglob("*") if path.is_file()]
        return sorted(PurePosixPath(path.relative_to(self.root).as_posix()) for path in found)

    def _read(self, name: PurePosixPath) -> bytes:
        place = self.root / name
        content = place.read_bytes() if isinstance(place, Path) else place.read()
        if content is None:
            raise OSError(f"{place} was deleted meanwhile; start again.")
        return content

    def _read_job(self, shard: PurePosixPath) -> dict[str, Any]:
        place = self.root / shard
        if isinstance(place, Path):
            job = read_job(place)
        else:
            with report_errors(place), place.system_now.open(place.path, "rb") as file:
                job = read_job(file)
        if job is None:
            raise ValueError(f"{place} was not written by keep-hf; choose another output.")
        return job

    def put(self, source: Path, name: PurePosixPath) -> None:
        """Copy a file into the dataset, where it appears complete.

        Raises:
            OSError: If it cannot be uploaded.
        """
        place = self.root / name
        if isinstance(place, RemoteFile):
            place.upload(source)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f"{uuid.uuid4().hex}.part")  # another process may write the same file
        try:
            shutil.copyfile(source, part)
            sync(part)
            os.replace(part, place)
        finally:
            part.unlink(missing_ok=True)

    def write_job(self, job: Mapping[str, Any]) -> None:
        """Write what the result depends on, for runs that are resumed."""
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / self.job_name.name
            path.write_text(json.dumps(dict(job), indent=2), encoding="utf-8")
            self.put(path, self.job_name)

    def write_card(self, job: Mapping[str, Any], model: str, licence: str | None, is_new: bool) -> None:
        """Write the card, or add this split to it if there is one.

        Args:
            job (`Mapping`): What the result depends on.
            model (`str`): The model, as the user named it.
            licence (`str`, *optional*): Licence of its weights.
            is_new (`bool`): Whether what the card says about the split, from an earlier run, is to be replaced.
        """
        place = self.root / CARD
        name = place.parent.name if isinstance(place, Path) else PurePosixPath(place.path).parent.name
        pattern = f"{self.folder}/{self.split}-*"

        def add(content: bytes | None) -> str | None:
            card = None if content is None else DatasetCard(content.decode())
            return add_split(card, name, self.config, self.split, pattern, job, model, licence, is_new)

        if isinstance(place, RemoteFile) and place.protocol == "hf":
            self._commit_card(place, add)
            return
        if isinstance(place, RemoteFile):
            new = add(place.read())
        else:
            new = add(place.read_bytes() if place.exists() else None)
        if new is not None:
            with tempfile.TemporaryDirectory() as temporary:
                path = Path(temporary) / CARD.name
                path.write_text(new, encoding="utf-8")
                self.put(path, CARD)

    def _commit_card(self, place: RemoteFile, add: Callable[[bytes | None], str | None]) -> None:
        """Change the card on the Hub. Another run may do so at the same time, for another split."""
        repository = parse_repository(PurePosixPath(place.path).parent.as_posix())[0]

        def commit() -> None:
            head = HfApi().dataset_info(repository).sha
            new = add((RemoteFile("hf", f"datasets/{repository}@{head}") / CARD).read())
            if new is not None:
                # Refused if the card may have changed since it was read; then it is read again.
                HfApi().upload_file(
                    path_or_fileobj=new.encode(),
                    path_in_repo=str(CARD),
                    repo_id=repository,
                    repo_type="dataset",
                    parent_commit=head,
                )

        with report_errors(place):
            commit_despite_others(commit)
