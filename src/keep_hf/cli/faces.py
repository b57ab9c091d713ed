"""`keep-hf faces`: list the faces of a video with the numbers that `keep-hf restore --faces` takes."""

import argparse

import numpy as np
from PIL import Image

from ..faces.contact_sheet import draw_people
from ..faces.identity import FaceIdentity
from ..faces.tracking.tracks import FaceTrack
from ..restoration.report.wording import format_time, missing_people
from ..video.media_files import check_exists
from ..video.open import open_video
from .loading import load_pipeline, selected_device
from .output import check_output_path, print_message


def run(args: argparse.Namespace) -> None:
    """Print one line per person, and write the contact sheet."""
    if args.sheet:
        check_output_path(args.sheet, "contact sheet", [args.input])
        if args.sheet.suffix.lower() not in (".jpg", ".png"):
            raise ValueError(f"{args.sheet} must be a .jpg or a .png.")
        if args.sheet.resolve().parent == args.input.resolve():
            raise ValueError(f"{args.sheet} would be a frame of {args.input}; choose another folder.")
    check_exists(args.input)
    pipe = load_pipeline(args)
    if args.identity:
        pipe.register_modules(identity=FaceIdentity.from_pretrained(args.identity, cache_dir=args.cache_dir))
    pipe.to(selected_device(args))
    tracks = pipe.follow(
        args.input, min_face_size=args.min_face_size, frame_rate=args.frame_rate, video_stream=args.video_stream
    )
    with open_video(args.input, args.frame_rate, video_stream=args.video_stream) as reader:
        for track in tracks:
            print(describe_person(track, float(reader.frame_rate)))
        if not tracks:
            print(f"{missing_people({'faces': 'all', 'min_face_size': args.min_face_size})} found.")
        if args.sheet:
            sheet = draw_people((frame.image for frame in reader.read()), tracks)
            Image.fromarray(sheet).save(args.sheet)
    criterion = "face recognition" if args.identity else "appearance alone; --identity is more reliable"
    print_message(f"after a cut, people are recognized by {criterion}")


def describe_person(track: FaceTrack, frame_rate: float) -> str:
    """The number of a person, their frames, the median size of their face, and when they appear.

    Args:
        track ([`FaceTrack`]): The person in all frames.
        frame_rate (`float`): Frames per second; absences of less than a second are not shown.
    """
    size = np.median((track.boxes[:, 2:] - track.boxes[:, :2]).max(axis=1))
    times = [
        f"{format_time(first / frame_rate)}-{format_time((last + 1) / frame_rate)}"
        for first, last in track.appearances(longest_gap=round(frame_rate) - 1)
    ]
    frames = f"{len(track)} frames from {track.frames[0]} to {track.frames[-1]}"
    return f"{track.track_id}: {frames}, {size:.0f} pixels, at {', '.join(times)}"
