"""How well the tracker's appearance separates people: similarities within one person and between two people.

    python -m benchmarks.appearance --videos ../shared/media/hq_eval --detector ../shared/weights/yunet_n_dynamic.onnx

Each video shows one person; every frame gets its own blur and noise.
"""

import argparse
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from keep_hf import YuNet
from keep_hf.faces.follower import FaceFollower
from keep_hf.faces.tracking.appearance import compute_appearance
from keep_hf.video.reader import VideoReader


def degrade(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shrink an image to a quarter, blur it and add noise."""
    small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), random.uniform(0.3, 2))
    return np.clip(small + random.normal(0, 6, small.shape), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos (.mp4) of one person each")
    parser.add_argument("--detector", required=True, help="YuNet: an .onnx file or a Hub repository")
    parser.add_argument("--frames", type=int, default=48, help="frames from the start of each video")
    parser.add_argument("--every", type=int, default=6, help="interval between the frames that are compared")
    args = parser.parse_args()

    random = np.random.default_rng(0)
    detector = YuNet.from_pretrained(args.detector)
    people = []
    for path in sorted(args.videos.glob("*.mp4")):
        with VideoReader(path) as reader:
            images = [frame.image for frame in islice(reader.read(), 0, args.frames, args.every)]
            follower = FaceFollower(detector, float(reader.frame_rate) / args.every, "largest", find_cuts=False)
        (track, *_) = follower.tracks(images)
        places = zip(track.frames, (track.landmarks + 0.5) / 4 - 0.5, strict=True)
        people.append([compute_appearance(degrade(images[index], random), landmarks) for index, landmarks in places])

    same = np.concatenate([np.array([a @ b for i, a in enumerate(faces) for b in faces[:i]]) for faces in people])
    pairs = [(first, second) for i, first in enumerate(people) for second in people[:i]]
    other = np.concatenate([(np.array(first) @ np.array(second).T).ravel() for first, second in pairs])
    print(f"{len(people)} people, {len(same)} pairs of one person, {len(other)} pairs of two people")
    print(f"one person: median {np.median(same):.2f}, {np.quantile(same, 0.05):.2f} or more in 95 %")
    print(f"two people: median {np.median(other):.2f}, below {np.quantile(other, 0.95):.2f} in 95 %, ", end="")
    print(f"below {np.quantile(other, 0.99):.2f} in 99 %")


if __name__ == "__main__":
    main()
