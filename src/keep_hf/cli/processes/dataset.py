"""`keep-hf restore IN OUT --column video`: a dataset on the Hub, restored by one process or several."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from accelerate import PartialState

from ...hub_dataset.restore_dataset import DatasetRequest, DatasetRun, begin
from ...hub_dataset.shards import ShardResult
from ...options import EncodingOptions, RestorationOptions
from ...pipeline import KeepPipeline
from ..loading import selected_device
from ..output import print_message
from .agreement import agree


def run_dataset(
    args: argparse.Namespace,
    work_dir: Path,
    encoding: EncodingOptions,
    prepare: Callable[[], tuple[KeepPipeline, RestorationOptions]],
) -> None:
    """Restore the part of this process in a dataset.

    Args:
        args (`argparse.Namespace`): The arguments.
        work_dir (`Path`): Folder for what is not uploaded yet.
        encoding ([`EncodingOptions`]): How videos are encoded.
        prepare (`Callable`): Loads the pipeline, and returns the options.

    Raises:
        ValueError: If the dataset or an option is impossible, or shards have failed, in any process.
    """
    if args.ray or args.report:
        option = "--ray" if args.ray else "--report"
        raise ValueError(f"{option} is not supported for a dataset; the rows of the result hold the reports.")
    request = DatasetRequest(
        source=args.input,
        target=args.output,
        column=args.column,
        config=args.config,
        split=args.split or "train",
        num_shards=args.num_shards,
        resume=args.resume,
        work_dir=work_dir,
        video_stream=args.video_stream,
        strict=args.strict,
        encoding=encoding,
    )
    device = selected_device(args)
    state = PartialState(cpu=device.type == "cpu")
    beginning = agree(state, partial(begin, request))
    run = DatasetRun(request, beginning, *prepare())
    if state.is_main_process:
        run.describe(args.model)
    for result in run.restorer.run(run.shared):
        print_shard(result)
    if num_failed := run.shared.num_failed:
        raise ValueError(
            f"{num_failed} of {beginning.num_shards} shards failed. What is finished is in {request.shared}: --resume "
            "continues from there."
        )


def print_shard(result: ShardResult) -> None:
    """Print what became of a shard, and of the rows in it that failed."""
    if result.error is not None:
        print_message(f"{result.name}: {result.error}")
        return
    for number, reason in result.failed_rows.items():
        print_message(f"{result.name}: row {number}: {reason}")
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(result.rows.items()))
    print_message(f"{result.name}: {counts or 'no rows'}")
