"""`keep-hf degrade`: degrade a sharp video as in the paper."""

import argparse

from ..degrade import degrade_video


def run(args: argparse.Namespace) -> None:
    """Write the degraded video."""
    degrade_video(args.input, args.output, args.level, seed=args.seed)
