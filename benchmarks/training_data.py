"""CPU time of the training data of the direct path: of whole samples, and of each kind of degradation.

python -m benchmarks.training_data packs/ --samples 40
"""

import argparse
import time
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np

from training.data.degradations.clips import DegradationShares, degrade_clip
from training.data.packed_faces import MovingFaces, read_packs


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packs", type=Path, help="folder of packs from training/pack_faces.py")
    parser.add_argument("--samples", type=int, default=40, help="clips that are measured, of each length")
    args = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    portraits, videos = read_packs(args.packs)
    print("| frames of a clip | whole sample | " + " | ".join(each.name for each in fields(DegradationShares)) + " |")
    print("|---:" * (2 + len(fields(DegradationShares))) + "|")
    for length in (1, 8):
        clips = MovingFaces(portraits, videos, length, video_share=0.4)
        started = time.process_time()
        sharp = [clips[index]["sharp"].numpy().transpose(0, 2, 3, 1) for index in range(args.samples)]
        times = [time.process_time() - started]
        for chosen in fields(DegradationShares):
            shares = DegradationShares(**{each.name: float(each is chosen) for each in fields(DegradationShares)})
            started = time.process_time()
            for index, clip in enumerate(sharp):
                degrade_clip(clip, np.random.default_rng(index), shares)
            times.append(time.process_time() - started)
        milliseconds = (f"{1000 * each / args.samples / length:.1f}" for each in times)
        print(f"| {length} | " + " | ".join(milliseconds) + " |", flush=True)


if __name__ == "__main__":
    main()
