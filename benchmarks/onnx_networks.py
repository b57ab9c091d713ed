"""Networks from ONNX files as torch modules against OpenCV: differences of the results, and CPU time with one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.onnx_networks --videos ../shared/media/hq_eval ../shared/media/lq \\
        --yunet ../shared/weights/yunet_n_dynamic.onnx --identity ../shared/weights/MobileFaceNet.onnx \\
        --landmarks ../shared/weights/pfld.onnx
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from keep_hf import FaceIdentity, YuNet
from keep_hf.faces.detection import Faces
from keep_hf.faces.landmarks import LandmarkNetwork
from keep_hf.models.onnx.network import OnnxNetwork
from keep_hf.video.media_files import find_videos

from .detector import print_table, read_frames


REPEATS = 15


def detect_with_opencv(network: Any, image: np.ndarray) -> Faces:
    network.setInputSize(image.shape[1::-1])
    rows = network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    rows = np.zeros((0, 15), np.float32) if rows is None else rows
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    return Faces(boxes, rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14])


def measure(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median CPU time in milliseconds; the functions take turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(REPEATS):
        for name, function in functions.items():
            started = time.process_time()
            function()
            times[name].append(1000 * (time.process_time() - started))
    return {name: float(np.median(values)) for name, values in times.items()}


def report_detections(frames: list[np.ndarray], file: str) -> None:
    """Compare the faces of every frame at its own size, and the time for frames of two sizes."""
    torch_network, opencv = (
        YuNet.from_pretrained(file),
        cv2.FaceDetectorYN.create(file, "", (320, 320), 0.6, 0.3, 5000),
    )
    num_faces = num_differing = 0
    largest = {"boxes": 0.0, "landmarks": 0.0, "scores": 0.0}
    for frame in frames:
        (found,), expected = torch_network._search([frame]), detect_with_opencv(opencv, frame)
        num_faces += len(expected)
        if len(found) != len(expected):
            num_differing += 1
            continue
        for part in largest:
            difference = np.abs(getattr(found, part) - getattr(expected, part)).max(initial=0)
            largest[part] = max(largest[part], float(difference))
    print(f"YuNet: {num_faces} faces in {len(frames)} frames; another number of faces in {num_differing} frames")
    print(f"largest differences: {', '.join(f'{part} {value:.2g}' for part, value in largest.items())}")
    rows = []
    for width, height in ((480, 270), (1280, 720)):
        image = cv2.resize(frames[0], (width, height), interpolation=cv2.INTER_AREA)
        times = measure(
            {
                "OpenCV": partial(detect_with_opencv, opencv, image),
                "torch": partial(torch_network._search, [image]),
            }
        )
        rows.append([f"YuNet, {width} x {height}", *(f"{value:.1f} ms" for value in times.values())])
    print_table(["CPU time", "OpenCV", "torch"], rows)


def report_crops(network: OnnxNetwork, file: str) -> None:
    """Compare the output for noise, and the time for one crop and for a crop of a batch."""
    opencv = cv2.dnn.readNetFromONNX(file)
    crops = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 3, 112, 112)).astype(np.float32))

    def run_opencv(crop: np.ndarray) -> np.ndarray:
        opencv.setInput(crop)
        return opencv.forward().reshape(-1)

    expected = np.stack([run_opencv(crop[None].numpy()) for crop in crops])
    found = torch.cat([network.run(crop[None])[0].reshape(1, -1) for crop in crops]).numpy()
    times = measure(
        {
            "OpenCV": lambda: run_opencv(crops[:1].numpy()),
            "torch": lambda: network.run(crops[:1]),
            "batch": lambda: network.run(crops),
        }
    )
    print(
        f"{Path(file).name}: largest difference {np.abs(found - expected).max():.2g}, largest value "
        f"{np.abs(expected).max():.2g}; OpenCV {times['OpenCV']:.1f} ms, torch {times['torch']:.1f} ms, of a batch of "
        f"8 {times['batch'] / 8:.1f} ms"
    )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, nargs="+", required=True, help="folders of videos")
    parser.add_argument("--yunet", required=True, help=".onnx file of YuNet")
    parser.add_argument("--identity", required=True, help=".onnx file of a face recognition network")
    parser.add_argument("--landmarks", required=True, help=".onnx file of a landmark network")
    parser.add_argument("--every", type=int, default=24, help="interval between the frames that are compared")
    args = parser.parse_args()

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    videos = [path for folder in args.videos for path in find_videos(folder)]
    report_detections([frame for path in videos for frame in read_frames(path, args.every)], args.yunet)
    report_crops(FaceIdentity.from_pretrained(args.identity), args.identity)
    report_crops(LandmarkNetwork.from_pretrained(args.landmarks), args.landmarks)


if __name__ == "__main__":
    main()
