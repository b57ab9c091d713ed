"""Does a person prefer the output to its input?  Sheets of unlabelled pairs, and the count of the choices.

    python -m benchmarks.unlabelled_pairs draw --videos ../shared/media/lq --work runs/pairs --seed 7
    # look at runs/pairs/sheets/*.png and choose A, B or tie for each, in the order of their names
    python -m benchmarks.unlabelled_pairs count --work runs/pairs --judge A B tie ...

`draw` restores the first frames of every video by the whole pipeline, with its defaults, and writes one sheet per
video: a row per frame, input and output side by side as A and B, in an order that is drawn from the seed for each
video.  Which side is the output is only in `key.json`.  `count` writes the choices to `choices.json` before it reads
the key; choices are not changed afterwards.  `draw` also writes the same frames as labelled strips, for pages of
results: look at `strips/` only after the choice.  What is restored already is not restored again.

Small faces are enlarged: frames by the option `upscale` of the pipeline, the smallest factor that makes the face crop
512 pixels wide or more, up to 4.  The input is then enlarged by cubic interpolation.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from diffusers.utils.logging import disable_progress_bar
from PIL import Image

from keep_hf import FaceDetector, KeepPipeline, YuNet
from keep_hf.faces.alignment import TEMPLATE_SIZE
from keep_hf.options import DEFAULT_MODEL
from keep_hf.video.reader import VideoReader

from .clips import clip_name, find_clips
from .result_files import write_text
from .whole_videos import FacePlaces, cut_video, describe_pipeline, find_largest_face


SIDES = ("A", "B")
CHOICES = (*SIDES, "tie")
MAX_UPSCALE = 4
BORDER = 8  # pixels between the images of a sheet
LABEL_HEIGHT = 36
STRIP_HEIGHT = 256


@dataclass(frozen=True)
class Pair:
    """Frames of a video before and after restoration, cropped to the face.

    Args:
        name (`str`): Name of the video.
        input, output (`np.ndarray` of shape `(n, h, w, 3)`): RGB, uint8, of the same size.
    """

    name: str
    input: np.ndarray
    output: np.ndarray


@dataclass(frozen=True)
class Count:
    """How often the output was preferred to the input."""

    output: int
    input: int
    tie: int


def restore_pair(
    source: Path, folder: Path, pipe: KeepPipeline, detector: FaceDetector | YuNet, num_frames: int, num_shown: int
) -> Pair:
    """Restore the first frames of a video, and cut the face out of some of them, before and after.

    Args:
        source (`Path`): Video file.
        folder (`Path`): Folder for the part of the video and for its restoration.
        pipe ([`KeepPipeline`]): Pipeline.
        detector ([`FaceDetector`] or [`YuNet`]): Finds the face that is shown.
        num_frames (`int`): Frames to restore.
        num_shown (`int`): Frames to show, at equal distances, the last one of the part included.
    """
    part, target, made_by = folder / "input.mp4", folder / "output.mp4", folder / "made_by.txt"
    cut_video(source, part, num_frames)
    places = find_largest_face(part, detector)
    upscale = min(-(-TEMPLATE_SIZE // places.size), MAX_UPSCALE)
    maker = describe_pipeline(pipe)
    if not (target.exists() and made_by.read_text() == maker):
        target.unlink(missing_ok=True)
        made_by.write_text(maker)
        pipe.restore_video(part, target, upscale=upscale)
    before, after = read_images(part), read_images(target)
    indices = sorted(places.matrices)
    shown = [indices[round(place)] for place in np.linspace(0, len(indices) - 1, num_shown + 1)[1:]]
    box = crop_box(places, shown, before[0].shape, upscale)
    height, width = after[0].shape[:2]
    enlarged = [cv2.resize(before[index], (width, height), interpolation=cv2.INTER_CUBIC) for index in shown]
    return Pair(
        clip_name(source),
        np.stack([image[box] for image in enlarged]),
        np.stack([after[index][box] for index in shown]),
    )


def read_images(video: Path) -> list[np.ndarray]:
    with VideoReader(video) as reader:
        return [frame.image for frame in reader.read()]


def crop_box(places: FacePlaces, shown: list[int], shape: tuple[int, ...], scale: int) -> tuple[slice, slice]:
    """The part of a frame, enlarged by `scale`, that contains the face crops of the shown frames."""
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * places.size
    points = []
    for index in shown:
        inverse = cv2.invertAffineTransform(places.matrices[index])
        points.append(corners @ inverse[:, :2].T + inverse[:, 2])
    all_points = np.concatenate(points)
    left, top = np.maximum(all_points.min(axis=0), 0).astype(int) * scale
    right, bottom = np.minimum(all_points.max(axis=0), (shape[1], shape[0])).astype(int) * scale
    return slice(top, bottom), slice(left, right)


def draw_sheet(columns: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Images in labelled columns: a column per list of frames `(n, h, w, 3)`, a row per frame."""
    drawn = []
    for label, frames in columns:
        width = frames.shape[2]
        head = np.zeros((LABEL_HEIGHT, width, 3), np.uint8)
        cv2.putText(head, label, (BORDER, LABEL_HEIGHT - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 2)
        rows = [head, *(np.pad(frame, ((0, BORDER), (0, 0), (0, 0))) for frame in frames)]
        drawn.append(np.pad(np.concatenate(rows), ((0, 0), (0, BORDER), (0, 0))))
    return np.concatenate(drawn, axis=1)


def draw_strip(pair: Pair) -> np.ndarray:
    """Input above output, with labels, small enough for a page."""
    width = round(STRIP_HEIGHT / pair.input.shape[1] * pair.input.shape[2])
    rows = []
    for label, frames in (("input", pair.input), ("output", pair.output)):
        small = [cv2.resize(frame, (width, STRIP_HEIGHT), interpolation=cv2.INTER_AREA) for frame in frames]
        row = np.concatenate(small, axis=1)
        for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            cv2.putText(row, label, (BORDER, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, thickness, cv2.LINE_AA)
        rows.append(row)
    return np.concatenate(rows)


def draw_sheets(pairs: list[Pair], work: Path, seed: int) -> None:
    """Write a sheet and a strip for every pair, and the key: by name, the side of the output."""
    random = np.random.default_rng(seed)
    key = {}
    for pair in pairs:
        key[pair.name] = SIDES[random.integers(2)]
        frames = (pair.output, pair.input) if key[pair.name] == "A" else (pair.input, pair.output)
        save_image(work / "sheets" / f"{pair.name}.png", draw_sheet(list(zip(SIDES, frames, strict=True))))
        save_image(work / "strips" / f"{pair.name}.jpg", draw_strip(pair))
    write_text(work / "key.json", json.dumps({"seed": seed, "output": key}, indent=2) + "\n")


def save_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=92)


def record_choices(work: Path, choices: list[str]) -> None:
    """Write choices, in the order of the names of the sheets.

    Raises:
        ValueError: If there is not one choice per sheet, one is not A, B or tie, or other choices were written before.
    """
    names = sorted(path.stem for path in (work / "sheets").glob("*.png"))
    if len(choices) != len(names) or not set(choices) <= set(CHOICES):
        raise ValueError(
            f"{work / 'sheets'} has {len(names)} sheets; pass {', '.join(CHOICES)} for each of them: "
            f"{', '.join(names)}. Got {', '.join(choices) or 'nothing'}."
        )
    file, chosen = work / "choices.json", dict(zip(names, choices, strict=True))
    if file.exists() and json.loads(file.read_text()) != chosen:
        raise ValueError(f"{file} has other choices, made before the key was read: draw new sheets with another seed.")
    write_text(file, json.dumps(chosen, indent=2) + "\n")


def count_choices(work: Path) -> Count:
    """Compare the choices with the key, and print a row per video (Markdown)."""
    choices = json.loads((work / "choices.json").read_text())
    key = json.loads((work / "key.json").read_text())["output"]
    if set(choices) != set(key):
        raise ValueError(f"choices.json and key.json in {work} are of other videos: choose again.")
    print("| video | choice | output | preferred |\n|---|---|---|---|")
    preferred = []
    for name, choice in choices.items():
        preferred.append("tie" if choice == "tie" else "output" if choice == key[name] else "input")
        print(f"| {name} | {choice} | {key[name]} | {preferred[-1]} |")
    return Count(*(preferred.count(kind) for kind in ("output", "input", "tie")))


def run_draw(args: argparse.Namespace) -> None:
    disable_progress_bar()
    if (args.work / "sheets").exists():
        raise ValueError(
            f"{args.work} has sheets already: use another folder, or delete sheets, strips and JSON files."
        )
    pipe = KeepPipeline.from_pretrained(args.model).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    detector = YuNet.from_pretrained(args.detector) if args.detector else pipe.face_detector()
    pairs = []
    for path in find_clips(args.videos, args.clips):
        pairs.append(restore_pair(path, args.work / "videos" / path.stem, pipe, detector, args.frames, args.shown))
        print(f"{path.stem}: {pairs[-1].input.shape[2]} x {pairs[-1].input.shape[1]} pixels", flush=True)
    draw_sheets(pairs, args.work, args.seed)


def run_count(args: argparse.Namespace) -> None:
    if args.judge:
        record_choices(args.work, args.judge)
    count = count_choices(args.work)
    print(f"\noutput preferred: {count.output}, input preferred: {count.input}, ties: {count.tie}")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    draw = commands.add_parser("draw", help="restore videos and write sheets, strips and the key")
    draw.add_argument("--videos", type=Path, required=True, help="folder of degraded videos")
    draw.add_argument("--clips", nargs="+", metavar="NAME", help="videos in the folder; all by default")
    draw.add_argument("--model", default=DEFAULT_MODEL, help="built-in name, folder or Hub id")
    draw.add_argument("--device", default="cpu", help="of the model, as torch names it")
    draw.add_argument("--detector", help="YuNet (.onnx file or Hub repository) for the face shown; that of the model")
    draw.add_argument("--frames", type=int, default=24, help="frames to restore, from the start of each video")
    draw.add_argument("--shown", type=int, default=3, help="frames to show")
    draw.add_argument("--seed", type=int, required=True, help="of the order of input and output")
    draw.set_defaults(run=run_draw)
    count = commands.add_parser("count", help="record choices and compare them with the key")
    count.add_argument(
        "--judge", nargs="+", choices=CHOICES, help="a choice per sheet, in the order of the names; else choices.json"
    )
    count.set_defaults(run=run_count)
    for command in (draw, count):
        command.add_argument("--work", type=Path, default=Path("runs/pairs"), help="folder of all files")
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    args.run(args)


if __name__ == "__main__":
    main()
