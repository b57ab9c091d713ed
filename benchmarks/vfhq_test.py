"""The evaluation of the KEEP paper on any folder of sharp clips: methods, degrees of degradation, measures.

    python -m benchmarks.vfhq_test --videos VFHQ-Test/ \\
        --methods bicubic keep official no-kfn no-update no-cfa per-frame dis \\
        --identity MobileFaceNet.onnx --landmarks pfld.onnx --work runs/vfhq_test --plots runs/vfhq_test/plots

    clip ──> the largest face, followed and aligned: the truth ──> degraded ──> restored by each method ──> measured
                                             (once a clip)      (once a level)

Every clip is degraded with the same seed, thus with the same draw from the ranges of its level.  All is compared at
one size, that of the model if not told otherwise: what is larger, the truth too, is shrunk by area, and what is
smaller is enlarged by cubic interpolation.  Flicker is measured with OpenCV's DIS, which knows no model.

Each result (clip, level, method) is a file of its own under `--work`.  A run that was stopped, or is asked for more
methods, makes what is missing.  Under `accelerate launch` the clips are shared out over the processes, and the main
one writes `table.md` (as the paper's Table 1), `clips.md`, `groups.md` and `report.json` there at the end.

For other programs: `--export DIR` writes the truth and the degraded clips as pictures, DIR/LEVEL/CLIP/000000.png; what
they make of them is read by the method folder:NAME=PATH, as PATH/LEVEL/CLIP.mp4 or as pictures PATH/LEVEL/CLIP/.
"""

import argparse
import json
import time
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers.utils.logging import disable_progress_bar
from PIL import Image

from keep_hf import KeepPipeline, YuNet
from keep_hf.degrade import LEVELS
from keep_hf.evaluation.compare import compare_videos
from keep_hf.evaluation.dis_flow import DISFlow
from keep_hf.evaluation.networks import Networks
from keep_hf.evaluation.series import REFERENCE_METRICS
from keep_hf.video.image_folder import ImageFolderWriter

from .analyses import draw_plots, estimate_yaw
from .clips import Clip, clip_name, find_clips, fit
from .methods import NAMES, Method, load_methods
from .tables import Results, clips_table, groups_table, join, levels_table, write_text


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
    output.add_argument("--groups", type=Path, help='JSON {"glasses": [CLIP, ...], ...}: compare them in groups.md')
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


def read_groups(file: Path, clips: list[str]) -> dict[str, list[str]]:
    groups = json.loads(file.read_text())
    unknown = {name for members in groups.values() for name in members} - set(clips)
    if unknown or not all(groups.values()):
        raise ValueError(
            f"{file} names clips that are not measured ({', '.join(sorted(unknown))}), or an empty group."
        )
    return groups


def draw_strip(path: Path, rows: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack([np.hstack(list(frames)) for frames in rows])).save(path, quality=92)


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    if args.plots and find_spec("matplotlib") is None:
        parser.error("--plots needs matplotlib, which is not installed: pip install matplotlib")
    paths = find_clips(args.videos, args.clips)
    groups = read_groups(args.groups, [clip_name(path) for path in paths]) if args.groups else {}
    # On CPUs PartialState must be told so, or every process takes itself for the only one.  The main process may wait
    # long for the others.
    state = PartialState(cpu=args.device.type == "cpu", timeout=timedelta(days=7))

    disable_progress_bar()
    load = KeepPipeline.from_single_file if Path(args.model).is_file() else KeepPipeline.from_pretrained
    pipe = load(args.model).to(args.device)
    detector = None
    if not args.aligned:
        detector = YuNet.from_pretrained(args.detector) if args.detector else pipe.face_detector()
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

    options = (args.cache, args.frames, args.seed, args.frame_rate)
    for path in paths[state.process_index :: state.num_processes]:
        measure_clip(Clip(path, detector, *options), args, methods, networks, results)
    state.wait_for_everyone()
    state.destroy_process_group()
    if not state.is_main_process or not methods:
        return

    clips, rows = [clip_name(path) for path in paths], [method.name for method in methods]
    write_tables(results, clips, args.levels, rows, networks.missing(REFERENCE_METRICS), args.work)
    if args.groups:
        write_text(args.work / "groups.md", groups_table(results, groups, args.levels, rows))
    if args.strips:
        for level in args.levels:
            for clip in clips:
                strips = [results.pixels(clip, level, name)["strip"] for name in rows]
                draw_strip(args.strips / f"{level}_{clip}.jpg", [*strips, results.truth(clip)["strip"]])
    if args.plots:
        degraded = {level: Clip(paths[0], detector, *options).degrade(level) for level in args.levels}
        fidelity = pipe.config.fidelity if args.fidelity is None else args.fidelity
        draw_plots(args.plots, results, clips, rows, degraded, pipe, fidelity)


if __name__ == "__main__":
    main()
