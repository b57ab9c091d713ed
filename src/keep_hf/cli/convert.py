"""`keep-hf convert`: convert a published checkpoint to a folder for `from_pretrained`."""

import argparse

from ..downloads.checkpoints import check_checkpoint, locate_checkpoint
from ..downloads.options import DownloadOptions
from ..loading_errors import check_weights
from ..models.checkpoint_files import load_checkpoint
from ..models.conversion import convert_checkpoint
from ..pipeline import KeepPipeline


def run(args: argparse.Namespace) -> None:
    """Write a folder with the pipeline, or with the flow network if the checkpoint holds nothing else."""
    if args.output.exists() and not args.output.is_dir():
        raise ValueError(f"{args.output} is a file; name a folder to write.")
    path = locate_checkpoint(args.checkpoint, DownloadOptions())
    origin = check_checkpoint(path)
    components = convert_checkpoint(load_checkpoint(path))
    for component in components.values():
        check_weights(args.checkpoint, component)
    if "vq" in components:
        pipe = KeepPipeline(**components, release=origin.release, checkpoint_sha256=origin.sha256)
        pipe.save_pretrained(args.output)
    else:
        components["flow"].save_pretrained(args.output)
    print(f"{args.output}: {', '.join(sorted(components))}")
