"""Scene cuts: accuracy and time of `CutFinder` and of the two usual detectors of PySceneDetect.

    python -m benchmarks.scenes --media ../shared/media --compilations 12 --hard 12

The material is synthetic, of 640 x 360 pixels, with known cuts:
 - compilations: parts of talking-head clips, 1 to 60 frames long, one after the other; a third of them is degraded as
   for training (blur, noise, H.264).
 - hard: videos without cuts, but with events that look like one to a simple detector: whip pans and fast zooms,
   hand-held shake, flashes of one or two frames, a damaged frame, fades from and to black, dissolves, steps of
   exposure, heavy noise.

A cut counts as found only if the exact frame is found.  PySceneDetect runs with its default thresholds and, because
some parts are short, with a minimum scene length of 1 frame; it is left out if it is not installed.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np

from keep_hf.degrade import Degradation, degrade_frames
from keep_hf.faces.follower import HORIZONS
from keep_hf.faces.scene_cuts import CutFinder
from keep_hf.video.reader import VideoReader


WIDTH, HEIGHT = 640, 360
# Applied to whole frames, whose faces are about as large as the degraded faces of training.
MEDIUM = Degradation(blur_sigma=(1.0, 1.75), kernel_size=5, noise_sigma=(3.0, 6.0), scale=1, crf=(20, 26))
# A clip of the evaluation set contains a wipe in these frames, which is neither a cut nor none.
WIPES = {"talkvid_02": range(58, 72)}

Finder = Callable[[np.ndarray], set[int]]


# --- Material --------------------------------------------------------------------------------------------------------


def cover(image: np.ndarray, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Scale and crop an image so that it fills the frame."""
    scale = max(width / image.shape[1], height / image.shape[0])
    size = (max(round(image.shape[1] * scale), width), max(round(image.shape[0] * scale), height))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (size[0] - width) // 2, (size[1] - height) // 3
    return image[top : top + height, left : left + width]


def read_clips(media: Path) -> dict[str, np.ndarray]:
    clips = {}
    for path in sorted(path for part in ("hq_eval", "train_clips", "lq") for path in (media / part).glob("*.mp4")):
        with VideoReader(path) as reader:
            clips[path.stem] = np.stack([cover(frame.image) for frame in islice(reader, 121)])
    return clips


def make_compilation(
    clips: dict[str, np.ndarray], rng: np.random.Generator, degraded: bool
) -> tuple[np.ndarray, set[int]]:
    """Parts of twelve clips with their cuts; every fourth part has 1 to 5 frames."""
    parts: list[np.ndarray] = []
    for index, name in enumerate(rng.choice(list(clips), 12, replace=False)):
        length = int(rng.integers(1, 6) if index % 4 == 3 else rng.integers(6, 61))
        start = int(rng.integers(0, max(len(clips[name]) - length, 1)))
        if set(WIPES.get(name, ())).intersection(range(start, start + length)):
            start, length = 0, min(length, WIPES[name].start)
        parts.append(clips[name][start : start + length])
    frames = np.concatenate(parts)
    cuts = set(np.cumsum([len(part) for part in parts])[:-1].tolist())
    return (degrade_frames(frames, MEDIUM, seed=int(rng.integers(1 << 30))) if degraded else frames), cuts


def move_camera(image: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Move a camera over an image along a path (t, 3) of x, y and zoom, with motion blur over half of the time."""
    frames = []
    for start, end in pairwise(path):
        shots = [view(image, *(start + (end - start) * part)) for part in np.linspace(0, 0.5, 8)]
        frames.append(np.mean(shots, axis=0).astype(np.uint8))
    return np.stack(frames)


def view(image: np.ndarray, x: float, y: float, zoom: float) -> np.ndarray:
    """The frame around a point of a large image, in its pixels; a larger zoom shows less."""
    matrix = np.array([[zoom, 0, WIDTH / 2 - zoom * x], [0, zoom, HEIGHT / 2 - zoom * y]])
    return cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)


def make_hard(clips: dict[str, np.ndarray], faces: list[str], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Videos of one scene each (fades and dissolves count as one), by the event that makes them hard."""

    def clip(length: int = 48) -> np.ndarray:
        name = rng.choice([name for name in clips if len(clips[name]) >= length and name not in WIPES])
        return clips[name][:length].copy()

    def portrait() -> np.ndarray:
        image = cv2.imread(rng.choice(faces))
        assert image is not None
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    wide = np.concatenate([cover(portrait(), 360, 480) for _ in range(6)], axis=1)
    steps = np.linspace(0, 1, 33)[:, None]
    ease = steps * steps * (3 - 2 * steps)
    rest = wide.shape[1] - 400
    shake = np.cumsum(rng.normal(0, 12, (33, 3)) * (1, 1, 0), axis=0)
    shake -= cv2.GaussianBlur(shake, (1, 0), sigmaX=0.1, sigmaY=6)
    still = cover(portrait())

    flashed, damaged, exposed = clip(), clip(), clip()
    flashed[20:22] = np.clip(flashed[20:22].astype(int) + 130, 0, 255)
    flashed[35] = np.clip(flashed[35].astype(int) + 200, 0, 255)
    damaged[24, HEIGHT // 3 :] = rng.integers(0, 255, (HEIGHT - HEIGHT // 3, WIDTH // 16, 3)).repeat(16, axis=1)
    exposed[24:] = np.clip(exposed[24:] * 1.35, 0, 255)
    first, second = clip().astype(np.float32), clip().astype(np.float32)
    share = np.clip((np.arange(48) - 15) / rng.integers(8, 20), 0, 1)[:, None, None, None].astype(np.float32)
    dark = np.clip(np.minimum(np.arange(48), 47 - np.arange(48)) / rng.integers(4, 16), 0, 1)[:, None, None, None]
    return {
        "whip pan": move_camera(wide, np.hstack([320 + ease * rest, 0 * ease + 240, 0 * ease + 1])),
        "zoom": move_camera(portrait(), np.hstack([0 * ease + 280, 0 * ease + 260, 1 + 3 * ease])),
        "shake": move_camera(cover(portrait(), 720, 480), np.array((360, 240, 1.2)) + shake),
        "flash": flashed,
        "damaged frame": damaged,
        "fade": (first * dark).astype(np.uint8),
        "dissolve": (first + (second - first) * share).astype(np.uint8),
        "exposure": exposed,
        "noise": np.clip(still + rng.normal(0, 25, (32, *still.shape)), 0, 255).astype(np.uint8),
        "grain": np.clip(
            clip(32) + rng.normal(0, 12, (32, HEIGHT, WIDTH, 1)) + rng.normal(0, 4, (32, 1, 1, 1)), 0, 255
        ).astype(np.uint8),
        "talk": clip(),
    }


# --- Finders ---------------------------------------------------------------------------------------------------------


def find_cuts(frames: np.ndarray, latency: str = "normal") -> set[int]:
    """The cuts that the package finds."""
    finder = CutFinder(HORIZONS[latency].cuts)
    decided = [is_cut for frame in frames if (is_cut := finder.step(frame)) is not None] + finder.flush()
    return {index for index, is_cut in enumerate(decided) if is_cut}


def scenedetect_finders() -> dict[str, Finder]:
    """The detectors of PySceneDetect, if it is installed."""
    if importlib.util.find_spec("scenedetect") is None:
        return {}
    from scenedetect.common import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

    def run(detector_class: type, frames: np.ndarray) -> set[int]:
        detector = detector_class(min_scene_len=1)
        cuts = []
        for index, frame in enumerate(frames):
            cuts += detector.process_frame(FrameTimecode(index, 25.0), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        cuts += detector.post_process(FrameTimecode(len(frames) - 1, 25.0))
        return {cut.frame_num for cut in cuts}

    return {
        "PySceneDetect Adaptive": lambda frames: run(AdaptiveDetector, frames),
        "PySceneDetect Content": lambda frames: run(ContentDetector, frames),
    }


@dataclass
class Score:
    """Results of a finder: cuts that it found, false cuts by type of material, and seconds."""

    hits: int = 0
    false: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, kind: str, find: Finder, frames: np.ndarray, cuts: set[int]) -> None:
        started = time.perf_counter()
        found = find(frames)
        self.seconds += time.perf_counter() - started
        self.hits += len(found & cuts)
        self.false[kind] = self.false.get(kind, 0) + len(found - cuts)


def print_scores(scores: dict[str, Score], num_frames: int, num_cuts: int) -> None:
    kinds = list(next(iter(scores.values())).false)
    print(f"{num_frames} frames, {num_cuts} cuts; false cuts by type of material\n")
    print("| finder | recall | precision | ms per frame | " + " | ".join(kinds) + " |")
    print("|---" * (4 + len(kinds)) + "|")
    for name, score in scores.items():
        recall = score.hits / num_cuts
        precision = score.hits / max(score.hits + sum(score.false.values()), 1)
        print(f"| {name} | {recall:.4f} | {precision:.4f} | {1000 * score.seconds / num_frames:.2f} | ", end="")
        print(" | ".join(str(score.false[kind]) for kind in kinds) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, required=True, help="folder with hq_eval, train_clips, lq, train_faces")
    parser.add_argument("--compilations", type=int, default=12, help="number of compilations of twelve parts")
    parser.add_argument("--hard", type=int, default=12, help="number of hard videos of each type")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    cv2.setNumThreads(1)
    rng = np.random.default_rng(args.seed)
    clips = read_clips(args.media)
    faces = sorted(map(str, (args.media / "train_faces").glob("*.jpg")))
    finders: dict[str, Finder] = {"keep_hf": find_cuts, "keep_hf, low latency": partial(find_cuts, latency="low")}
    finders |= scenedetect_finders()
    scores = {name: Score() for name in finders}
    num_frames = num_cuts = 0
    for index in range(args.compilations):
        frames, cuts = make_compilation(clips, rng, degraded=index % 3 == 2)
        for name, find in finders.items():
            scores[name].add("compilations", find, frames, cuts)
        num_frames, num_cuts = num_frames + len(frames), num_cuts + len(cuts)
    for _ in range(args.hard):
        for kind, frames in make_hard(clips, faces, rng).items():
            for name, find in finders.items():
                scores[name].add(kind, find, frames, set())
            num_frames += len(frames)
    print_scores(scores, num_frames, num_cuts)


if __name__ == "__main__":
    main()
