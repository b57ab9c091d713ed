"""Does the whole pipeline harm a video?  File in, file out, with its defaults, on sharp and on degraded videos.

    python -m benchmarks.no_harm --videos ../shared/media/hq_eval --frames 48 --models keep-small keep-tiny \\
        --detector ../shared/weights/yunet_n_dynamic.onnx --identity ../shared/weights/MobileFaceNet.onnx

    clip ─> its first frames: the truth ─┬─ none:          the truth itself ───────────────────┬─> input
                                         └─ mild, medium:  degraded as a whole, then enlarged ─┘
    input ─> KeepPipeline.restore_video ─> output

The largest face is found in the truth and cut out of truth, input and output by the same landmarks, at the size it has
in the video.  The output is compared with the truth and with the input; encoding is included.

Each result (level, clip, model) is a file of its own under `--work`; a run that was aborted, or that is repeated with
more models, computes only what is missing.  `table.md` has a summary with the limits of no_harm_report.py, and a row
per clip.  The videos stay in `--work`, too: videos/*/CLIP/LEVEL/input.mp4 and MODEL.mp4.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import numpy as np
from diffusers.utils.logging import disable_progress_bar

from keep_hf import FaceDetector, FaceIdentity, KeepPipeline, YuNet
from keep_hf.evaluation.metrics import identity_similarity, psnr
from keep_hf.evaluation.series import Series
from keep_hf.options import DEFAULT_MODEL

from .clips import LEVELS, clip_name, find_clips
from .no_harm_report import Outcome, clips_table, summary_table
from .result_files import write_text
from .sharpness import sharpness_kept
from .whole_videos import FacePlaces, crop_faces, cut_video, degrade_and_enlarge, describe_pipeline, find_largest_face


class Bench:
    """The videos and results of a run.

    Args:
        work (`Path`): Folder of both.
        pipes (`dict[str, KeepPipeline]`): The models to compare, by name.
        detector ([`FaceDetector`] or [`YuNet`]): Finds the faces that are measured.
        identity ([`FaceIdentity`], *optional*): Measures the similarity of identity.
        frames (`int`, *optional*): Number of frames from the start of each clip; all by default.
        seed (`int`): Of the degradation.
    """

    def __init__(
        self,
        work: Path,
        pipes: dict[str, KeepPipeline],
        detector: FaceDetector | YuNet,
        identity: FaceIdentity | None,
        frames: int | None,
        seed: int,
    ) -> None:
        self.work, self.pipes, self.detector, self.identity = work, pipes, detector, identity
        self.frames, self.seed = frames, seed
        part = f"{frames or 'all'}_frames_seed_{seed}"
        self.results, self.videos = work / "results" / part, work / "videos" / part

    def measure(self, path: Path, levels: list[str]) -> list[Outcome]:
        """Restore a clip at the given levels by all models, and measure it; existing results are read."""
        outcomes: list[Outcome] = []
        places: FacePlaces | None = None
        for level in levels:
            for model in self.pipes:
                file = self.results / level / clip_name(path) / f"{model}.json"
                if file.exists():
                    outcomes.append(self._read(file, model))
                    continue
                if places is None:
                    places = self._find_face(path)
                outcome = self._restore(path, level, model, places)
                file.parent.mkdir(parents=True, exist_ok=True)
                write_text(file, json.dumps(asdict(outcome), indent=2) + "\n")
                outcomes.append(outcome)
        return outcomes

    def _read(self, file: Path, model: str) -> Outcome:
        outcome = Outcome(**json.loads(file.read_text()))
        if outcome.source != self._source(model):
            raise ValueError(
                f"{file} was made by {outcome.source!r}, not {self._source(model)!r}: delete it or use another folder."
            )
        return outcome

    def _source(self, model: str) -> str:
        """What a result depends on in addition to its names."""
        return f"{describe_pipeline(self.pipes[model])}, identity {self.identity is not None}"

    def _truth(self, path: Path) -> Path:
        return self.videos / clip_name(path) / "truth.mp4"

    def _find_face(self, path: Path) -> FacePlaces:
        truth = self._truth(path)
        cut_video(path, truth, self.frames)
        return find_largest_face(truth, self.detector)

    def _restore(self, path: Path, level: str, model: str, places: FacePlaces) -> Outcome:
        """Restore a clip, and measure it."""
        source = truth = self._truth(path)
        target = truth.parent / level / f"{model}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        degradation = LEVELS[level]
        if degradation is not None:
            source = target.with_name("input.mp4")
            degrade_and_enlarge(truth, source, degradation, self.seed)
        target.unlink(missing_ok=True)
        started = time.process_time()
        report = self.pipes[model].restore_video(source, target)
        cpu_seconds = (time.process_time() - started) / report["frames"]
        strengths = [track["strength"]["weight"] for track in report["tracks"]]
        true_faces, input_faces, output_faces = (crop_faces(video, places) for video in (truth, source, target))
        return Outcome(
            clip=clip_name(path),
            level=level,
            model=model,
            source=self._source(model),
            num_frames=len(true_faces),
            input_psnr=mean_psnr(input_faces, true_faces),
            output_psnr=mean_psnr(output_faces, true_faces),
            kept_psnr=mean_psnr(output_faces, input_faces),
            input_sharpness=sharpness_kept(input_faces, true_faces).mean,
            output_sharpness=sharpness_kept(output_faces, true_faces).mean,
            input_identity=self._mean_identity(input_faces, true_faces),
            output_identity=self._mean_identity(output_faces, true_faces),
            cpu_seconds=cpu_seconds,
            strength=fmean(strengths) if strengths else None,
        )

    def _mean_identity(self, faces: np.ndarray, reference: np.ndarray) -> float | None:
        if self.identity is None:
            return None
        pairs = zip(faces, reference, strict=True)
        return fmean(identity_similarity(self.identity, face, sharp) for face, sharp in pairs)


def mean_psnr(faces: np.ndarray, reference: np.ndarray) -> float:
    """In dB, over the frames that are not equal; infinite if all are."""
    return Series([psnr(face, sharp) for face, sharp in zip(faces, reference, strict=True)]).mean


def write_report(outcomes: list[Outcome], levels: list[str], models: list[str], file: Path) -> None:
    """Write both tables, sorted by level, clip and model, and print the summary."""
    outcomes = sorted(outcomes, key=lambda one: (levels.index(one.level), one.clip, models.index(one.model)))
    summary = summary_table(outcomes)
    legend = (
        "Faces at their size in the video, encoding included. Input and output dB: PSNR against the truth; gain: the "
        "difference; kept dB: PSNR of the output against the input; sharpness: relative to the truth."
    )
    write_text(file, f"{summary}\n{legend}\n\n{clips_table(outcomes)}")
    print(summary, end="")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="folder of sharp videos with a face")
    parser.add_argument("--clips", nargs="+", metavar="NAME", help="clips in the folder; all by default")
    parser.add_argument("--frames", type=int, help="number of frames from the start of each clip; all by default")
    parser.add_argument("--levels", nargs="+", choices=list(LEVELS), default=["none", "mild", "medium"])
    parser.add_argument("--models", nargs="+", default=[DEFAULT_MODEL], help="built-in names, folders or Hub ids")
    parser.add_argument("--device", default="cpu", help="of the models, as torch names it")
    parser.add_argument(
        "--detector",
        help="YuNet (.onnx file or Hub repository) for the faces that are measured; that of the first model",
    )
    parser.add_argument("--identity", help="for the similarity of identity: an .onnx file or a Hub repository")
    parser.add_argument("--seed", type=int, default=0, help="of the degradation")
    parser.add_argument("--work", type=Path, default=Path("runs/no_harm"), help="folder for videos and results")
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    disable_progress_bar()
    paths = find_clips(args.videos, args.clips)
    pipes = {Path(model).name: KeepPipeline.from_pretrained(model).to(args.device) for model in args.models}
    for pipe in pipes.values():
        pipe.set_progress_bar_config(disable=True)
    identity = FaceIdentity.from_pretrained(args.identity) if args.identity else None
    first, *_ = pipes.values()
    detector = YuNet.from_pretrained(args.detector) if args.detector else first.face_detector()
    bench = Bench(args.work, pipes, detector, identity, args.frames, args.seed)
    outcomes: list[Outcome] = []
    for path in paths:
        started = time.perf_counter()
        outcomes += bench.measure(path, args.levels)
        print(f"{clip_name(path)}: {time.perf_counter() - started:.0f} s", flush=True)
    write_report(outcomes, args.levels, list(pipes), args.work / "table.md")


if __name__ == "__main__":
    main()
