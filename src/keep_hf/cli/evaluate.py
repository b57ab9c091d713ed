"""`keep-hf evaluate`: measure videos against their references, or how steady they are."""

import argparse
import sys
from pathlib import Path

from ..evaluation.evaluate import evaluate_video
from ..evaluation.networks import Networks
from ..evaluation.pairs import VideoPair, pair_videos
from ..evaluation.plots import draw_plots, require_matplotlib
from ..evaluation.report import Report
from ..evaluation.series import NO_REFERENCE_METRICS, REFERENCE_METRICS
from ..models.flow.dis import DISFlow
from ..models.flow.gmflow import GMFlow
from ..options import RestorationOptions
from .loading import load_pipeline, selected_device
from .output import check_output_path, print_message


MODEL_OPTIONS = ("identity", "landmarks", "lpips", "flow")


def run(args: argparse.Namespace) -> None:
    """Measure each pair of videos, print tables and write the report and plots."""
    check_arguments(args)
    found = pair_videos(args.restored, args.reference)
    pairs = open_pairs(args, found)
    args.device = selected_device(args)
    networks = Networks.load(
        args.identity, args.landmarks, args.lpips, args.lpips_weights, load_flow(args), args.device, args.cache_dir
    )
    models = {name: getattr(args, name) for name in MODEL_OPTIONS if getattr(args, name)}
    detector = None
    if not args.aligned:
        detector = load_pipeline(args).to(args.device).face_detector()
        models["faces"] = args.detector or f"{type(detector).__name__} of {args.model}"

    table = NO_REFERENCE_METRICS if args.reference is None else REFERENCE_METRICS
    report = Report([], table, networks.missing(table), models)
    options = {"faces": args.faces, "min_face_size": args.min_face_size}
    for name, pair in pairs.items():
        try:
            evaluation = evaluate_video(pair, networks, detector, name=name, **options)
        except (ValueError, OSError) as error:
            if len(found) == 1:
                raise
            # One bad file must not stop the batch.
            print_message(f"{name}: {error}")
            continue
        report.evaluations.append(evaluation)
        if args.plots:
            draw_plots(evaluation, args.plots)
    if report.evaluations:
        if args.report:
            report.save(args.report)
        print(report.to_markdown())
    if failed := len(found) - len(report.evaluations):
        raise ValueError(f"{failed} of {len(found)} videos failed.")


def check_arguments(args: argparse.Namespace) -> None:
    """Reject what would fail only after the measurements, and create the folder for plots.

    Raises:
        ValueError: If the report cannot be written, LPIPS has no reference, an option has a value that is not allowed,
            or matplotlib is missing.
    """
    RestorationOptions(faces=args.faces, min_face_size=args.min_face_size, frame_rate=args.frame_rate)
    if args.report:
        check_output_path(args.report, "report", [path for path in (args.restored, args.reference) if path])
    if args.lpips and not args.reference:
        raise ValueError("LPIPS compares with a reference: name one, or omit --lpips.")
    if args.plots:
        require_matplotlib()
        if args.plots.exists() and not args.plots.is_dir():
            raise ValueError(f"{args.plots} is a file; --plots needs the name of a folder.")
        args.plots.mkdir(parents=True, exist_ok=True)


def open_pairs(args: argparse.Namespace, found: list[tuple[str, Path, Path | None]]) -> dict[str, VideoPair]:
    """Open videos and their references, before a model is loaded; of several, those that can be opened.

    Args:
        args (`argparse.Namespace`): The arguments of the command.
        found (`list[tuple[str, Path, Path | None]]`): From [`pair_videos`].

    Returns:
        `dict[str, VideoPair]`: by name. Those that cannot be opened are reported on stderr.

    Raises:
        ValueError: If none can be opened.
    """
    pairs = {}
    for name, restored, reference in found:
        try:
            pairs[name] = VideoPair(restored, reference, args.resize, args.frame_rate, sys.stderr.isatty())
        except (ValueError, OSError) as error:
            if len(found) == 1:
                raise
            print_message(f"{name}: {error}")
    if not pairs:
        raise ValueError(f"{len(found)} of {len(found)} videos failed.")
    return pairs


def load_flow(args: argparse.Namespace) -> GMFlow | DISFlow:
    """The optical flow of `--flow`, by which flicker is measured."""
    if args.flow == "dis":
        return DISFlow()
    flow = load_pipeline(argparse.Namespace(**vars(args) | {"model": args.flow, "detector": None})).flow
    if flow is None:
        raise ValueError(f"The model {args.flow} has no flow network.")
    return flow if isinstance(flow, DISFlow) else flow.to(args.device)
