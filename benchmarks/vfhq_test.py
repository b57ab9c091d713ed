"""The evaluation of the KEEP paper on any folder of sharp clips: methods, degrees of degradation, measures.

    python benchmarks/vfhq_test.py --videos VFHQ-Test/ --methods bicubic keep official no-kfn no-cfa per-frame dis \\
        --identity MobileFaceNet.onnx --landmarks pfld.onnx --work runs/vfhq_test --plots runs/vfhq_test/plots

    clip ──> the largest face, followed and aligned: the truth ──> degraded ──> restored by each method ──> measured
                                             (once a clip)      (once a level)

Every clip is degraded with the same seed, thus with the same draw from the ranges of its level.  All is compared at
one size, that of the model if not told otherwise: what is larger, the truth too, is shrunk by area, and what is
smaller is enlarged by cubic interpolation.  Flicker is measured with OpenCV's DIS, which knows no model.

Each result (clip, level, method) is a file of its own under `--work`.  A run that was stopped, or is asked for more
methods, makes what is missing.  Under `accelerate launch` the clips are shared out over the processes, and the main
one writes `table.md` (as the paper's Table 1), `clips.md` and `report.json` there at the end.

For other programs: `--export DIR` writes the truth and the degraded clips as pictures, DIR/LEVEL/CLIP/000000.png; what
they make of them is read by the method folder:NAME=PATH, as PATH/LEVEL/CLIP.mp4 or as pictures PATH/LEVEL/CLIP/.
"""

import argparse
import json
import os
import time
from datetime import timedelta
from functools import cached_property
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import PartialState
from analyses import draw_plots, estimate_yaw
from diffusers.utils.logging import disable_progress_bar
from methods import NAMES, VIDEO_SUFFIXES, DegradedClip, Method, load_methods
from PIL import Image
from tables import Results, clips_table, join, levels_table, write_text

from keep_hf import KeepPipeline, YuNet
from keep_hf.align import TEMPLATE_SIZE, crop_face, estimate_alignment
from keep_hf.degrade import LEVELS, degrade_frames
from keep_hf.dis import DISFlow
from keep_hf.evaluate import Networks
from keep_hf.follow import FaceFollower
from keep_hf.images import SUFFIXES as PICTURE_SUFFIXES
from keep_hf.images import ImageFolderWriter
from keep_hf.measures import COMPARED
from keep_hf.metrics import compare_videos
from keep_hf.pipeline import open_video


class Clip:
    """A sharp clip, read when it is needed.

    Args:
        path (`Path`): Video, or folder of pictures.
        args (`argparse.Namespace`): Of the program.
        detector ([`FaceDetector`] or [`YuNet`], *optional*): Finds the face; `None` for aligned clips.
    """

    def __init__(self, path: Path, args: argparse.Namespace, detector: Any) -> None:
        self.path, self.args, self.detector = path, args, detector
        self.name = clip_name(path)

    @cached_property
    def frame_rate(self) -> float:
        with open_video(self.path, self.args.frame_rate) as reader:
            return float(reader.frame_rate)

    @cached_property
    def truth(self) -> np.ndarray:
        """Aligned faces `(t, size, size, 3)`, of 512 pixels unless others have cut them."""
        if self.detector is None:
            return np.stack(self._read())
        kept = self.args.cache / f"{self.name}_{self.args.frames or 'all'}.npy"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_name(f"{kept.stem}.{os.getpid()}.part.npy")
            np.save(part, self._cut_faces())
            os.replace(part, kept)
        return np.load(kept)

    def _read(self) -> list[np.ndarray]:
        with open_video(self.path, self.args.frame_rate) as reader:
            return [frame.image for frame in islice(reader, self.args.frames)]

    def _cut_faces(self) -> np.ndarray:
        """The face that is there the longest; fewer frames where it is not seen in all."""
        frames = self._read()
        tracks = FaceFollower(self.detector, self.frame_rate, faces="largest").tracks(frames)
        if not tracks:
            raise ValueError(f"{self.path}: no face in its {len(frames)} frames; take it out of the folder.")
        track = max(tracks, key=len)
        return np.stack(
            [
                crop_face(frames[index], estimate_alignment(points, TEMPLATE_SIZE), TEMPLATE_SIZE)
                for index, points in zip(track.frames, track.landmarks, strict=True)
            ]
        )

    def degrade(self, level: str) -> DegradedClip:
        height, width = self.truth.shape[1:3]
        if height != width:
            raise ValueError(f"{self.path}: aligned faces are square, not {width} x {height}.")
        degradation = LEVELS[level].at_size(height)
        frames = degrade_frames(self.truth, degradation, seed=self.args.seed, frame_rate=self.frame_rate)
        return DegradedClip(self.name, level, frames, self.frame_rate)


def clip_name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def find_clips(folder: Path, names: list[str] | None) -> list[Path]:
    """The videos and the folders of pictures of a folder, by name."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r}.")
    paths: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        is_clip = path.suffix.lower() in VIDEO_SUFFIXES if path.is_file() else has_pictures(path)
        if is_clip and paths.setdefault(clip_name(path), path) != path:
            raise ValueError(f"{path} and {paths[clip_name(path)]} have one name: rename one of them.")
    missing = sorted(set(names or ()) - set(paths))
    if missing or not paths:
        raise ValueError(f"{folder} has no clip {', '.join(missing)}: it has {', '.join(paths) or 'none at all'}.")
    return [paths[name] for name in (names or paths)]


def has_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in PICTURE_SUFFIXES for path in folder.iterdir())


def fit(faces: np.ndarray, size: int) -> np.ndarray:
    """Bring faces `(t, h, w, 3)` to the size of the comparison."""
    interpolation = cv2.INTER_AREA if faces.shape[1] > size else cv2.INTER_CUBIC
    return np.stack([cv2.resize(face, (size, size), interpolation=interpolation) for face in faces])


def export(folder: Path, faces: np.ndarray) -> None:
    """Write faces as pictures for other programs, if they are not there."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with ImageFolderWriter(folder, width=faces.shape[2], height=faces.shape[1]) as writer:
            for face in faces:
                writer.write(face)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("the clips")
    data.add_argument("--videos", type=Path, required=True, help="folder of sharp videos or folders of pictures")
    data.add_argument("--clips", nargs="+", metavar="NAME", help="those of the folder to take; all if left out")
    data.add_argument("--frames", type=int, help="first frames of every clip; all if left out")
    data.add_argument("--frame-rate", type=float, default=25.0, help="of folders of pictures")
    data.add_argument("--aligned", action="store_true", help="the clips are aligned faces already")
    data.add_argument("--detector", help="YuNet in place of the model's own: an .onnx file or a Hub repository")
    data.add_argument("--cache", type=Path, default=Path("runs/evaluation_faces"), help="folder for aligned faces")
    data.add_argument("--levels", nargs="+", choices=list(LEVELS), default=list(LEVELS))
    data.add_argument("--seed", type=int, default=0, help="of the degradation")
    methods = parser.add_argument_group("the methods")
    methods.add_argument(
        "--methods",
        nargs="*",
        default=["bicubic", "keep"],
        metavar="METHOD",
        help=f"{', '.join(NAMES)}, spandrel:FILE, folder:NAME=PATH",
    )
    methods.add_argument("--model", default="keep-tiny", help="KEEP: built-in name, folder, Hub id or checkpoint")
    methods.add_argument("--codeformer", help="folder of a converted checkpoint, for the method codeformer")
    methods.add_argument("--fidelity", type=float, help="of KEEP, 0 to 1; the model's own if left out")
    methods.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    measures = parser.add_argument_group("the measures; those whose network is not named are left out")
    measures.add_argument("--size", type=int, help="at which all is compared, in pixels; that of the model")
    measures.add_argument("--identity", help="for IDS: an .onnx file, a folder or a Hub repository")
    measures.add_argument("--landmarks", help="for AKD: the same")
    measures.add_argument("--lpips", help="for LPIPS: folder or Hub repository, or the file of a backbone")
    measures.add_argument("--lpips-weights", help="with the file of a backbone: the file of LPIPS' channel weights")
    output = parser.add_argument_group("what is written")
    output.add_argument("--work", type=Path, default=Path("runs/vfhq_test"), help="folder for results and tables")
    output.add_argument("--strips", type=Path, help="folder for one picture a clip and level: methods, truth")
    output.add_argument("--plots", type=Path, help="folder for the analyses as pictures (needs matplotlib)")
    output.add_argument("--export", type=Path, help="folder for the truth and the degraded clips as pictures")
    return parser


def measure_clip(
    clip: Clip, args: argparse.Namespace, methods: list[Method], networks: Networks, results: Results
) -> None:
    """Make what is missing of the results of a clip."""
    truth = None
    for level in args.levels:
        missing = [method for method in methods if not results.has(clip.name, level, method.name, method.source)]
        is_exported = args.export is None or (args.export / level / clip.name).exists()
        if not missing and is_exported:
            continue
        if truth is None:
            truth = fit(clip.truth, args.size)
            yaw = estimate_yaw(networks.landmarks.find(list(truth))) if networks.landmarks else None
            results.save_truth(clip.name, truth, yaw)
        degraded = clip.degrade(level)
        if args.export:
            export(args.export / "truth" / clip.name, clip.truth)
            export(args.export / level / clip.name, degraded.frames)
        for method in missing:
            begun = time.perf_counter()
            faces = fit(method.restore(degraded), args.size)
            restored = time.perf_counter()
            measured = compare_videos(faces, truth, **vars(networks), name=clip.name)
            results.save(clip.name, level, method.name, method.source, faces, measured)
            seconds = (restored - begun, time.perf_counter() - restored)
            print(
                f"{level} {clip.name} {method.name}: {len(truth)} frames restored in {seconds[0]:.1f} s, "
                f"measured in {seconds[1]:.1f} s",
                flush=True,
            )


def write_tables(
    results: Results, clips: list[str], levels: list[str], methods: list[str], missing: dict[str, str], folder: Path
) -> None:
    joint = join(results, clips, levels, methods)
    table = levels_table(joint, missing)
    write_text(folder / "table.md", table)
    write_text(folder / "clips.md", clips_table(results, clips, levels, methods))
    report = {
        "settings": results.settings,
        "clips": clips,
        "missing": missing,
        "levels": {level: {name: row.to_dict() for name, row in rows.items()} for level, rows in joint.items()},
    }
    write_text(folder / "report.json", json.dumps(report, indent=2) + "\n")
    print(table, end="")


def draw_strip(path: Path, rows: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack([np.hstack(list(frames)) for frames in rows])).save(path, quality=92)


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    if args.plots and find_spec("matplotlib") is None:
        parser.error("--plots needs matplotlib, which is not installed: pip install matplotlib")
    paths = find_clips(args.videos, args.clips)
    # On CPUs PartialState must be told so, or every process takes itself for the only one.  The main process may wait
    # long for the others.
    state = PartialState(cpu=args.device.type == "cpu", timeout=timedelta(days=7))

    disable_progress_bar()
    load = KeepPipeline.from_single_file if Path(args.model).is_file() else KeepPipeline.from_pretrained
    pipe = load(args.model).to(args.device)
    detector = None
    if not args.aligned:
        detector = YuNet.from_pretrained(args.detector) if args.detector else pipe.detector or pipe.yunet()
        # What was cut depends on who found the face.
        args.cache = args.cache / (Path(args.detector).stem if args.detector else Path(args.model).name)
    args.size = args.size or pipe.vq.config.sample_size
    methods = load_methods(args.methods, pipe, args.fidelity, args.codeformer)
    flow = DISFlow()
    networks = Networks.load(args.identity, args.landmarks, args.lpips, args.lpips_weights, flow, args.device)
    # Of files their names alone: the report may be published, and where they lay says nothing to others.
    files = {name: getattr(args, name) for name in ("model", "detector", "identity", "landmarks", "lpips")}
    settings = {
        **{name: getattr(args, name) for name in ("frames", "aligned", "seed", "size")},
        **{name: file and Path(file).name for name, file in files.items()},
        "levels": {name: repr(degradation) for name, degradation in LEVELS.items()},
    }
    results = Results(args.work / "results", settings)

    for path in paths[state.process_index :: state.num_processes]:
        measure_clip(Clip(path, args, detector), args, methods, networks, results)
    state.wait_for_everyone()
    if not state.is_main_process or not methods:
        return

    clips, rows = [clip_name(path) for path in paths], [method.name for method in methods]
    write_tables(results, clips, args.levels, rows, networks.missing(COMPARED), args.work)
    if args.strips:
        for level in args.levels:
            for clip in clips:
                strips = [results.pixels(clip, level, name)["strip"] for name in rows]
                draw_strip(args.strips / f"{level}_{clip}.jpg", [*strips, results.truth(clip)["strip"]])
    if args.plots:
        degraded = {level: Clip(paths[0], args, detector).degrade(level) for level in args.levels}
        fidelity = pipe.config.fidelity if args.fidelity is None else args.fidelity
        draw_plots(args.plots, results, clips, rows, degraded, pipe, fidelity)


if __name__ == "__main__":
    main()
