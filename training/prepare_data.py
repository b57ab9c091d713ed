"""Plain videos -> shards of aligned face clips to train on.

    python -m training.prepare_data videos/ faces/ --detector face_detection_yunet_2023mar.onnx --workers 8 \\
        --contact-sheet faces.jpg --degradation-preview degraded.jpg

    films ──> scenes, people, smoothed landmarks ──> pieces large and long enough ──> aligned, sharp clips ──> shards

A film is a video file, or a folder of pictures.  Everybody in it is followed; each visit of a person becomes a clip,
long ones become several.  `--vfhq` takes the layout of the VFHQ dataset: folders of frames `Clip+...+F0-99/` anywhere
in SOURCE, and their meta texts `Clip+...+F0-99.txt` wherever those are there.  Of the texts only the frame rate is
read; the faces are found and aligned as in any other film, VFHQ's own landmarks are not used.

OUTPUT holds `shard-00000.tar` and so on, each with pairs `key.mp4`, `key.json`.  It is a dataset of the Hub:
`datasets.load_dataset("webdataset", data_files="faces/*.tar")`; any program that reads tar can do without.  While the
work goes on it lies in `OUTPUT.part`; the same command goes on after a kill, and the shards are the same to the byte,
whatever the number of workers.

Exit code 0: all is done.  1: some films failed (each is told, the others are in the shards; the same command tries
them again), or everything did.  2: wrong usage.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, fields
from itertools import repeat
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import av
import cv2
import torch
from PIL import Image

from keep_hf.faces.yunet import YuNet
from keep_hf.video.open import open_video
from keep_hf.video.part_folder import PartFolder

from .detectors import load_detector
from .face_clips import Settings, cut_clips
from .films import Film, list_films, list_vfhq
from .preview import draw_contact_sheet, draw_degradations
from .shards import PATTERN, write_shards


# What OUTPUT was made from and how; hidden, so that `load_dataset` does not take it for data.
MANIFEST = ".prepared.json"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder of videos or of folders of pictures")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder to write the shards to")
    parser.add_argument(
        "--detector",
        default="opencv/face_detection_yunet",
        help="YuNet: an .onnx file or a Hub repository; or a folder that train_detector.py wrote",
    )
    parser.add_argument("--vfhq", action="store_true", help="SOURCE has the layout of VFHQ")
    parser.add_argument("--frame-rate", type=float, default=25.0, help="of folders of pictures that do not tell it")
    parser.add_argument("--faces", choices=["all", "largest"], default="all")
    parser.add_argument("--size", type=int, default=512, help="side of the aligned faces in pixels")
    parser.add_argument("--min-size", type=float, default=200, help="smallest face, in pixels of the film")
    parser.add_argument("--min-frames", type=int, default=24, help="shortest clip")
    parser.add_argument("--max-frames", type=int, default=120, help="longest clip; workers hold it in memory")
    parser.add_argument("--min-sharpness", type=float, default=0.25, help="see sharpness() in face_clips.py")
    parser.add_argument("--clips-per-shard", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a detector of its own")
    parser.add_argument("--contact-sheet", type=Path, help="picture of all clips to write: .jpg or .png")
    parser.add_argument("--degradation-preview", type=Path, help="picture of degraded clips to write: .jpg or .png")
    return parser


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = build_parser()
    args = parser.parse_args(arguments)
    if not args.source.is_dir():
        parser.error(f"there is no folder {args.source}")
    if args.output.exists() and not args.output.is_dir():
        parser.error(f"{args.output} is a file; name a folder to write the shards to")
    if args.output.resolve().is_relative_to(args.source.resolve()):
        parser.error(f"{args.output} lies in {args.source}, where clips would be taken for films; name another folder")
    if args.size < 256 or args.size % 2:
        parser.error(f"--size must be even and at least 256, at which sharpness is measured, got {args.size}")
    for name in ("min_frames", "clips_per_shard", "workers"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, got {getattr(args, name)}")
    if args.max_frames < args.min_frames:
        parser.error(f"--max-frames must not be less than --min-frames {args.min_frames}, got {args.max_frames}")
    for name in ("min_size", "min_sharpness"):
        if not 0 <= getattr(args, name) < float("inf"):
            parser.error(f"--{name.replace('_', '-')} must be 0 (no limit) or more, got {getattr(args, name)}")
    if not 0 < args.frame_rate < float("inf"):
        parser.error(f"--frame-rate must be positive, got {args.frame_rate}")
    for sheet in (args.contact_sheet, args.degradation_preview):
        if sheet and (sheet.suffix.lower() not in (".jpg", ".png") or not sheet.parent.is_dir()):
            parser.error(f"{sheet} must be a .jpg or a .png in a folder that exists")
    return args


# Workers


def start_worker() -> None:
    """Work with one thread, and end with the parent, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)

    def follow_parent() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()


def cut_film(film: Film, folder: Path, detector: str, settings: Settings) -> dict[str, Any]:
    """Cut the clips of one film into `folder / key`, and write what became of it to `folder / key.json`."""
    clips = folder / film.key
    try:
        if clips.exists():  # a run that was killed left it, or the film is another one now
            shutil.rmtree(clips)
        clips.mkdir()
        with open_video(film.path, film.frame_rate) as reader:
            kept, dropped = cut_clips(reader, film.name, clips, load_detector(detector), settings)
    except (ValueError, OSError) as error:
        return {"failed": " ".join(str(error).split())}
    state = {"version": film.version(), "folder": film.key, "clips": kept, "dropped": dropped}
    write_json(folder / f"{film.key}.json", state)
    return state


def write_json(path: Path, content: dict[str, Any]) -> None:
    part = path.with_name(f"{path.name}.new")
    part.write_text(json.dumps(content))
    os.replace(part, path)


# The whole


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    try:
        return prepare(args)
    except KeyboardInterrupt:
        print("prepare_data: interrupted; the same command goes on from there", file=sys.stderr)
    except BrokenProcessPool:
        print(
            "prepare_data: a worker was killed, perhaps for want of memory: the same command goes on from there; "
            "fewer --workers or --max-frames need less",
            file=sys.stderr,
        )
    except (ValueError, OSError) as error:
        print(f"prepare_data: {' '.join(str(error).split())}", file=sys.stderr)
    return 1


def prepare(args: argparse.Namespace) -> int:
    films = (list_vfhq if args.vfhq else list_films)(args.source, args.frame_rate)
    detector = load_detector(args.detector)
    detector_file = detector.model_file if isinstance(detector, YuNet) else Path(args.detector)
    settings = Settings(*(getattr(args, field.name) for field in fields(Settings)))
    job = describe_job(settings, detector_file, args.clips_per_shard)

    args.output.mkdir(parents=True, exist_ok=True)
    work = PartFolder(args.output, {})
    work.open(resume=True)
    done, failed = False, []
    try:
        if not is_prepared(args.output, films, job):
            begin(work, args.output, job)
            folder = work.path / "films"
            folder.mkdir(exist_ok=True)
            states = cut_films(films, folder, str(detector_file), settings, args.workers)
            failed = [name for name, state in states.items() if "failed" in state]
            stems = list_clips(states, folder)
            if not stems:
                done = True
                raise ValueError("No clip is left: see what was dropped and why, and set other limits.")
            write_shards(stems, args.output, args.clips_per_shard, work.path / "unfinished.tar")
            if not failed:
                versions = {film.name: film.version() for film in films}
                write_json(args.output / MANIFEST, {"job": job, "films": versions})
        done = not failed
    finally:
        work.close(remove=done or work.saved is None)

    for sheet, draw in ((args.contact_sheet, draw_contact_sheet), (args.degradation_preview, draw_degradations)):
        if sheet:
            Image.fromarray(draw(args.output)).save(sheet)
    if failed:
        print(f"prepare_data: {len(failed)} of {len(films)} films failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def describe_job(settings: Settings, detector_file: Path, clips_per_shard: int) -> dict[str, Any]:
    """What must be the same for the shards to be the same."""
    files = sorted(detector_file.iterdir()) if detector_file.is_dir() else [detector_file]
    return asdict(settings) | {
        "detector": hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest(),
        "clips per shard": clips_per_shard,
        "PyAV": av.__version__,
        "OpenCV": cv2.__version__,
    }


def is_prepared(output: Path, films: list[Film], job: dict[str, Any]) -> bool:
    """Whether the shards are there; those of another job are not touched."""
    manifest = output / MANIFEST
    if not manifest.exists():
        return False
    prepared = json.loads(manifest.read_text())
    differing = [name for name in job if prepared["job"].get(name) != job[name]]
    if prepared["films"] != {film.name: film.version() for film in films}:
        differing.append("films")
    if differing:
        raise ValueError(
            f"{output} holds shards of another job (other {', '.join(differing)}): name another folder. "
            "Training takes any number of them."
        )
    print(f"{output} is complete already")
    return True


def begin(work: PartFolder, output: Path, job: dict[str, Any]) -> None:
    """Take up what an earlier run did, if there was one."""
    if work.saved is None:
        if any(output.glob(PATTERN)):
            raise ValueError(f"{output} holds shards of unknown origin: name another folder.")
        work.save({"job": job})
    differing = [name for name in job if work.saved["job"].get(name) != job[name]]
    if differing:
        raise ValueError(
            f"{output} was begun with other settings ({', '.join(differing)}): give the same ones, or delete "
            f"{output} and {work.path} to start anew."
        )


def cut_films(
    films: list[Film], folder: Path, detector: str, settings: Settings, workers: int
) -> dict[str, dict[str, Any]]:
    """Cut the films that have not been cut, several at a time; what became of each, by name."""
    states = {film.name: state for film in films if (state := load_state(film, folder))}
    waiting = [film for film in films if film.name not in states]
    if states:
        print(f"{len(states)} of {len(films)} films are done already")
    # Not forked: OpenCV and torch have threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker) as pool:
        results = pool.map(cut_film, waiting, repeat(folder), repeat(detector), repeat(settings))
        for film, state in zip(waiting, results, strict=True):
            states[film.name] = state
            report(film, state, settings)
    return states


def load_state(film: Film, folder: Path) -> dict[str, Any] | None:
    path = folder / f"{film.key}.json"
    state = json.loads(path.read_text()) if path.exists() else None
    return state if state and state["version"] == film.version() else None


def report(film: Film, state: dict[str, Any], settings: Settings) -> None:
    if "failed" in state:
        print(f"prepare_data: {film.name}: {state['failed']}", file=sys.stderr)
        return
    frames = sum(clip["num_frames"] for clip in state["clips"])
    print(f"{film.name}: {len(state['clips'])} clips, {frames} frames", flush=True)
    for piece in state["dropped"]:
        first, last = piece["frames"]
        why = {
            "length": f"{piece['value']} frames are less than --min-frames {settings.min_frames}",
            "size": f"face of {piece['value']:.0f} px is less than --min-size {settings.min_size:g}",
            "sharpness": f"sharpness of {piece['value']:.3f} is less than --min-sharpness {settings.min_sharpness:g}",
        }[piece["gate"]]
        print(f"  dropped: person {piece['person']}, frames {first} to {last}: {why}", flush=True)


def list_clips(states: dict[str, dict[str, Any]], folder: Path) -> list[Path]:
    """The files of all clips, without suffix, in the order of their keys."""
    cut = [state for state in states.values() if "failed" not in state]
    stems = {clip["key"]: folder / state["folder"] / clip["key"] for state in cut for clip in state["clips"]}
    num_frames = sum(clip["num_frames"] for state in cut for clip in state["clips"])
    dropped = Counter(piece["gate"] for state in cut for piece in state["dropped"])
    told = ", ".join(f"{dropped[gate]} for {gate}" for gate in ("length", "size", "sharpness"))
    print(f"{len(stems)} clips, {num_frames} frames; dropped: {told}")
    return [stems[key] for key in sorted(stems)]


if __name__ == "__main__":
    sys.exit(main())
