"""`keep-hf benchmark`: measure speed and memory on this machine."""

import argparse

from ..benchmark import run_benchmarks
from .loading import selected_device
from .output import check_output_path, write_report


def run(args: argparse.Namespace) -> None:
    """Measure, print tables and write the report."""
    if args.report:
        check_output_path(args.report, "report")
    results = run_benchmarks(args.model, str(selected_device(args)), args.dtype, args.people, args.frames)
    if args.report:
        write_report(args.report, results)
