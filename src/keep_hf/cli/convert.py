"""`keep-hf convert`: convert a published checkpoint to a folder for `from_pretrained`."""

import argparse

from ..models.checkpoint_files import load_checkpoint
from ..models.conversion import convert_checkpoint
from ..pipeline import KeepPipeline


def run(args: argparse.Namespace) -> None:
    """Write a folder with the pipeline, or with the flow network if the checkpoint holds nothing else."""
    components = convert_checkpoint(load_checkpoint(args.checkpoint))
    if "vq" in components:
        KeepPipeline(**components).save_pretrained(args.output)
    else:
        components["flow"].save_pretrained(args.output)
    print(f"{args.output}: {', '.join(sorted(components))}")
