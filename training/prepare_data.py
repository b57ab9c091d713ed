"""Plain videos -> shards of aligned face clips for training.

    python -m training.prepare_data videos/ faces/ --detector face_detection_yunet_2023mar.onnx --workers 8 \\
        --contact-sheet faces.jpg --degradation-preview degraded.jpg

    videos ──> scenes, people, smoothed landmarks ──> large and long segments ──> aligned, sharp clips ──> shards

A video is a file or a folder of images. All faces in it are followed. Each track segment of a person becomes a clip,
or several if it is long. `--vfhq` reads the layout of the VFHQ dataset: folders of frames `Clip+...+F0-99/` anywhere
in SOURCE, and their metadata files `Clip+...+F0-99.txt`. Only the frame rate is read from these files; faces are found
and aligned as in any other video, and VFHQ's own landmarks are not used.

OUTPUT contains `shard-00000.tar` and so on, with pairs `key.mp4`, `key.json`. It is a dataset of the Hub,
`datasets.load_dataset("webdataset", data_files="faces/*.tar")`, and any program that reads tar files can read it.
Unfinished work is in `OUTPUT.part`. After a kill the same command continues; the shards have the same bytes, whatever
the number of workers.

Exit code 0: success. 1: some videos failed (each is reported, the shards have the others, and the same command tries
the failed ones again), or all of them. 2: wrong usage.
"""

import argparse
import json
import sys
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import av
import cv2
from PIL import Image

from keep_hf.faces.detector import FaceDetector
from keep_hf.faces.yunet import YuNet
from keep_hf.restoration.fingerprint import fingerprint
from keep_hf.video.part_folder import PartFolder

from .preparation.cut_clips import Settings
from .preparation.cut_videos import CutVideo, FailedVideo, cut_videos, write_json
from .preparation.detectors import load_detector
from .preparation.preview import draw_contact_sheet, draw_degradations
from .preparation.shards import PATTERN, write_shards
from .preparation.source_videos import SourceVideo, find_source_videos, find_vfhq_clips


# The videos and settings that OUTPUT was written from. Hidden files are no data for `load_dataset`.
MANIFEST = ".prepared.json"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="folder of videos or of folders of images")
    add("output", metavar="OUTPUT", type=Path, help="folder to write the shards to")
    add(
        "--detector",
        default="opencv/face_detection_yunet",
        help="YuNet: an .onnx file or a Hub repository; or a folder of a detector",
    )
    add("--vfhq", action="store_true", help="SOURCE has the layout of VFHQ")
    add("--frame-rate", type=float, default=25.0, help="of folders of images without a known frame rate")
    add("--faces", choices=["all", "largest"], default="all", help="people to follow")
    add("--size", type=int, default=512, help="side of the aligned faces in pixels")
    add("--min-size", type=float, default=200, help="smallest face, in pixels of the video")
    add("--min-frames", type=int, default=24, help="shortest clip")
    add("--max-frames", type=int, default=120, help="longest clip; workers hold it in memory")
    add("--min-sharpness", type=float, default=0.25, help="see measure_sharpness in preparation/face_measures.py")
    add("--clips-per-shard", type=int, default=64, help="clips in a tar file")
    add("--workers", type=int, default=1, help="processes, each with its own detector")
    add("--contact-sheet", type=Path, help="image of all clips to write: .jpg or .png")
    add("--degradation-preview", type=Path, help="image of degraded clips to write: .jpg or .png")
    return parser


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = build_parser()
    args = parser.parse_args(arguments)
    if not args.source.is_dir():
        parser.error(f"there is no folder {args.source}")
    if args.output.exists() and not args.output.is_dir():
        parser.error(f"{args.output} is a file; name a folder to write the shards to")
    if args.output.resolve().is_relative_to(args.source.resolve()):
        parser.error(f"{args.output} is inside {args.source}, so clips would be used as videos; name another folder")
    if args.size < 256 or args.size % 2:
        parser.error(f"--size must be even and at least 256, at which sharpness is measured, got {args.size}")
    for name in ("min_frames", "clips_per_shard", "workers"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")
    if args.max_frames < args.min_frames:
        parser.error(f"--max-frames must not be less than --min-frames {args.min_frames}, got {args.max_frames}")
    for name in ("min_size", "min_sharpness"):
        if not 0 <= getattr(args, name) < float("inf"):
            parser.error(f"--{name.replace('_', '-')} must be 0 (no limit) or more, got {getattr(args, name)}")
    if not 0 < args.frame_rate < float("inf"):
        parser.error(f"--frame-rate must be positive, got {args.frame_rate}")
    for image in (args.contact_sheet, args.degradation_preview):
        if image and (image.suffix.lower() not in (".jpg", ".png") or not image.parent.is_dir()):
            parser.error(f"{image} must be a .jpg or a .png in an existing folder")
    return args


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    try:
        return prepare(args)
    except KeyboardInterrupt:
        print("prepare_data: interrupted; the same command continues", file=sys.stderr)
    except BrokenProcessPool:
        print(
            "prepare_data: a worker was killed, perhaps because of too little memory. The same command continues; "
            "fewer --workers or --max-frames need less memory.",
            file=sys.stderr,
        )
    except (ValueError, OSError) as error:
        print(f"prepare_data: {' '.join(str(error).split())}", file=sys.stderr)
    return 1


def prepare(args: argparse.Namespace) -> int:
    """Write the shards and the overview images; return the exit code."""
    videos = (find_vfhq_clips if args.vfhq else find_source_videos)(args.source, args.frame_rate)
    settings = Settings(*(getattr(args, field.name) for field in fields(Settings)))
    job = describe_job(settings, load_detector(args.detector), args.clips_per_shard)

    args.output.mkdir(parents=True, exist_ok=True)
    work = PartFolder(args.output, {})
    work.open(resume=True)
    is_done, failed = False, []
    try:
        if not is_prepared(args.output, videos, job):
            start_or_continue(work, args.output, job)
            folder = work.path / "videos"
            folder.mkdir(exist_ok=True)
            results = cut_videos(videos, folder, args.detector, settings, args.workers)
            failed = [name for name, result in results.items() if isinstance(result, FailedVideo)]
            stems = list_clips([result for result in results.values() if isinstance(result, CutVideo)], folder)
            if not stems:
                is_done = True
                raise ValueError("No clip is left: see which segments were dropped, and change the limits.")
            write_shards(stems, args.output, args.clips_per_shard, work.path / "unfinished.tar")
            if not failed:
                versions = {video.name: video.version() for video in videos}
                write_json(args.output / MANIFEST, {"job": job, "videos": versions})
        is_done = not failed
    finally:
        work.close(remove=is_done or work.saved is None)

    for path, draw in ((args.contact_sheet, draw_contact_sheet), (args.degradation_preview, draw_degradations)):
        if path:
            Image.fromarray(draw(args.output)).save(path)
    if failed:
        print(f"prepare_data: {len(failed)} of {len(videos)} videos failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def describe_job(settings: Settings, detector: YuNet | FaceDetector, clips_per_shard: int) -> dict[str, Any]:
    """Everything, except the videos, that the shards depend on; by the names that error messages use."""
    return asdict(settings) | {
        "detector": fingerprint(detector),
        "clips per shard": clips_per_shard,
        "PyAV": av.__version__,
        "OpenCV": cv2.__version__,
    }


def is_prepared(output: Path, videos: list[SourceVideo], job: dict[str, Any]) -> bool:
    """Whether the shards are complete.

    Raises:
        ValueError: If they were written with other settings or from other videos.
    """
    manifest = output / MANIFEST
    if not manifest.exists():
        return False
    prepared = json.loads(manifest.read_text())
    differing = [name for name in job if prepared["job"].get(name) != job[name]]
    if prepared["videos"] != {video.name: video.version() for video in videos}:
        differing.append("videos")
    if differing:
        raise ValueError(
            f"{output} has shards of another job (other {', '.join(differing)}): name another folder. Training takes "
            "any number of folders."
        )
    print(f"{output} is complete already")
    return True


def start_or_continue(work: PartFolder, output: Path, job: dict[str, Any]) -> None:
    """Save the job of a new run, or check that it is that of the run that is continued.

    Raises:
        ValueError: If it is another job, or if there are shards but no unfinished work.
    """
    if work.saved is None:
        if any(output.glob(PATTERN)):
            raise ValueError(f"{output} has shards of unknown origin: name another folder.")
        work.save({"job": job})
        return
    differing = [name for name in job if work.saved["job"].get(name) != job[name]]
    if differing:
        raise ValueError(
            f"{output} was started with other settings ({', '.join(differing)}): use the same ones, or delete "
            f"{output} and {work.path} to start again."
        )


def list_clips(cut: list[CutVideo], folder: Path) -> list[Path]:
    """Report the totals; return the paths of all clips, without suffix, sorted by key."""
    stems = {clip.key: folder / video.folder / clip.key for video in cut for clip in video.clips}
    num_frames = sum(clip.num_frames for video in cut for clip in video.clips)
    dropped = Counter(segment.reason for video in cut for segment in video.dropped)
    counts = ", ".join(f"{dropped[reason]} for {reason}" for reason in ("length", "size", "sharpness"))
    print(f"{len(stems)} clips, {num_frames} frames; dropped: {counts}")
    return [stems[key] for key in sorted(stems)]


if __name__ == "__main__":
    sys.exit(main())
