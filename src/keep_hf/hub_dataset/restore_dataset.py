"""`restore_dataset`: the videos of a dataset on the Hub, restored into another dataset."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.constants import HF_HOME

from ..batch.remote_file import RemoteFile, is_remote
from ..batch.shared_folder import SharedFolder, find_start, is_at_work, record_finished
from ..options import AUTO, DEFAULT_MODEL, EncodingOptions, RestorationOptions
from ..pipeline import KeepPipeline
from ..restoration.resumable import check_job
from ..restoration.state import pack
from .output import DatasetOutput
from .shard_file import check_columns
from .shards import ShardRestorer, ShardResult, list_shards
from .source import SourceSplit, find_commit, parse_repository


@dataclass(frozen=True, kw_only=True)
class DatasetRequest:
    """What is to be restored, and how; see `restore_dataset`."""

    source: Path
    target: Path
    column: str
    config: str | None
    split: str
    num_shards: int | None
    resume: bool
    work_dir: Path
    video_stream: int | None
    strict: bool
    encoding: EncodingOptions

    @property
    def repository(self) -> tuple[str, str | None]:
        """Name and revision of the source.

        Raises:
            ValueError: If it is no dataset on the Hub.
        """
        if not is_remote(self.source) or (place := RemoteFile.parse(self.source)).protocol != "hf":
            raise ValueError(f"{self.source} is no dataset on the Hub; pass hf://datasets/owner/name.")
        return parse_repository(place.path)

    @property
    def output(self) -> DatasetOutput:
        """The result."""
        return DatasetOutput.parse(self.target, self.config or "default", self.split)

    @property
    def shared(self) -> Path:
        """The folder of the manifest, the claims and the work that is not uploaded yet."""
        root = self.output.root
        key = f"{root.absolute() if isinstance(root, Path) else root} {self.output.config} {self.split}"
        return self.work_dir / "datasets" / hashlib.sha256(key.encode()).hexdigest()[:32]

    def open_source(self, revision: str) -> SourceSplit:
        """The dataset at a commit."""
        source = SourceSplit(self.repository[0], revision, self.config, self.split, self.column)
        check_columns(source.features)
        return source


@dataclass(frozen=True)
class Beginning:
    """What all processes of a run agree on.

    Args:
        revision (`str`): The commit of the source. A run that is resumed reads the same one, even if the source has
            changed since.
        num_shards (`int`): Number of shards.
        job (`dict`, *optional*): The job of the run that is resumed, or is at work.
        start (`int`): See [`SharedFolder`].
    """

    revision: str
    num_shards: int
    job: dict[str, Any] | None
    start: int


def begin(request: DatasetRequest) -> Beginning:
    """Check the source, create the output, and find what is there.

    Raises:
        ValueError: If the source or the output is impossible, the output has files of another origin, or it has shards
            and the run is not to resume.
        OSError: If one of them cannot be reached.
    """
    output, (repository, wanted) = request.output, request.repository
    if str(output.root).rstrip("/") == f"hf://datasets/{repository}":
        raise ValueError(f"{output.root} is the source, which would be changed: choose another output.")
    revision = find_commit(repository, wanted)
    source = request.open_source(revision)
    if request.num_shards is not None:
        source.count_shards(request.num_shards)  # an impossible number creates nothing
    output.create()
    earlier_work = output.find_earlier_work()
    if earlier_work.has_shards and not request.resume:
        raise ValueError(
            f"{output.root} has shards of the split {request.split!r} already: continue with resume, or choose "
            "another output."
        )
    job = earlier_work.job if request.resume or is_at_work(request.shared) else None
    if job is not None and job["source"] != repository:
        raise ValueError(
            f"{output.root} was started with the dataset {job['source']}, not {repository}: choose another output."
        )
    if job is not None and wanted is None and job["revision"] != revision:
        revision = job["revision"]
        source = request.open_source(revision)
    earlier = None if job is None else job["num_shards"]
    num_shards = source.count_shards(earlier if request.num_shards is None else request.num_shards)
    jobs = list_shards(f"datasets/{repository}@{revision}", output, num_shards)
    request.shared.mkdir(parents=True, exist_ok=True)
    start = find_start(request.shared)
    if job is not None:
        record_finished(request.shared, jobs, start)
    return Beginning(revision, num_shards, job, start)


class DatasetRun:
    """The part of this process in a run.

    Args:
        request ([`DatasetRequest`]): What is to be restored.
        beginning ([`Beginning`]): From `begin`, for all processes the same.
        pipe ([`KeepPipeline`]): The pipeline on its device.
        options ([`RestorationOptions`]): The options of the restoration.

    Raises:
        ValueError: If the run that is resumed has another source, or other options.
    """

    def __init__(
        self, request: DatasetRequest, beginning: Beginning, pipe: KeepPipeline, options: RestorationOptions
    ) -> None:
        self.request, self.output, self.pipe, self.is_new = request, request.output, pipe, beginning.job is None
        source = request.open_source(beginning.revision)
        num_shards = source.count_shards(beginning.num_shards)
        job = pack(
            {
                "source": source.repository,
                "revision": source.revision,
                "config": source.config,
                "split": source.split,
                "column": source.column,
                "num_shards": num_shards,
                "video_stream": request.video_stream,
                "strict": request.strict,
                **vars(request.encoding),
                **pipe._describe_job(options, options.frame_rate),
            }
        )
        self.job: dict[str, Any] = json.loads(json.dumps(job))  # as it is read from a shard
        if beginning.job is not None:
            check_job(beginning.job, self.job, Path(str(self.output.root)))
        restore = partial(
            pipe.restore_video,
            video_stream=request.video_stream,
            strict=request.strict,
            resume=True,
            **vars(options),
            **vars(request.encoding),
        )
        self.restorer = ShardRestorer(
            source=source,
            output=self.output,
            num_shards=num_shards,
            job=self.job,
            restore=restore,
            codec=request.encoding.codec,
            folder=request.shared,
        )
        jobs = list_shards(f"datasets/{source.repository}@{source.revision}", self.output, num_shards)
        self.shared = SharedFolder(request.shared, jobs, beginning.start, resume=True)

    def describe(self, model: str) -> None:
        """Write the job into the output, for runs that are resumed, and the card, for readers."""
        if self.is_new:
            self.output.write_job(self.job)
        # The place of a model on this machine does not belong into a card that others read.
        name = Path(model).name if Path(model).exists() else model
        self.output.write_card(self.job, name, self.pipe.config.licence, self.is_new)


def restore_dataset(
    source: str | os.PathLike,
    target: str | os.PathLike,
    pipeline: str | Callable[[], KeepPipeline] = DEFAULT_MODEL,
    *,
    column: str = "video",
    config: str | None = None,
    split: str = "train",
    num_shards: int | None = None,
    aligned: bool = False,
    faces: str | Collection[int] = "all",
    min_face_size: float = 0.0,
    fidelity: float | None = None,
    strength: float | str = AUTO,
    person_strength: Mapping[int, float | str] | None = None,
    upscale: int = 1,
    gain_mode: str = "stream",
    latency: str = "normal",
    background: Callable[[np.ndarray], np.ndarray] | None = None,
    frame_rate: float = 25.0,
    video_stream: int | None = None,
    strict: bool = False,
    codec: str | None = None,
    crf: int | None = None,
    preset: str | None = None,
    resume: bool = False,
    work_dir: str | os.PathLike | None = None,
) -> list[ShardResult]:
    """Restore the faces in a column of videos of a dataset on the Hub, into another dataset.

    The rows are streamed; the dataset is not downloaded first. Each shard of the result is uploaded when it is
    complete: Parquet files with all columns of the source, the restored videos, and the columns
    `restoration_outcome`, `restoration_reason` and `restoration_report`. Rows and their order are those of the source.
    A row whose video cannot be restored has no video, but the reason, and does not end the run.

    Args:
        source (`str` or `os.PathLike`): `hf://datasets/owner/name`, or with a revision `hf://datasets/owner/name@v1`.
        target (`str` or `os.PathLike`): `hf://datasets/owner/name`, created as a private repository if there is none;
            a local folder; or a folder in another store, such as `s3://bucket/name`. Several splits may be restored
            into one dataset, into one on the Hub also at the same time.
        pipeline (`str` or `Callable`, *optional*, defaults to `"keep-small"`): What `KeepPipeline.from_pretrained`
            takes, or a function that returns the pipeline on its device.
        column (`str`, *optional*, defaults to `"video"`): The column with the videos.
        config (`str`, *optional*): The configuration (subset) of the dataset.
        split (`str`, *optional*, defaults to `"train"`): The split.
        num_shards (`int`, *optional*): Number of shards of the result. By default one for each file of the source or,
            where every video is a file, one for every 100. More shards let more processes work, and lose less when
            one is interrupted.
        aligned, faces, min_face_size, fidelity, strength, person_strength: See [`RestorationOptions`].
        upscale, gain_mode, latency, background, frame_rate: See [`RestorationOptions`].
        video_stream, strict, codec, crf, preset: See `KeepPipeline.restore_video`.
        resume (`bool`, *optional*, defaults to `False`): Continue an earlier run, after the shards that are uploaded.
            The source is read at the same commit as before, and the options must be the same.
        work_dir (`str` or `os.PathLike`, *optional*): Folder for what is not uploaded yet; by default in `HF_HOME`.

    Returns:
        `list[ShardResult]`: The shards that this process has restored. Finished rows of a shard that failed, and
            shards that were not uploaded, are kept in `work_dir` for the next run.

    Raises:
        ValueError: If an option has a value that is not allowed, the dataset has no such split or column, the target
            has files that this program has not written, it has shards and `resume` is not set, or the run to resume
            had other options.
        OSError: If the source or the target cannot be reached.
    """
    options = RestorationOptions.from_arguments(locals())
    request = DatasetRequest(
        source=Path(source),
        target=Path(target),
        column=column,
        config=config,
        split=split,
        num_shards=num_shards,
        resume=resume,
        work_dir=Path(work_dir) if work_dir else Path(HF_HOME) / "keep-hf-work",
        video_stream=video_stream,
        strict=strict,
        encoding=EncodingOptions(codec=codec, crf=crf, preset=preset),
    )
    beginning = begin(request)
    if isinstance(pipeline, str):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        pipe = KeepPipeline.from_pretrained(pipeline).to(device)
    else:
        pipe = pipeline()
    run = DatasetRun(request, beginning, pipe, options)
    run.describe(pipeline if isinstance(pipeline, str) else "from a function")
    return list(run.restorer.run(run.shared))
