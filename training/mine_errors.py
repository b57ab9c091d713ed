"""Collect images without a face in which a trained face detector finds one, for further training.

    python -m training.mine_errors --detector runs/detector/detector --data portraits/ videos/ --output errors/ \\
        --teacher face_detection_yunet_2023mar.onnx
    accelerate launch -m training.train_detector --initial runs/detector/detector --errors errors/ ...

The images are composed as in the training (data/faceless.py). What is around a false face is saved, so that the
training can show it at other sizes.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from keep_hf import FaceDetector, YuNet
from keep_hf.faces.orientation import turn

from .data.detector_examples import degrade
from .data.faceless import make_empty
from .data.teacher_labels import label_portraits
from .loop.config import Parser, positive
from .preparation.detectors import load_detector


SIDES = (96, 512)  # of the images, in pixels
BATCH = 8
REACH = 1.1  # half the side of what is saved, in longer sides of the box


def find_errors(
    rng: np.random.Generator, images: list[np.ndarray], detector: FaceDetector, teacher: YuNet | FaceDetector
) -> list[np.ndarray]:
    """Return the squares around the faces that the detector finds, where the teacher finds none in any orientation."""
    errors = []
    for image, faces in zip(images, detector.detect(images), strict=True):
        for left, top, right, bottom in faces.boxes:
            middle = np.array([left + right, top + bottom]) / 2 + 0.1 * (right - left) * rng.standard_normal(2)
            half = REACH * max(right - left, bottom - top)
            first, last = (np.clip(middle + sign * half, 0, image.shape[1::-1]).astype(int) for sign in (-1, 1))
            error = image[first[1] : last[1], first[0] : last[0]]
            if min(error.shape[:2]) >= 16 and not any(map(len, teacher.detect([turn(error, n) for n in range(4)]))):
                errors.append(error)
    return errors


def build_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--detector", required=True, help="folder of a FaceDetector")
    add("--data", nargs="+", required=True, help="folders of images and videos of faces")
    add("--teacher", required=True, help="YuNet: an .onnx file or a Hub repository; or a folder of a detector")
    add("--output", type=Path, required=True, help="folder for the images")
    add("--images", type=positive, default=3000, help="number of images to search")
    add("--threshold", type=float, default=0.2, help="score from which a face is saved")
    add("--frames-per-video", type=positive, default=16, help="frames of a video that are used")
    add("--seed", type=int, default=0, help="of everything random")
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = build_parser()
    args: argparse.Namespace = parser.parse_args(arguments)
    if any(args.output.glob(f"{args.seed:02d}_*.png")):
        parser.error(f"{args.output} has images of --seed {args.seed} already: choose another seed or folder")
    detector = FaceDetector.from_pretrained(args.detector, threshold=args.threshold).eval()
    teacher = load_detector(args.teacher)
    portraits = label_portraits(args.data, teacher, args.frames_per_video)
    args.output.mkdir(parents=True, exist_ok=True)
    rng, number = np.random.default_rng(args.seed), 0
    for _ in range(0, args.images, BATCH):
        size = int(np.exp(rng.uniform(*np.log(SIDES))))
        images = [degrade(rng, make_empty(rng, portraits, [], size), 40.0) for _ in range(BATCH)]
        for error in find_errors(rng, images, detector, teacher):
            name = f"{args.seed:02d}_{number:05d}.png"
            cv2.imwrite(str(args.output / name), cv2.cvtColor(error, cv2.COLOR_RGB2BGR))
            number += 1
    print(f"{number} false faces in {args.images} images without a face: {args.output}")


if __name__ == "__main__":
    main()
