"""`keep-hf restore`: restore the faces of a video, or of all videos in a folder."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from accelerate import PartialState
from huggingface_hub.constants import HF_HOME

from ..batch.local_copies import LocalCopies
from ..batch.manifest import MANIFEST
from ..batch.plan import Plan, make_plan
from ..batch.remote_file import RemoteFile, is_remote
from ..batch.shared_folder import Job
from ..built_in import BUILT_IN
from ..cluster.restore_videos import run as run_videos
from ..cluster.tasks import RunSettings
from ..faces.face_parser import load_parser
from ..faces.identity import FaceIdentity
from ..options import AUTO, DEFAULT_MODEL, EncodingOptions, RestorationOptions
from ..pipeline import KeepPipeline
from ..pipeline.keep_pipeline import SEGMENT_FRAMES
from ..restoration.background import load_background
from ..restoration.report.report_page import describe_video, render_report
from ..restoration.report.wording import missing_people
from ..restoration.state import pack
from .loading import DTYPES, load_pipeline, selected_device
from .output import (
    check_output_path,
    collected_warnings,
    name_file,
    print_message,
    resume_hint,
    write_report,
    write_text,
)
from .parser import ANY_CLUSTER
from .processes.dataset import run_dataset
from .processes.folder import begin_folder, path_in_folder, restore_folder


# The file with what has happened, in the folder of the results of a cluster.
JOURNAL = "keep-hf-cluster.jsonl"


def run(args: argparse.Namespace) -> None:
    """Restore a video, or the part of this process in a folder, and write the report."""
    work_folder = args.work_dir or Path(HF_HOME) / "keep-hf-work"
    encoding = EncodingOptions(codec=args.codec, crf=args.crf, preset=args.preset)
    if args.workers is not None and not args.ray:
        raise ValueError("--workers is the number of workers of a Ray cluster: add --ray, or leave it out.")
    if args.column:
        run_dataset(args, work_folder, encoding, partial(prepare, args))
        return
    if (args.config, args.split, args.num_shards) != (None, None, None):
        raise ValueError("--config, --split and --num-shards are for datasets: name the column of videos, --column.")
    plan, copies = make_plan(args.input, args.output, work_folder), LocalCopies(work_folder)
    if args.report:
        check_report_path(args.report, plan)
    if args.ray:
        run_on_cluster(args, plan, encoding)
        return
    args.device = selected_device(args)
    # Several processes may share a folder; each has its own GPU, so this goes before the model is moved.  On CPUs
    # PartialState needs `cpu=True`, or every process finds itself alone.
    state = PartialState(cpu=args.device.type == "cpu")
    folder = None if plan.shared is None else begin_folder(plan.shared, plan.jobs, args.resume, state)
    if folder is None:
        state.destroy_process_group()
        if not state.is_main_process:
            return  # one video is work for one process

    pipe = prepare_pipeline(args)
    options = restoration_options(args, load_enlarger(args))

    def restore_one(job: Job) -> dict[str, Any]:
        return restore_job(pipe, job, copies, args, options, encoding)

    reports: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    try:
        if folder is None:
            reports.append(restore_one(plan.jobs[0]))
        else:
            restore_folder(folder, args.input, restore_one, reports, failures)
    finally:
        # Also after an interruption: torchrun ends all processes when the first one exits because a video has failed.
        if args.report and (reports or folder is not None):
            name = args.report.stem + (f"-{state.process_index}" if state.num_processes > 1 else "")
            save_report(args.report.with_stem(name), reports, failures, folder is not None)
    if folder is not None and is_remote(args.output) and state.is_main_process:
        (RemoteFile.parse(args.output) / PurePosixPath(MANIFEST)).upload(folder.manifest.path)
    if folder is not None and folder.num_failed:
        raise ValueError(f"{folder.num_failed} of {len(plan.jobs)} videos failed.")


def check_report_path(path: Path, plan: Plan) -> None:
    """Reject a report that could not be written, before any work is done.

    Raises:
        ValueError: If its folder does not exist, or a page is to show remote files.
    """
    job = plan.jobs[0]
    check_output_path(path, "report", [place for place in (job.source, job.target) if isinstance(place, Path)])
    if path.suffix.lower() == ".html" and not (isinstance(job.source, Path) and isinstance(job.target, Path)):
        raise ValueError(f"{path} shows frames of local files only; choose a .json file for remote ones.")


def run_on_cluster(args: argparse.Namespace, plan: Plan, encoding: EncodingOptions) -> None:
    """Restore the videos on the cluster of `--ray`, and write the report."""
    if is_remote(args.input) or is_remote(args.output):
        raise ValueError(
            "With --ray, all workers read and write the same paths: pass local or shared folders, no URLs."
        )
    restoration_options(args, None)  # a wrong value is reported before the cluster starts
    settings = RunSettings(
        encoding=encoding,
        video_stream=args.video_stream,
        strict=args.strict,
        resume=args.resume,
        segment_frames=SEGMENT_FRAMES,
        longest_whole=args.longest_whole,
    )
    videos = {Path(str(job.target)): Path(str(job.source)) for job in plan.jobs}
    is_folder = plan.shared is not None
    result = run_videos(
        [(source, target) for target, source in videos.items()],
        partial(prepare, args),
        settings,
        engine="ray",
        address=None if args.ray == ANY_CLUSTER else args.ray,
        num_workers=args.workers,
        journal=args.output / JOURNAL if is_folder else None,
    )
    failures = {}
    for target, reason in result.failures.items():
        print_message(name_file(ValueError(reason), videos[target]))
        failures[path_in_folder(videos[target], args.input)] = reason
    for report in result.reports.values():
        for message in report["warnings"]:
            print_message(f"warning: {message}")
        print_results(report, args.aligned)
    if args.report and (result.reports or is_folder):
        save_report(args.report, list(result.reports.values()), failures, is_folder)
    if failures:
        raise ValueError(f"{len(failures)} of {len(videos)} videos failed; --resume tries them again.")


def prepare(args: argparse.Namespace) -> tuple[KeepPipeline, RestorationOptions]:
    """The pipeline and the options, in a worker of a cluster, which has a device of its own."""
    args.device = selected_device(args)
    return prepare_pipeline(args), restoration_options(args, load_enlarger(args))


def prepare_pipeline(args: argparse.Namespace) -> KeepPipeline:
    """The pipeline on its device, with all optional components that the arguments name."""
    pipe = load_pipeline(args)
    if args.parser:
        pipe.register_modules(parser=load_parser(args.parser, DTYPES[args.dtype], args.cache_dir))
    if args.identity:
        pipe.register_modules(identity=FaceIdentity.from_pretrained(args.identity, cache_dir=args.cache_dir))
    pipe.to(args.device)
    if args.compile:
        pipe.compile()
    pipe.set_progress_bar_config(disable=not sys.stderr.isatty())
    return pipe


def load_enlarger(args: argparse.Namespace) -> Callable[[np.ndarray], np.ndarray] | None:
    """The network for the background, on the device, if the arguments name one."""
    return load_background(args.background, args.device) if args.background else None


def restoration_options(
    args: argparse.Namespace, background: Callable[[np.ndarray], np.ndarray] | None
) -> RestorationOptions:
    """The options that the arguments name.

    Raises:
        ValueError: If one of them has a value that is not allowed.
    """
    return RestorationOptions(
        aligned=args.aligned,
        faces=args.faces,
        min_face_size=args.min_face_size,
        fidelity=args.fidelity,
        strength=args.strength,
        person_strength=args.person_strength,
        upscale=args.upscale,
        gain_mode=args.gain_mode,
        latency=args.latency,
        background=background,
        frame_rate=args.frame_rate,
    )


def restore_job(
    pipe: KeepPipeline,
    job: Job,
    copies: LocalCopies,
    args: argparse.Namespace,
    options: RestorationOptions,
    encoding: EncodingOptions,
) -> dict[str, Any]:
    """Restore one video, which may be remote, and return its report."""
    source, target = Path(str(job.source)), copies.target(job)
    try:
        settings = {"video_stream": args.video_stream, "strict": args.strict} | vars(encoding)
        if isinstance(job.target, RemoteFile):  # the checksum of the weights takes a while
            settings |= pack(pipe._describe_job(options, options.frame_rate))
        copy = copies.begin(job)
        report = copy.find_finished(settings) if args.resume else None
        if report is None:
            source = copy.fetch()
            report = restore(pipe, source, target, args, options, encoding)
            copy.keep(settings, report)
        copy.deliver()
    except (ValueError, OSError) as error:
        message = name_file(error, source) if isinstance(job.source, Path) else str(error)
        message = message.replace(str(source), str(job.source))
        raise ValueError(f"{message}{resume_hint(target, error)}") from error
    report |= {"source": str(job.source), "target": str(job.target)}
    print_findings(report, args.model, pipe.vq.config.sample_size, options)
    return report


def restore(
    pipe: KeepPipeline,
    source: Path,
    target: Path,
    args: argparse.Namespace,
    options: RestorationOptions,
    encoding: EncodingOptions,
) -> dict[str, Any]:
    """Restore one video and return its report."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with collected_warnings() as messages:
        report = pipe.restore_video(
            source,
            target,
            video_stream=args.video_stream,
            strict=args.strict,
            resume=args.resume,
            **vars(options),
            **vars(encoding),
        )
    report["warnings"] = list(dict.fromkeys([*report["warnings"], *messages]))
    return report


def print_findings(report: dict[str, Any], model: str, sample_size: int, options: RestorationOptions) -> None:
    """Print what was done to each person of a video, and which model to try if faces are too large for this one."""
    source, tracks = report["source"], report["tracks"]
    print_results(report, options.aligned)
    if advice := advise_larger_model(model, sample_size, tracks, options):
        print_message(f"{source}: {advice}")


def save_report(path: Path, reports: list[dict[str, Any]], failures: dict[str, str], is_batch: bool) -> None:
    """Write the reports of all videos, as a page to read if the suffix is `.html`, or else as JSON."""
    if path.suffix.lower() != ".html":
        write_report(path, reports if is_batch else reports[0])
        return
    sections = [describe_video(report, Path(report["source"]), Path(report["target"])) for report in reports]
    write_text(path, render_report(sections, failures))


def print_results(report: dict[str, Any], aligned: bool) -> None:
    """Print what was done with each person of a video."""
    options = report["options"]
    if not report["tracks"] and not aligned:
        print_message(f"{report['source']}: {missing_people(options)} found. The frames are unchanged.")
    if options["strength"] != AUTO and not options["person_strength"]:
        return  # one strength for all, as requested
    for track in report["tracks"]:
        print_message(f"{report['source']}: person {track['id']}: {track['strength']['reason']}")


def advise_larger_model(
    model: str, sample_size: int, tracks: list[dict[str, Any]], options: RestorationOptions
) -> str | None:
    """Which model to try where faces are larger than `keep-tiny` can hold, or `None`.

    No model here restores more than 512 x 512, so there is nothing to advise with the others.

    Args:
        model (`str`): The model of `--model`.
        sample_size (`int`): Side of the faces that it restores, in pixels.
        tracks (`list[dict]`): The tracks of the report.
        options ([`RestorationOptions`]): The options of the restoration.
    """
    # A face that was left as it is has lost nothing.
    restored = [track for track in tracks if track["strength"]["weight"] > 0.05]
    side = round(max((track["largest_crop"] for track in restored), default=0) * options.upscale)
    if model not in BUILT_IN or model == DEFAULT_MODEL or side <= sample_size:
        return None
    return (
        f"the largest face covers {side} x {side} pixels, and {model} restores {sample_size} x {sample_size}. "
        f"--model {DEFAULT_MODEL} restores 512 x 512, and so does --model keep, the published network (downloaded on "
        "first use; non-commercial licence)"
    )
