"""keep-hf: restore, faces, convert, degrade, evaluate, benchmark and demo from the command line.

Exit code 0: done.  1: failed, with one line on stderr that says why.  2: wrong usage.
"""

import argparse
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers.utils.logging import disable_progress_bar
from PIL import Image

from . import __version__
from .allocator import keep_freed_memory
from .benchmark import DTYPES as BENCHMARK_DTYPES
from .benchmark import PUBLISHED_SIZE, run_benchmarks
from .degrade import LEVELS, degrade_video
from .evaluation.dis_flow import DISFlow
from .evaluation.evaluate import Networks, evaluate_video
from .evaluation.pairs import VideoPair, pair_videos
from .evaluation.plots import draw_plots, require_matplotlib
from .evaluation.report import Report
from .evaluation.series import COMPARED, INSPECTED
from .faces.contact_sheet import draw_people
from .faces.detector import YuNet
from .faces.face_parser import load_parser
from .faces.identity import FaceIdentity
from .models.checkpoint_files import load_checkpoint
from .models.conversion import convert_checkpoint
from .models.flow import GMFlow
from .options import RestorationOptions
from .pipeline import KeepPipeline
from .restoration.background import load_background
from .video.media_files import VIDEO_SUFFIXES, contains_images, find_videos
from .video.open import open_video
from .video.writer import OUTPUT_FORMATS


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
RESUMABLE = "what is done so far is kept: --resume goes on from there"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="keep-hf", description="Clear, steady faces in degraded video.")
    parser.add_argument("--version", action="version", version=f"keep_hf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    restore = commands.add_parser("restore", help="restore the faces of a video, or of every video in a folder")
    restore.add_argument("input", metavar="IN", type=Path, help="video file, folder of videos, or folder of pictures")
    restore.add_argument("output", metavar="OUT", type=Path, help="video file to write, or folder")
    restore.add_argument("--model", default="keep-tiny", help="built-in name, folder, Hub id or published checkpoint")
    restore.add_argument("--detector", help="YuNet in place of the model's own: an .onnx file or a Hub repository")
    restore.add_argument("--aligned", action="store_true", help="the frames are aligned face crops already")
    restore.add_argument("--faces", type=people, default="all", help="all, largest, or numbers of people: 0,2")
    restore.add_argument("--min-face-size", type=float, default=0, help="pixels; smaller faces stay as they are")
    restore.add_argument("--fidelity", type=float, help="0: free of the input's faults; 1: close to the input")
    restore.add_argument("--strength", type=float, default=1.0, help="blend of the result with the input, 0 to 1")
    restore.add_argument("--upscale", type=int, default=1, help="frames grow by this, 1 to 4")
    restore.add_argument("--gain-mode", choices=["stream", "official"], default="stream")
    restore.add_argument("--device", type=existing_device, default="cuda" if torch.cuda.is_available() else "cpu")
    restore.add_argument("--dtype", choices=DTYPES, default="fp32")
    restore.add_argument("--compile", action="store_true", help="compile first: for long films on a GPU")
    restore.add_argument("--background", type=Path, help="model file that enlarges the rest of the frames")
    restore.add_argument("--parser", help="model that keeps what is in front of a face: a folder or a Hub repository")
    restore.add_argument(
        "--identity", help="model that tells likeness in the report: an .onnx file or a Hub repository"
    )
    restore.add_argument("--frame-rate", type=float, default=25.0, help="of a folder of pictures")
    restore.add_argument("--resume", action="store_true", help="go on where a run that was stopped had got to")
    restore.add_argument("--report", type=Path, help="write what was done, as JSON")
    restore.set_defaults(run=run_restore)

    faces = commands.add_parser("faces", help="list the people of a video with the numbers that restore --faces takes")
    faces.add_argument("input", metavar="IN", type=Path, help="video file, or folder of pictures")
    faces.add_argument("--sheet", type=Path, help="write a picture of everybody with their number: .png or .jpg")
    faces.add_argument("--model", default="keep-tiny", help="whose detector to use; as of restore")
    faces.add_argument("--detector", help="YuNet in place of the model's own: an .onnx file or a Hub repository")
    faces.add_argument("--min-face-size", type=float, default=0, help="pixels; smaller faces do not count")
    faces.add_argument("--frame-rate", type=float, default=25.0, help="of a folder of pictures")
    faces.add_argument("--device", type=existing_device, default="cuda" if torch.cuda.is_available() else "cpu")
    faces.set_defaults(run=run_faces, dtype="fp32")

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

    evaluate = commands.add_parser("evaluate", help="measure videos against their references, or how steady they are")
    evaluate.add_argument("restored", metavar="RESTORED", type=Path, help="video, folder of videos or of pictures")
    evaluate.add_argument("reference", metavar="REFERENCE", type=Path, nargs="?", help="the same of what is the truth")
    evaluate.add_argument("--aligned", action="store_true", help="the frames are aligned face crops already")
    evaluate.add_argument("--resize", action="store_true", help="shrink the larger video by area to the smaller one")
    evaluate.add_argument("--faces", type=people, default="all", help="all, largest, or numbers of people: 0,2")
    evaluate.add_argument("--min-face-size", type=float, default=0, help="pixels; smaller faces do not count")
    evaluate.add_argument("--identity", help="for IDS: ONNX file, folder or Hub repository")
    evaluate.add_argument("--landmarks", help="for AKD: ONNX file, folder or Hub repository")
    evaluate.add_argument("--lpips", help="for LPIPS: folder or Hub repository, or the file of a backbone")
    evaluate.add_argument("--lpips-weights", help="with the file of a backbone: the file of LPIPS' channel weights")
    evaluate.add_argument("--flow", default="dis", help="for flicker: dis, or the model whose flow network to use")
    evaluate.add_argument("--model", default="keep-tiny", help="whose detector to use; as of restore")
    evaluate.add_argument("--detector", help="YuNet in place of the model's own: an .onnx file or a Hub repository")
    evaluate.add_argument("--frame-rate", type=float, default=25.0, help="of folders of pictures")
    evaluate.add_argument("--device", type=existing_device, default="cuda" if torch.cuda.is_available() else "cpu")
    evaluate.add_argument("--report", type=Path, help="write all values, as JSON")
    evaluate.add_argument("--plots", type=Path, metavar="DIR", help="draw profiles and values over time")
    evaluate.set_defaults(run=run_evaluate, dtype="fp32")

    benchmark = commands.add_parser("benchmark", help="measure speed and memory on this machine, with a drawn film")
    benchmark.add_argument(
        "--model", default="keep-tiny", help=f"as of restore, or {PUBLISHED_SIZE}: the published network, untrained"
    )
    benchmark.add_argument("--device", type=existing_device, default="cuda" if torch.cuda.is_available() else "cpu")
    benchmark.add_argument("--dtype", choices=BENCHMARK_DTYPES, nargs="+", default=["fp32"])
    benchmark.add_argument("--people", type=int, nargs="+", default=[1, 3], help="numbers of people in the film")
    benchmark.add_argument("--frames", type=int, default=50, help="length of the film")
    benchmark.add_argument("--report", type=Path, help="write all values, as JSON")
    benchmark.set_defaults(run=run_benchmark)

    demo = commands.add_parser("demo", help="open the web page on this machine")
    demo.add_argument("--model", default="keep-tiny", help="built-in name, folder, Hub id or published checkpoint")
    demo.add_argument("--detector", help="YuNet in place of the model's own: an .onnx file or a Hub repository")
    demo.add_argument("--device", type=existing_device, default="cuda" if torch.cuda.is_available() else "cpu")
    demo.add_argument("--dtype", choices=DTYPES, default="fp32")
    demo.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in")
    demo.add_argument("--port", type=int, help="7860, or the next that is free, if not told otherwise")
    demo.add_argument("--max-seconds", type=float, default=60.0, help="longest part restored at once")
    demo.set_defaults(run=run_demo)
    return parser


def existing_device(text: str) -> torch.device:
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": torch.mps.device_count()}
    kind, _, index = text.partition(":")
    if not (index or "0").isdecimal() or int(index or 0) >= counts.get(kind, 0):
        there = ", ".join(f"{name}:{i}" for name, count in counts.items() for i in range(count))
        raise argparse.ArgumentTypeError(f"there is no {text!r} on this machine; there is {there}")
    return torch.device(text)


def people(text: str) -> str | tuple[int, ...]:
    if text in ("all", "largest"):
        return text
    if not all(number.strip().isdecimal() for number in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not all, largest, or numbers with commas between them")
    return tuple(int(number) for number in text.split(","))


def main(arguments: list[str] | None = None) -> int:
    args = build_parser().parse_args(arguments)
    try:
        args.run(args)
    except KeyboardInterrupt:
        kept = args.command == "restore" and _part(args.output).is_dir()
        print(f"keep-hf: interrupted; {RESUMABLE if kept else 'nothing was written'}", file=sys.stderr)
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
    # takes itself for the only one.  Who is who is all that they tell each other: from then on each goes its own way.
    state = PartialState(cpu=args.device.type == "cpu")
    state.destroy_process_group()
    pipe = load_pipeline(args)
    if args.parser:
        pipe.register_modules(parser=load_parser(args.parser, DTYPES[args.dtype]))
    if args.identity:
        pipe.register_modules(identity=FaceIdentity.from_pretrained(args.identity))
    pipe.to(args.device)
    if args.compile:
        pipe.compile()
    pipe.set_progress_bar_config(disable=not sys.stderr.isatty())
    options = RestorationOptions(
        aligned=args.aligned,
        faces=args.faces,
        min_face_size=args.min_face_size,
        fidelity=args.fidelity,
        strength=args.strength,
        upscale=args.upscale,
        gain_mode=args.gain_mode,
        background=load_background(args.background, args.device) if args.background else None,
        frame_rate=args.frame_rate,
    )

    reports, failures = [], []
    is_batch = jobs[0][0] != args.input
    mine = jobs[state.process_index :: state.num_processes]
    for source, target in mine:
        if args.resume and is_batch and target.exists():
            continue  # done by an earlier run
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            report = pipe.restore_video(source, target, resume=args.resume, **vars(options))
        except (ValueError, OSError) as error:
            kept = f"; {RESUMABLE}" if _part(target).is_dir() else ""
            if not is_batch:
                raise type(error)(f"{error}{kept}") from error
            # One bad file must not cost the rest of the folder.
            print(f"keep-hf: {source}: {' '.join(str(error).split())}{kept}", file=sys.stderr)
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
        part.write_text(json.dumps(reports if is_batch else reports[0], indent=2) + "\n")
        os.replace(part, path)
    if failures:
        raise ValueError(f"{len(failures)} of {len(mine)} videos failed.")


def load_pipeline(args: argparse.Namespace) -> KeepPipeline:
    if not sys.stderr.isatty():
        disable_progress_bar()
    if args.device.type == "cpu":
        keep_freed_memory()
    load = KeepPipeline.from_single_file if Path(args.model).is_file() else KeepPipeline.from_pretrained
    pipe = load(args.model, dtype=DTYPES[args.dtype])
    if args.detector:
        pipe.register_modules(detector=YuNet.from_pretrained(args.detector))
    return pipe


def run_faces(args: argparse.Namespace) -> None:
    if args.sheet and args.sheet.suffix.lower() not in (".jpg", ".png"):
        raise ValueError(f"{args.sheet} must be a .jpg or a .png.")
    if not args.input.exists():
        raise ValueError(f"{args.input} does not exist.")
    pipe = load_pipeline(args).to(args.device)
    tracks = pipe.follow(args.input, min_face_size=args.min_face_size, frame_rate=args.frame_rate)
    for track in tracks:
        size = np.median((track.boxes[:, 2:] - track.boxes[:, :2]).max(axis=1))
        print(f"{track.track_id}: {len(track)} frames from {track.frames[0]} to {track.frames[-1]}, {size:.0f} pixels")
    if not tracks:
        print("nobody")
    if args.sheet:
        with open_video(args.input, args.frame_rate) as reader:
            sheet = draw_people((frame.image for frame in reader.read()), tracks)
        Image.fromarray(sheet).save(args.sheet)


def list_jobs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """The videos to restore, with where they go; a folder of files keeps its layout, one of pictures is one video."""
    if not source.exists():
        raise ValueError(f"{source} does not exist.")
    if not source.is_dir():
        return [(source, target)]
    found = find_videos(source)
    if not found and contains_images(source):
        return [(source, target)]
    if not found:
        raise ValueError(f"{source} contains no videos ({', '.join(sorted(VIDEO_SUFFIXES))}) and no images.")
    if target.exists() and not target.is_dir():
        raise ValueError(f"{source} is a folder, so {target} must be one too.")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} lies in {source}, where results would be taken for sources; name another folder.")
    jobs = [(path, target / path.relative_to(source)) for path in found]
    # VideoWriter writes few formats; videos in any other one become MP4.
    jobs = [(path, to if to.suffix.lower() in OUTPUT_FORMATS else to.with_suffix(".mp4")) for path, to in jobs]
    clashes = {target for _, target in jobs if sum(target == other for _, other in jobs) > 1}
    if clashes:
        raise ValueError(f"Several videos would be written to {sorted(map(str, clashes))}; rename one of each.")
    return jobs


def _part(target: Path) -> Path:
    """Where the unfinished work on a target lies."""
    return target.with_name(f"{target.name}.part")


def run_convert(args: argparse.Namespace) -> None:
    components = convert_checkpoint(load_checkpoint(args.checkpoint))
    if "vq" in components:
        KeepPipeline(**components).save_pretrained(args.output)
    else:
        components["flow"].save_pretrained(args.output)
    print(f"{args.output}: {', '.join(sorted(components))}")


def run_degrade(args: argparse.Namespace) -> None:
    degrade_video(args.input, args.output, args.level, seed=args.seed)


def run_benchmark(args: argparse.Namespace) -> None:
    if args.report and (args.report.is_dir() or not args.report.parent.is_dir()):
        raise ValueError(f"The report {args.report} must be a file in a folder that exists.")
    results = run_benchmarks(args.model, str(args.device), args.dtype, args.people, args.frames)
    if args.report:
        args.report.write_text(json.dumps(results, indent=2) + "\n")


def run_evaluate(args: argparse.Namespace) -> None:
    if args.report and (args.report.is_dir() or not args.report.parent.is_dir()):
        raise ValueError(f"The report {args.report} must be a file in a folder that exists.")
    if args.lpips and not args.reference:
        raise ValueError("LPIPS compares with a reference: name one, or leave --lpips out.")
    if args.plots:
        require_matplotlib()
        args.plots.mkdir(parents=True, exist_ok=True)
    jobs = pair_videos(args.restored, args.reference)
    bars = sys.stderr.isatty()
    pairs = {
        name: VideoPair(restored, reference, args.resize, args.frame_rate, bars) for name, restored, reference in jobs
    }
    flow = load_flow(args)
    networks = Networks.load(args.identity, args.landmarks, args.lpips, args.lpips_weights, flow, args.device)
    names = ("identity", "landmarks", "lpips", "flow")
    models = {name: getattr(args, name) for name in names if getattr(args, name)}
    detector = None
    if not args.aligned:
        pipe = load_pipeline(args).to(args.device)
        detector = pipe.face_detector()
        models["faces"] = args.detector or f"{type(detector).__name__} of {args.model}"

    table = INSPECTED if args.reference is None else COMPARED
    report = Report([], table, networks.missing(table), models)
    options = {"faces": args.faces, "min_face_size": args.min_face_size}
    for name, pair in pairs.items():
        try:
            evaluation = evaluate_video(pair, networks, detector, name=name, **options)
        except (ValueError, OSError) as error:
            if len(pairs) == 1:
                raise
            # One bad file must not cost the rest of the folder.
            print(f"keep-hf: {name}: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        report.evaluations.append(evaluation)
        if args.plots:
            draw_plots(evaluation, args.plots)
    if report.evaluations:
        print(report.to_markdown())
        if args.report:
            report.save(args.report)
    if failed := len(pairs) - len(report.evaluations):
        raise ValueError(f"{failed} of {len(pairs)} videos failed.")


def run_demo(args: argparse.Namespace) -> None:
    if find_spec("gradio") is None:
        raise ValueError("The page needs gradio: pip install 'gradio>=6,<7'.")
    from .page import PAGE, Limits, build_demo  # gradio takes seconds to load

    limits = Limits(seconds=args.max_seconds)
    demo = build_demo(load_pipeline(args).to(args.device), limits=limits)
    demo.launch(server_name=args.host, server_port=args.port, max_file_size=f"{limits.megabytes}mb", **PAGE)


def load_flow(args: argparse.Namespace) -> GMFlow | DISFlow:
    if args.flow == "dis":
        return DISFlow()
    flow = load_pipeline(argparse.Namespace(**vars(args) | {"model": args.flow, "detector": None})).flow
    if flow is None:
        raise ValueError(f"The model {args.flow} has no flow network.")
    return flow.to(args.device)


if __name__ == "__main__":
    sys.exit(main())
