"""The built-in face detector against YuNet: faces found, landmarks, false people, turned frames, time.

    python -m benchmarks.detector --videos ../shared/media/hq_eval ../shared/media/lq --portraits held_out/ \\
        --yunet ../shared/weights/yunet_n_dynamic.onnx --one-person ../shared/media/hq_eval/talkvid_04.mp4

A face counts as found if the mean distance of the landmarks from those of YuNet is below half the distance of the
eyes. `recall` counts those in the first frame of each video of which YuNet is sure; `found` counts all, in more frames
and in mosaics. The reference of the landmarks is the median of six detections of YuNet
(training/data/teacher_labels.py): at three sizes, each also mirrored. People are those of the tracker, so that a
detection in a single frame is none.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from keep_hf import FaceDetector, YuNet
from keep_hf.faces.detection import Faces, resize
from keep_hf.faces.follower import FaceFollower
from keep_hf.faces.orientation import SceneDetector, turn
from keep_hf.video.media_files import find_images, find_videos
from keep_hf.video.reader import VideoReader
from training.data.images import read_image
from training.data.teacher_labels import label

from .faceless_videos import KINDS, draw_video


PACKAGED = Path(__file__).parents[1] / "src/keep_hf/checkpoints/keep-small/detector"
FACE_SIZES = (24, 32, 64, 128, 256, 400)
FOUND = 0.5  # largest error of the landmarks of a face that is found, in distances of the eyes
MOSAIC = (1280, 720)
PARTS = ("false", "recall", "landmarks", "found", "turned")
# Of `recall`: sides of the largest face in pixels, besides its own, and the least score of YuNet
RECALL_SIZES, SURE = (32, 64, 128), 0.75


@dataclass
class Count:
    """Faces that the detector found, of those that YuNet found."""

    found: int = 0
    expected: int = 0

    def add(self, faces: Faces, reference: Faces) -> None:
        self.expected += len(reference)
        self.found += sum(error_of(faces, landmarks) < FOUND for landmarks in reference.landmarks)

    def __str__(self) -> str:
        return f"{self.found} of {self.expected} ({100 * self.found / max(self.expected, 1):.1f} %)"


def error_of(faces: Faces, landmarks: np.ndarray) -> float:
    """Mean distance of the landmarks of the best face, in distances of the eyes; infinite without a face."""
    distance = np.linalg.norm(landmarks[1] - landmarks[0])
    errors = np.linalg.norm(faces.landmarks - landmarks, axis=-1).mean(axis=-1) / distance
    return float(min(errors, default=np.inf))


def to_grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def read_frames(path: Path, every: int) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.image for index, frame in enumerate(reader.read()) if index % every == 0]


def count_found(images: list[np.ndarray], detector: FaceDetector, yunet: YuNet) -> dict[tuple[str, int], Count]:
    """Count the faces found in images of which the largest face has each of [`FACE_SIZES`], in colour and grey.

    Images are not enlarged. The key is "colour" or "grey", and the size.
    """
    counts = {(kind, size): Count() for kind in ("colour", "grey") for size in FACE_SIZES}
    for image in images:
        (faces,) = yunet.detect([image])
        if not len(faces):
            continue
        largest = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max()
        for size in FACE_SIZES:
            scale = size / largest
            if scale > 1.05:
                continue
            small = resize(image, *(max(round(side * scale), 1) for side in image.shape[1::-1]))
            for kind, version in (("colour", small), ("grey", to_grey(small))):
                counts[kind, size].add(detector.detect([version])[0], yunet.detect([version])[0])
    return counts


def count_sure(images: list[np.ndarray], detector: FaceDetector, yunet: YuNet) -> dict[str, Count]:
    """Count the faces found of those that YuNet is sure of, with the largest face of each image in several sizes.

    The key is "colour" or "grey", and the size: "own", or one of [`RECALL_SIZES`]. Images are not enlarged.
    """
    kinds = [(kind, size) for size in ("own", *RECALL_SIZES) for kind in ("colour", "grey")]
    counts = {f"{kind}, {size}": Count() for kind, size in kinds}
    for image in images:
        (faces,) = yunet.detect([image])
        largest = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(initial=0)
        for kind, size in kinds:
            scale = 1.0 if size == "own" else int(size) / max(largest, 1.0)
            if not len(faces) or scale > 1.05:
                continue
            version = resize(image, *(max(round(side * scale), 1) for side in image.shape[1::-1]))
            version = version if kind == "colour" else to_grey(version)
            (reference,) = yunet.detect([version])
            counts[f"{kind}, {size}"].add(detector.detect([version])[0], reference[reference.scores >= SURE])
    return counts


def count_in_mosaics(images: list[np.ndarray], detector: FaceDetector, yunet: YuNet) -> Count:
    """Count the faces found in frames of 1280 x 720 pixels with up to six people of 24 to 160 pixels."""
    rng, count = np.random.default_rng(0), Count()
    cut = [image for image in (cut_person(image, yunet) for image in images) if image is not None]
    for _ in range(len(cut) // 3):
        frame = np.full((MOSAIC[1], MOSAIC[0], 3), rng.integers(0, 256, 3), np.uint8)
        for cell in range(6):
            side = 3 * round(float(np.exp(rng.uniform(np.log(24), np.log(120)))))
            person = cv2.resize(cut[rng.integers(len(cut))], (side, side), interpolation=cv2.INTER_AREA)
            left, top = cell % 3 * 426, cell // 3 * 360
            frame[top : top + side, left : left + side] = person[:360, :426]
        count.add(detector.detect([frame])[0], yunet.detect([frame])[0])
    return count


def cut_person(image: np.ndarray, yunet: YuNet) -> np.ndarray | None:
    """Cut the square of three times the size around the largest face."""
    (faces,) = yunet.detect([image])
    if not len(faces):
        return None
    sizes = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1)
    left, top, right, bottom = faces.boxes[np.argmax(sizes)]
    middle, half = np.array([left + right, top + bottom]) / 2, 1.5 * sizes.max()
    columns, rows = (np.arange(int(place - half), int(place + half)) for place in middle)
    rows, columns = np.clip(rows, 0, image.shape[0] - 1), np.clip(columns, 0, image.shape[1] - 1)
    return image[rows[:, None], columns]


def measure_landmarks(images: list[np.ndarray], detector: FaceDetector, yunet: YuNet) -> tuple[float, float, int]:
    """The mean error of the detector, that of YuNet in the image itself, and the number of faces."""
    ours, theirs = [], []
    for image in images:
        portrait = label(image, yunet)
        if portrait is None:
            continue
        errors = [error_of(each.detect([image])[0], portrait.landmarks) for each in (detector, yunet)]
        if max(errors) < FOUND:
            ours.append(errors[0])
            theirs.append(errors[1])
    return float(np.mean(ours)), float(np.mean(theirs)), len(ours)


def count_people(frames: list[np.ndarray], detector: FaceDetector, frame_rate: float = 12.0) -> int:
    return len(FaceFollower(detector, frame_rate).tracks(frames))


def measure_turned(clips: list[list[np.ndarray]], detector: FaceDetector, yunet: YuNet) -> list[Count]:
    """Count the faces found in videos turned by one, two and three quarter turns, of those YuNet finds upright."""
    counts = [Count(), Count(), Count()]
    for frames in clips:
        upright = yunet.detect(frames)
        for turns, count in zip((1, 2, 3), counts, strict=True):
            found = SceneDetector(detector).detect([turn(frame, turns) for frame in frames])
            count.expected += sum(len(faces) > 0 for faces in upright)
            count.found += sum(len(found[i]) > 0 for i in range(len(frames)) if len(upright[i]))
    return counts


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Print a table in Markdown."""
    for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows):
        print(f"| {' | '.join(row)} |")


def milliseconds(frame: np.ndarray, detector: FaceDetector | YuNet) -> float:
    times = []
    for _ in range(8):
        start = time.process_time()
        detector.detect([frame])
        times.append(time.process_time() - start)
    return 1000 * float(np.median(times))


def report_found(sources: dict[str, list[np.ndarray]], detector: FaceDetector, yunet: YuNet) -> None:
    rows, total = [], Count()
    for name, images in sources.items():
        counts = count_found(images, detector, yunet)
        for kind in ("colour", "grey"):
            cells = [counts[kind, size] for size in FACE_SIZES]
            rows.append([f"{name}, {kind}", *(f"{count.found}/{count.expected}" for count in cells)])
        for (_, size), count in counts.items():
            if size >= 32:
                total.found, total.expected = total.found + count.found, total.expected + count.expected
    print_table(["faces found, by size", *(f"{size} px" for size in FACE_SIZES)], rows)
    print(f"\n32 to 400 pixels: {total}")
    everyone = [image for images in sources.values() for image in images]
    print(f"several people in frames of 1280 x 720: {count_in_mosaics(everyone, detector, yunet)}\n")


def report_recall(first_frames: list[np.ndarray], detector: FaceDetector, yunet: YuNet) -> None:
    counts = count_sure(first_frames, detector, yunet)
    rows = [[kind, f"{count.found}/{count.expected}"] for kind, count in counts.items()]
    print_table([f"faces of YuNet's score {SURE} and more", "found"], rows)
    total = Count(*(sum(getattr(count, name) for count in counts.values()) for name in ("found", "expected")))
    print(f"\nall of them: {total}\n")


def report_landmarks(sources: dict[str, list[np.ndarray]], detector: FaceDetector, yunet: YuNet) -> None:
    rows = []
    for name, images in sources.items():
        ours, theirs, number = measure_landmarks(images, detector, yunet)
        rows.append([name, str(number), f"{ours:.4f}", f"{theirs:.4f}"])
    print_table(["error of the landmarks", "faces", "detector", "YuNet in the same image"], rows)
    frame = next(image for images in sources.values() for image in images)
    for name, each in (("detector", detector), ("YuNet", yunet)):
        print(f"{name}: {milliseconds(frame, each):.0f} ms of CPU time, {frame.shape[1]} x {frame.shape[0]} pixels")


def report_false_people(detector: FaceDetector, number: int, one_person: Path | None) -> None:
    false = [(KINDS[i % len(KINDS)].__name__, count_people(draw_video(i, 16), detector)) for i in range(number)]
    print(f"people in {number} videos without a face: {sum(count for _, count in false)}", end=" ")
    print([name for name, count in false if count], flush=True)
    if one_person:
        print(f"people in {one_person.name}: {count_people(read_frames(one_person, 1), detector, 24.0)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, nargs="+", required=True, help="folders of videos")
    parser.add_argument("--portraits", type=Path, required=True, help="folder of images of one face each")
    parser.add_argument("--yunet", required=True, help="YuNet: an .onnx file or a Hub repository")
    parser.add_argument("--detector", default=str(PACKAGED), help="folder of a FaceDetector")
    parser.add_argument("--one-person", type=Path, help="video of one person, in which others are false")
    parser.add_argument("--every", type=int, default=60, help="interval between the frames that are compared")
    parser.add_argument("--faceless", type=int, default=60, help="number of videos without a face")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    args = parser.parse_args()

    detector = FaceDetector.from_pretrained(args.detector).eval()
    if "false" in args.parts:
        report_false_people(detector, args.faceless, args.one_person)
    if set(args.parts) == {"false"}:
        return
    yunet = YuNet.from_pretrained(args.yunet)
    clips = {folder.name: [read_frames(path, args.every) for path in find_videos(folder)] for folder in args.videos}
    sources = {name: [frame for frames in videos for frame in frames] for name, videos in clips.items()}
    sources["portraits"] = [read_image(path) for path in find_images(args.portraits)]
    if "recall" in args.parts:
        report_recall([frames[0] for videos in clips.values() for frames in videos], detector, yunet)
    if "landmarks" in args.parts:
        report_landmarks(sources, detector, yunet)
    if "found" in args.parts:
        report_found(sources, detector, yunet)
    if "turned" in args.parts:
        for turns, count in enumerate(measure_turned([v for c in clips.values() for v in c], detector, yunet), 1):
            print(f"turned by {90 * turns} degrees: {count}")


if __name__ == "__main__":
    main()
