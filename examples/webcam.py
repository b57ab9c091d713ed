"""Restore the faces of a camera while it runs.

    python examples/webcam.py out.mp4                  # the first camera, until Ctrl-C
    python examples/webcam.py out.mp4 --source 1 --seconds 20
    python examples/webcam.py out.mp4 --source rtsp://camera/stream
    python examples/webcam.py out.mp4 --source in.mp4  # a file in place of a camera

A restored frame is written three frames after its capture. With `--latency normal` it is written up to three seconds
later, because tracking and smoothing then use future frames. Memory does not grow.
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import torch

from keep_hf import KeepPipeline, VideoWriter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="video file to write")
    parser.add_argument("--source", default="0", help="number of a camera, or anything else that OpenCV opens")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--model", default="keep-small")
    parser.add_argument("--latency", choices=["low", "normal"], default="low")
    args = parser.parse_args()

    camera = cv2.VideoCapture(int(args.source) if args.source.isdecimal() else args.source)
    if not camera.isOpened():
        sys.exit(f"There is no camera or file {args.source}: pass its number or name with --source.")
    frame_rate = camera.get(cv2.CAP_PROP_FPS) or 25.0
    width, height = (round(camera.get(name)) for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))

    pipe = KeepPipeline.from_pretrained(args.model)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    started, number = time.monotonic(), 0
    with (
        VideoWriter(args.output, width=width, height=height, frame_rate=frame_rate) as writer,
        pipe.stream(frame_rate=frame_rate, latency=args.latency) as stream,
    ):
        try:
            while time.monotonic() - started < args.seconds:
                captured, frame = camera.read()
                if not captured:
                    break
                for restored in stream.step(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)):
                    writer.write(restored)
                    number += 1
        except KeyboardInterrupt:
            print("\nstopping")
        for restored in stream.flush():
            writer.write(restored)
            number += 1
    seconds = time.monotonic() - started
    print(
        f"{args.output}: {number} frames, {number / seconds:.1f} per second, returned {stream.look_ahead} frames later"
    )


if __name__ == "__main__":
    main()
