"""The evaluation of the paper (section 4) on any folder of sharp clips: methods, levels of degradation, metrics.

    python -m benchmarks.vfhq_test --videos VFHQ-Test/ \\
        --methods bicubic keep official no-kfn no-update no-cfa per-frame dis \\
        --identity MobileFaceNet.onnx --landmarks pfld.onnx --work runs/vfhq_test --plots runs/vfhq_test/plots

    clip ──> largest face, tracked and aligned: the truth ──> degraded ──> restored by each method ──> measured
                                           (once per clip)   (once per level)

Every clip is degraded with the same seed, and so with the same values from the ranges of the level.  All faces are
compared at one size, by default that of the model: larger ones, including the truth, are shrunk by area, smaller ones
are enlarged by cubic interpolation.  Flicker is measured with OpenCV's DIS, which depends on no model.  At the level
none the truth itself is the input: what a method changes there is damage.  Sharpness is that of sharpness.py, relative
to the truth.

Each result (clip, level, method) is a file of its own under `--work`.  A run that was aborted, or that is repeated
with more methods, computes only what is missing.  Under `accelerate launch` the processes share the clips, and the
main process writes `table.md` (as Table 1 of the paper), `clips.md`, `groups.md` and `report.json` at the end.

The networks of the paper's Table 1 run from published files (see docs/guides/evaluation.md): basicvsr:FILE,
basicvsr++:FILE, edvr:FILE, gfpgan:FILE, restoreformer:FILE, gpen:FILE.  BasicVSR and BasicVSR++ restore windows of
`--window` frames; basicvsr-carried:FILE and basicvsr++-carried:FILE carry the forward state over to the next window.

For other programs: `--export DIR` writes the truth and the degraded clips as images, DIR/LEVEL/CLIP/000000.png.  The
method folder:NAME=PATH reads what they restored, from PATH/LEVEL/CLIP.mp4 or from images in PATH/LEVEL/CLIP/.
"""

import argparse
import json
import time
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from diffusers.utils.logging import disable_progress_bar
from PIL import Image

from keep_hf import KeepPipeline
from keep_hf.downloads.checkpoints import is_checkpoint
from keep_hf.evaluation.compare import compare_videos
from keep_hf.evaluation.networks import Networks
from keep_hf.evaluation.series import REFERENCE_METRICS
from keep_hf.models.flow.dis import DISFlow
from keep_hf.restoration.summary import peak_memory
from keep_hf.video.image_folder import ImageFolderWriter

from .analyses import estimate_yaw
from .baselines.recurrent import WINDOW
from .clips import LEVELS, Clip, DegradedClip, add_clip_arguments, clip_loader, clip_name, find_clips, resize_faces
from .methods import FORMS, Method, load_methods
from .plots import draw_plots
from .result_files import Results, write_text
from .sharpness import FACE_REGION, sharpness_kept
from .tables import average_clips, clips_table, groups_table, levels_table


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_clip_arguments(parser)
    parser.add_argument("--levels", nargs="+", choices=list(LEVELS), default=list(LEVELS))
    methods = parser.add_argument_group("methods")
    methods.add_argument(
        "--methods",
        nargs="*",
        default=["bicubic", "keep"],
        metavar="METHOD",
        help=FORMS,
    )
    methods.add_argument("--window", type=int, default=WINDOW, help="frames per window of BasicVSR and BasicVSR++")
    methods.add_argument(
        "--codeformer", help="CodeFormer, for this method: its published name codeformer, or a folder"
    )
    methods.add_argument("--fidelity", type=float, help="of KEEP, 0 to 1; that of the model by default")
    methods.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    metrics = parser.add_argument_group("metrics; those without their network are left out")
    metrics.add_argument("--size", type=int, help="side of the compared faces in pixels; that of the model by default")
    metrics.add_argument("--identity", help="for IDS: an .onnx file, a folder or a Hub repository")
    metrics.add_argument("--landmarks", help="for AKD: an .onnx file, a folder or a Hub repository")
    metrics.add_argument("--lpips", help="for LPIPS: a folder or Hub repository, or the file of a backbone")
    metrics.add_argument("--lpips-weights", help="file of the channel weights of LPIPS, if --lpips is a backbone")
    output = parser.add_argument_group("output")
    output.add_argument("--work", type=Path, default=Path("runs/vfhq_test"), help="folder for results and tables")
    output.add_argument("--strips", type=Path, help="folder for one image per clip and level: methods and truth")
    output.add_argument("--plots", type=Path, help="folder for plots of the analyses (needs matplotlib)")
    output.add_argument("--groups", type=Path, help='JSON {"glasses": [CLIP, ...], ...}: compare them in groups.md')
    output.add_argument("--export", type=Path, help="folder for the truth and the degraded clips as images")
    return parser


def measure_clip(
    clip: Clip, args: argparse.Namespace, methods: list[Method], networks: Networks, results: Results
) -> None:
    """Compute the missing results of a clip."""
    truth = None
    for level in args.levels:
        missing = [method for method in methods if not results.has(clip.name, level, method.name, method.source)]
        is_exported = args.export is None or (args.export / level / clip.name).exists()
        if not missing and is_exported:
            continue
        if truth is None:
            truth = resize_faces(clip.truth, args.size)
            yaw = estimate_yaw(networks.landmarks.find(list(truth))) if networks.landmarks else None
            results.save_truth(clip.name, truth, yaw)
        degraded = clip.degrade(level)
        if args.export:
            export(args.export / "truth" / clip.name, clip.truth)
            export(args.export / level / clip.name, degraded.frames)
        for method in missing:
            started = time.perf_counter()
            faces, memory = restore_measured(method, degraded, args.device)
            restored = time.perf_counter()
            faces = resize_faces(faces, args.size)
            metrics = compare_videos(faces, truth, **vars(networks), name=clip.name)
            metrics.metrics["sharpness"] = sharpness_kept(faces, truth)
            results.save(clip.name, level, method.name, method.source, faces, metrics)
            measured = time.perf_counter()
            print(
                f"{level} {clip.name} {method.name}: {len(truth)} frames restored in {restored - started:.1f} s "
                f"({1000 * (restored - started) / len(truth):.0f} ms per frame, {memory}), "
                f"measured in {measured - restored:.1f} s",
                flush=True,
            )


def restore_measured(method: Method, degraded: DegradedClip, device: torch.device) -> tuple[np.ndarray, str]:
    """The restored faces, and the peak memory as text: on a GPU of this method, otherwise of the process so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    faces = method.restore(degraded)
    memory = peak_memory(device)
    kind = "device" if "device" in memory else "host"
    return faces, f"peak memory {memory[kind] / 2**20:.0f} MiB" + ("" if kind == "device" else " so far")


def export(folder: Path, faces: np.ndarray) -> None:
    """Write faces as images for other programs, unless the folder exists."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with ImageFolderWriter(folder, width=faces.shape[2], height=faces.shape[1]) as writer:
            for face in faces:
                writer.write(face)


def write_tables(
    results: Results, clips: list[str], levels: list[str], methods: list[Method], missing: dict[str, str], folder: Path
) -> None:
    names = [method.name for method in methods]
    averages = average_clips(results, clips, levels, names)
    notes = {method.name: method.note for method in methods if method.note}
    table = levels_table(averages, missing, notes)
    write_text(folder / "table.md", table)
    write_text(folder / "clips.md", clips_table(results, clips, levels, names))
    report = {
        "settings": results.settings,
        "clips": clips,
        "missing": missing,
        "notes": notes,
        "levels": {level: {name: row.to_dict() for name, row in rows.items()} for level, rows in averages.items()},
    }
    write_text(folder / "report.json", json.dumps(report, indent=2) + "\n")
    print(table, end="")


def read_groups(file: Path, clips: list[str]) -> dict[str, list[str]]:
    groups = json.loads(file.read_text())
    unknown = {name for members in groups.values() for name in members} - set(clips)
    if unknown or not all(groups.values()):
        raise ValueError(
            f"{file} contains clips that are not measured ({', '.join(sorted(unknown))}) or an empty group."
        )
    return groups


def draw_strip(path: Path, rows: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack([np.hstack(list(frames)) for frames in rows])).save(path, quality=92)


def describe_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What all results depend on. Files are given by name only, because the report may be published."""
    files = {name: getattr(args, name) for name in ("model", "detector", "identity", "landmarks", "lpips")}
    return {
        **{name: getattr(args, name) for name in ("frames", "aligned", "seed", "size")},
        **{name: file and Path(file).name for name, file in files.items()},
        "levels": {name: repr(degradation) for name, degradation in LEVELS.items()},
        "region of sharpness": list(FACE_REGION),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.plots and find_spec("matplotlib") is None:
        parser.error("--plots needs matplotlib, which is not installed: pip install matplotlib")
    paths = find_clips(args.videos, args.clips)
    clips = [clip_name(path) for path in paths]
    groups = read_groups(args.groups, clips) if args.groups else {}
    # Without cpu=True the processes on CPUs do not know of each other.  The main process may wait long for the others.
    state = PartialState(cpu=args.device.type == "cpu", timeout=timedelta(days=7))

    disable_progress_bar()
    load = KeepPipeline.from_single_file if is_checkpoint(args.model) else KeepPipeline.from_pretrained
    pipe = load(args.model).to(args.device)
    open_clip = clip_loader(args, pipe)
    args.size = args.size or pipe.vq.config.sample_size
    methods = load_methods(args.methods, pipe, args.fidelity, args.codeformer, args.window)
    networks = Networks.load(args.identity, args.landmarks, args.lpips, args.lpips_weights, DISFlow(), args.device)
    results = Results(args.work / "results", describe_settings(args))
    for path in paths[state.process_index :: state.num_processes]:
        measure_clip(open_clip(path), args, methods, networks, results)
    state.wait_for_everyone()
    state.destroy_process_group()
    if not state.is_main_process or not methods:
        return

    rows = [method.name for method in methods]
    write_tables(results, clips, args.levels, methods, networks.missing(REFERENCE_METRICS), args.work)
    if groups:
        write_text(args.work / "groups.md", groups_table(results, groups, args.levels, rows))
    if args.strips:
        for level in args.levels:
            for clip in clips:
                strips = [results.pixels(clip, level, name)["strip"] for name in rows]
                draw_strip(args.strips / f"{level}_{clip}.jpg", [*strips, results.truth(clip)["strip"]])
    if args.plots:
        degraded = {level: open_clip(paths[0]).degrade(level) for level in args.levels}
        fidelity = pipe.config.fidelity if args.fidelity is None else args.fidelity
        draw_plots(args.plots, results, clips, rows, degraded, pipe, fidelity)


if __name__ == "__main__":
    main()
