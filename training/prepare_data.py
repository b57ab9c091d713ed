"""Plain videos -> videos of aligned faces to train on.

    python training/prepare_data.py videos/ faces/ --detector face_detection_yunet_2023mar.onnx

Of every video the largest face is followed; stretches where it is not found, or is smaller than `--min-size` pixels,
are left out.
"""

import argparse
from pathlib import Path

import numpy as np

from keep_hf.align import crop_face, estimate_alignment
from keep_hf.detector import YuNet
from keep_hf.follow import FaceFollower
from keep_hf.video import VideoReader
from keep_hf.writer import VideoWriter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder of videos")
    parser.add_argument("faces", type=Path, help="folder to write to")
    parser.add_argument("--detector", required=True, help="YuNet: an .onnx file, or a Hub repository")
    parser.add_argument("--size", type=int, default=512, help="side of the faces in pixels")
    parser.add_argument("--min-size", type=float, default=100, help="smallest face, in pixels of the video")
    args = parser.parse_args()
    if not args.videos.is_dir():
        parser.error(f"there is no folder {args.videos}")
    args.faces.mkdir(parents=True, exist_ok=True)

    detector = YuNet.from_pretrained(args.detector)
    for path in sorted(path for path in args.videos.rglob("*") if path.suffix in {".mp4", ".mov", ".mkv"}):
        with VideoReader(path) as reader:
            tracks = FaceFollower(detector, float(reader.frame_rate)).tracks(frame.image for frame in reader)
            if not tracks:
                print(f"{path}: no face")
                continue
            track = max(tracks, key=lambda track: np.sum(track.boxes[:, 2:] - track.boxes[:, :2]))
            sizes = (track.boxes[:, 2:] - track.boxes[:, :2]).max(1)
            wanted = {
                int(frame): points
                for frame, points, size in zip(track.frames, track.landmarks, sizes, strict=True)
                if size >= args.min_size
            }
            target = args.faces / f"{path.stem}.mp4"
            size = {"width": args.size, "height": args.size}
            with VideoWriter(target, frame_rate=reader.frame_rate, crf=8, **size) as out:
                for i, frame in enumerate(reader):
                    if i in wanted:
                        out.write(crop_face(frame.image, estimate_alignment(wanted[i], args.size), args.size))
        print(f"{path}: {len(wanted)} frames")


if __name__ == "__main__":
    main()
