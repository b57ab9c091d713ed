"""How well people are recognized after a cut: by a face recognition network, and by their appearance alone.

    python -m benchmarks.recognition --portraits ../shared/media/train_faces --clips ../shared/media/train_clips \
        --identity ../shared/weights/MobileFaceNet.onnx

Similarities between portraits of two people, between the first and the last second of a clip of one person, and
between varied and degraded versions of one portrait. Then the number of entries for videos of 30 scenes with 10
people, three scenes each, in which every scene has another background, light, size and degradation.
"""

import argparse
import json
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from keep_hf import FaceDetector, KeepPipeline, YuNet
from keep_hf.faces.follower import FaceFollower
from keep_hf.faces.identity import FaceIdentity
from keep_hf.faces.tracking.appearance import compute_appearance
from keep_hf.faces.tracking.known_people import KnownPeople
from keep_hf.faces.tracking.tracks import FaceTrack
from keep_hf.video.reader import VideoReader


WIDTH, HEIGHT, FRAME_RATE, SCENE_LENGTH = 320, 240, 10.0, 8


def read_portraits(folder: Path, number: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Portraits of different people with their landmarks, in a random order."""
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    chosen = np.random.default_rng(seed).permutation(len(lines))[:number]
    portraits = []
    for line in (json.loads(lines[index]) for index in chosen):
        image = np.asarray(Image.open(folder / line["file_name"]).convert("RGB"))
        portraits.append((image, np.array(line["landmarks"], np.float32)))
    return portraits


def make_scene(portrait: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    """A scene with one person: background, place, size, turn, light, blur and noise are random, and the head moves."""
    if random.random() < 0.5:
        portrait = portrait[:, ::-1]
    grid = random.integers(20, 236, (4, 5, 3)).astype(np.uint8)
    background = cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    side = random.uniform(130, 220) / max(portrait.shape[:2])
    angle, gain, cast = random.uniform(-8, 8), random.uniform(0.75, 1.25), random.uniform(-15, 15, 3)
    centre = random.uniform((130, 110), (190, 130))
    blur = random.uniform(0.4, 1.2)
    images = []
    for index in range(SCENE_LENGTH):
        matrix = cv2.getRotationMatrix2D((portrait.shape[1] / 2, portrait.shape[0] / 2), angle + 0.5 * index, side)
        moved = centre + np.array([np.sin(index), np.cos(index)])
        matrix[:, 2] = matrix[:, 2] + moved - np.array(portrait.shape[1::-1]) / 2
        lit = np.clip(portrait * gain + cast, 0, 255).astype(np.uint8)
        image = background.copy()
        cv2.warpAffine(lit, matrix, (WIDTH, HEIGHT), image, cv2.INTER_AREA, cv2.BORDER_TRANSPARENT)
        image = cv2.GaussianBlur(image, (0, 0), blur) + random.normal(0, 3, image.shape)
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return images


def make_cuts(portraits: list[np.ndarray], times: int, seed: int) -> tuple[list[np.ndarray], list[int]]:
    """A video in which everyone has `times` scenes in a random order; and whose scene each of them is."""
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(len(portraits)) for _ in range(times)]).tolist()
    return [image for person in order for image in make_scene(portraits[person], random)], order


def count_entries(tracks: list[FaceTrack], order: list[int]) -> tuple[int, int]:
    """The number of people that were found, and how many of them are more than one person."""
    owners = [{order[frame // SCENE_LENGTH] for frame in track.frames.tolist()} for track in tracks]
    return len(tracks), sum(len(people) > 1 for people in owners)


def describe(known: KnownPeople, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    return compute_appearance(image, landmarks) if known.identity is None else known.embed(image, [landmarks])[0]


def print_quantiles(name: str, values: np.ndarray) -> None:
    parts = (0.01, 0.05, 0.5, 0.95, 0.99, 0.9999)
    quantiles = ", ".join(f"{part:.2%}: {np.quantile(values, part):.2f}" for part in parts)
    print(f"  {name}, {len(values)} pairs: {quantiles}, maximum {values.max():.2f}", flush=True)


def compare_two_people(known: KnownPeople, portraits: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    rows = np.array([describe(known, *portrait) for portrait in portraits])
    return (rows @ rows.T)[np.triu_indices(len(rows), 1)]


def compare_one_person(
    known: KnownPeople, detector: FaceDetector | YuNet, clips: list[list[np.ndarray]]
) -> np.ndarray:
    """Similarities between the first half and the second half of each sequence of images."""
    values = []
    for images in clips:
        found = [faces for faces in zip(images, detector.detect(images), strict=True) if len(faces[1])]
        rows = np.array([describe(known, image, faces.landmarks[0]) for image, faces in found])
        half = len(rows) // 2
        values.append((rows[:half] @ rows[half:].T).ravel() if half else np.zeros(0))
    return np.concatenate(values)


def read_ends(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        images = [frame.image for frame in islice(reader.read(), 0, None, 5)]
    return images[:5] + images[-5:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits with a metadata.jsonl")
    parser.add_argument("--clips", type=Path, required=True, help="folder of videos (.mp4) of one person each")
    parser.add_argument("--identity", required=True, help="face recognition network: an .onnx file")
    parser.add_argument("--number", type=int, default=300, help="portraits to compare")
    parser.add_argument("--videos", type=int, default=5, help="videos of 30 scenes")
    args = parser.parse_args()

    detector = KeepPipeline.from_pretrained("keep-tiny").face_detector()
    portraits = read_portraits(args.portraits, args.number, seed=0)
    clips = [read_ends(path) for path in sorted(args.clips.glob("*.mp4"))]
    random = np.random.default_rng(0)
    scenes = [[make_scene(image, random)[0] for _ in range(4)] for image, _ in portraits[:50]]
    for network in (FaceIdentity.from_pretrained(args.identity), None):
        known = KnownPeople(network)
        print(f"By {known.criterion}, threshold {known.threshold}")
        print_quantiles("two people", compare_two_people(known, portraits))
        print_quantiles("one person, two parts of a clip", compare_one_person(known, detector, clips))
        print_quantiles("one person, two scenes", compare_one_person(known, detector, scenes))
        for seed in range(args.videos):
            images, order = make_cuts([image for image, _ in read_portraits(args.portraits, 10, seed)], 3, seed)
            tracks = FaceFollower(detector, FRAME_RATE, identity=network).tracks(images)
            print("  {} entries for 10 people, {} of them mixed".format(*count_entries(tracks, order)), flush=True)


if __name__ == "__main__":
    main()
