"""`keep-hf faces`: list the faces of a video with the numbers that `keep-hf restore --faces` takes."""

import argparse

import numpy as np
from PIL import Image

from ..faces.contact_sheet import draw_people
from ..video.media_files import check_exists
from ..video.open import open_video
from .loading import load_pipeline, selected_device
from .output import check_output_path


def run(args: argparse.Namespace) -> None:
    """Print one line per track, and write the contact sheet."""
    if args.sheet:
        check_output_path(args.sheet, "contact sheet")
        if args.sheet.suffix.lower() not in (".jpg", ".png"):
            raise ValueError(f"{args.sheet} must be a .jpg or a .png.")
    check_exists(args.input)
    pipe = load_pipeline(args).to(selected_device(args))
    tracks = pipe.follow(
        args.input, min_face_size=args.min_face_size, frame_rate=args.frame_rate, video_stream=args.video_stream
    )
    for track in tracks:
        size = np.median((track.boxes[:, 2:] - track.boxes[:, :2]).max(axis=1))
        print(f"{track.track_id}: {len(track)} frames from {track.frames[0]} to {track.frames[-1]}, {size:.0f} pixels")
    if not tracks:
        print("No faces found.")
    if args.sheet:
        with open_video(args.input, args.frame_rate, video_stream=args.video_stream) as reader:
            sheet = draw_people((frame.image for frame in reader.read()), tracks)
        Image.fromarray(sheet).save(args.sheet)
