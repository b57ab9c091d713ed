"""keep-hf: restore, convert and degrade from the command line.

Exit code 0: done.  1: failed, with one line on stderr that says why.  2: wrong usage.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers.utils.logging import disable_progress_bar

from . import __version__
from .convert import convert_checkpoint, load_checkpoint
from .degrade import LEVELS, degrade_video
from .detector import YuNet
from .pipeline import KeepPipeline


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
VIDEO_SUFFIXES = {".avi", ".mkv", ".mov", ".mp4", ".webm"}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="keep-hf", description="Clear, steady faces in degraded video.")
    parser.add_argument("--version", action="version", version=f"keep_hf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    restore = commands.add_parser("restore", help="restore the faces of a video, or of every video in a folder")
    restore.add_argument("input", metavar="IN", type=Path, help="video file, or folder of video files")
    restore.add_argument("output", metavar="OUT", type=Path, help="video file to write, or folder")
    restore.add_argument("--model", default="keep-tiny", help="built-in name, folder, Hub id or published checkpoint")
    restore.add_argument("--detector", help="YuNet in place of the model's own: an .onnx file or a Hub repository")
    restore.add_argument("--aligned", action="store_true", help="the frames are aligned face crops already")
    restore.add_argument("--faces", choices=["all", "largest"], default="all")
    restore.add_argument("--min-face-size", type=float, default=0, help="pixels; smaller faces stay as they are")
    restore.add_argument("--fidelity", type=float, help="0: free of the input's faults; 1: close to the input")
    restore.add_argument("--strength", type=float, default=1.0, help="blend of the result with the input, 0 to 1")
    restore.add_argument("--upscale", type=int, default=1, help="frames grow by this, 1 to 4")
    restore.add_argument("--gain-mode", choices=["stream", "official"], default="stream")
    restore.add_argument("--device", type=existing_device, default="cuda" if torch.cuda.is_available() else "cpu")
    restore.add_argument("--dtype", choices=DTYPES, default="fp32")
    restore.add_argument("--report", type=Path, help="write what was done, as JSON")
    restore.set_defaults(run=run_restore)

    convert = commands.add_parser("convert", help="turn a published checkpoint into a folder for from_pretrained")
    convert.add_argument("checkpoint", metavar="CHECKPOINT", type=Path)
    convert.add_argument("output", metavar="OUT_DIR", type=Path)
    convert.set_defaults(run=run_convert)

    degrade = commands.add_parser("degrade", help="make a video worse the way the paper does")
    degrade.add_argument("input", metavar="IN", type=Path)
    degrade.add_argument("output", metavar="OUT", type=Path)
    degrade.add_argument("--level", choices=list(LEVELS), default="medium")
    degrade.add_argument("--seed", type=int, default=0)
    degrade.set_defaults(run=run_degrade)
    return parser


def existing_device(text: str) -> torch.device:
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": torch.mps.device_count()}
    kind, _, index = text.partition(":")
    if not (index or "0").isdecimal() or int(index or 0) >= counts.get(kind, 0):
        there = ", ".join(f"{name}:{i}" for name, count in counts.items() for i in range(count))
        raise argparse.ArgumentTypeError(f"there is no {text!r} on this machine; there is {there}")
    return torch.device(text)


def main(arguments: list[str] | None = None) -> int:
    args = build_parser().parse_args(arguments)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("keep-hf: interrupted; unfinished files were removed", file=sys.stderr)
        return 1
    except (ValueError, OSError, torch.OutOfMemoryError) as error:
        print(f"keep-hf: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def run_restore(args: argparse.Namespace) -> None:
    jobs = list_jobs(args.input, args.output)
    if args.report and (args.report.is_dir() or not args.report.parent.is_dir()):
        raise ValueError(f"The report {args.report} must be a file in a folder that exists.")
    # Before the model is moved: each process has its own GPU.  On CPUs PartialState must be told so, or every process
    # takes itself for the only one.
    state = PartialState(cpu=args.device.type == "cpu")
    if not sys.stderr.isatty():
        disable_progress_bar()
    if Path(args.model).is_file():
        pipe = KeepPipeline.from_single_file(args.model, dtype=DTYPES[args.dtype])
    else:
        pipe = KeepPipeline.from_pretrained(args.model, dtype=DTYPES[args.dtype])
    if args.detector:
        pipe.register_modules(detector=YuNet.from_pretrained(args.detector))
    pipe.to(args.device)
    pipe.set_progress_bar_config(disable=not sys.stderr.isatty())
    names = ("faces", "min_face_size", "fidelity", "strength", "upscale", "gain_mode")
    options = {name: getattr(args, name) for name in names}
    pipe.check_options(**options)

    reports, failures = [], []
    mine = jobs[state.process_index :: state.num_processes]
    for source, target in mine:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            report = pipe.restore_video(source, target, aligned=args.aligned, **options)
        except (ValueError, OSError) as error:
            if not args.input.is_dir():
                raise
            # One bad file must not cost the rest of the folder.
            print(f"keep-hf: {source}: {' '.join(str(error).split())}", file=sys.stderr)
            failures.append(source)
            continue
        if not report["tracks"] and not args.aligned:
            print(f"keep-hf: {source}: no face found; the frames are unchanged", file=sys.stderr)
        reports.append(report)
    if args.report and mine:
        path = args.report
        if state.num_processes > 1:
            path = path.with_stem(f"{path.stem}-{state.process_index}")
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(reports if args.input.is_dir() else reports[0], indent=2) + "\n")
        os.replace(part, path)
    if failures:
        raise ValueError(f"{len(failures)} of {len(mine)} videos failed.")


def list_jobs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """The files to restore, with where they go; a folder keeps its layout."""
    if not source.exists():
        raise ValueError(f"{source} does not exist.")
    if not source.is_dir():
        return [(source, target)]
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise ValueError(f"There is no video ({', '.join(sorted(VIDEO_SUFFIXES))}) in the folder {source}.")
    if target.exists() and not target.is_dir():
        raise ValueError(f"{source} is a folder, so {target} must be one too.")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} lies in {source}, where results would be taken for sources; name another folder.")
    # AVI cannot be written: such files become MP4.
    suffixes = {".avi": ".mp4"}
    jobs = [
        (path, (target / path.relative_to(source)).with_suffix(suffixes.get(path.suffix.lower(), path.suffix)))
        for path in found
    ]
    clashes = {target for _, target in jobs if sum(target == other for _, other in jobs) > 1}
    if clashes:
        raise ValueError(f"Several videos would be written to {sorted(map(str, clashes))}; rename one of each.")
    return jobs


def run_convert(args: argparse.Namespace) -> None:
    components = convert_checkpoint(load_checkpoint(args.checkpoint))
    if "vq" in components:
        KeepPipeline(**components).save_pretrained(args.output)
    else:
        components["flow"].save_pretrained(args.output)
    print(f"{args.output}: {', '.join(sorted(components))}")


def run_degrade(args: argparse.Namespace) -> None:
    degrade_video(args.input, args.output, args.level, seed=args.seed)


if __name__ == "__main__":
    sys.exit(main())
