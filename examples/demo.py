"""Degrade a sharp clip and restore it, end to end and without a network connection: `make demo`.

    python examples/demo.py                         # a portrait from scikit-image, in motion
    python examples/demo.py --video clip.mp4        # restores this video

It needs scikit-image, which the extra `eval` of the package installs.

Without --video the sharp clip is known, so the restored clip is compared with it.  The portrait is enlarged until its
face fills `FACE_SIZE` pixels, and degraded to half its size; `upscale=2` restores the size, so that input, output and
ground truth can be compared pixel by pixel.  Outside the face the output is the enlarged input.
"""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import skimage.data
from PIL import Image

from keep_hf import KeepPipeline, VideoReader, VideoWriter
from keep_hf.degrade import LEVELS, degrade_video
from keep_hf.evaluation.metrics import psnr, ssim
from keep_hf.faces.alignment import crop_face, estimate_alignment


FRAME_RATE = 25
FRAME_SIZE = 384
# Side of the aligned face in the sharp clip, in pixels; `at_size` then reduces its size by a factor of 2.
FACE_SIZE = 256
UPSCALE = 2
# Eyes, nose and mouth corners in the portrait, and the point that the camera is aimed at, in pixels.
LANDMARKS = np.array([(204.6, 101.8), (248.5, 104.4), (224.3, 125.9), (203.7, 142.4), (242.5, 144.4)])
CENTRE = np.array([227.0, 138.0])
ZOOM = 1.5
STRIP_COLUMNS = 5


def camera(index: int) -> np.ndarray:
    """The affine map `(2, 3)` from pixels of the portrait to pixels of a frame: a slowly shaking hand-held camera."""
    rotation, zoom, x, y = np.sin(2 * np.pi * np.array([0.45, 0.3, 0.5, 0.35]) * index / FRAME_RATE + [0, 1, 2, 3])
    matrix = cv2.getRotationMatrix2D(CENTRE.tolist(), 3 * rotation, ZOOM * (1 + 0.03 * zoom))
    matrix[:, 2] += FRAME_SIZE / 2 - CENTRE + (9 * x, 6 * y)
    return matrix


def write_moving_portrait(path: Path, num_frames: int) -> None:
    """Write a video of the portrait seen by the moving camera, with a sine tone as its sound."""
    portrait = skimage.data.astronaut()
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FRAME_RATE, options={"crf": "4"})
        video.width = video.height = FRAME_SIZE
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="stereo")
        for index in range(num_frames):
            image = cv2.warpAffine(
                portrait,
                camera(index),
                (FRAME_SIZE, FRAME_SIZE),
                flags=cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            )
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))

        time = np.arange(48000 * num_frames // FRAME_RATE) / 48000
        tone = (0.2 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
        samples = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
        samples.sample_rate, samples.pts = 48000, 0
        container.mux([packet for frame in (samples, None) for packet in audio.encode(frame)])


def read(path: Path, upscale: int = 1) -> Iterator[np.ndarray]:
    """The frames of a video, enlarged in the same way as the pipeline enlarges the background."""
    with VideoReader(path) as reader:
        for frame in reader:
            if upscale == 1:
                yield frame.image
            else:
                yield cv2.resize(frame.image, None, fx=upscale, fy=upscale, interpolation=cv2.INTER_CUBIC)


def write_before_after(path: Path, source: Path, output: Path, upscale: int) -> None:
    """Input and output side by side, with the sound."""
    with (
        VideoReader(output) as after,
        VideoWriter(path, after, width=2 * after.width, height=after.height) as writer,
    ):
        for before, frame in zip(read(source, upscale), after, strict=True):
            writer.write(np.hstack([before, frame.image]), frame.pts, frame.duration)


def draw_strip(path: Path, rows: dict[str, Iterator[np.ndarray]], num_frames: int) -> None:
    """Write an image with a row of frames for each video; a column shows the same frame of all of them."""
    columns = np.linspace(0, num_frames - 1, min(STRIP_COLUMNS, num_frames)).round().astype(int)
    lines = []
    for name, frames in rows.items():
        line = np.hstack([frame for index, frame in enumerate(frames) if index in columns])
        scale = line.shape[0] / 400
        for colour, thickness in ((0, 5), (255, 2)):  # white letters with a dark edge
            corner, width = (round(12 * scale), round(34 * scale)), max(1, round(thickness * scale))
            cv2.putText(line, name, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, [colour] * 3, width, cv2.LINE_AA)
        lines.append(line)
    Image.fromarray(np.vstack(lines)).save(path, quality=92)


def print_metrics(sharp: Path, source: Path, output: Path) -> None:
    """Print the mean metrics before and after, of the aligned face and of the whole frame."""
    metrics = []
    for index, images in enumerate(zip(read(sharp), read(source, UPSCALE), read(output), strict=True)):
        landmarks = cv2.transform(LANDMARKS[None], camera(index))[0]
        matrix = estimate_alignment(landmarks, FACE_SIZE)
        faces = [crop_face(image, matrix, FACE_SIZE) for image in images]
        metrics.append(
            [[(psnr(image, truth), ssim(image, truth)) for image in others] for truth, *others in (faces, images)]
        )
    print(f"{'compared with sharp.mp4':24}{'PSNR (dB)':>18}{'SSIM':>20}")
    for name, (before, after) in zip(("face", "frame"), np.mean(metrics, axis=0), strict=True):
        print(f"{name:24}{before[0]:8.2f} -> {after[0]:6.2f}{before[1]:10.4f} -> {after[1]:6.4f}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="restore this file instead of the portrait")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder to write to")
    parser.add_argument("--frames", type=int, default=60, help="length of the moving portrait")
    parser.add_argument("--model", default="keep-small", help="built-in name, folder or Hub id")
    args = parser.parse_args(arguments)
    if args.video and not args.video.is_file():
        parser.error(f"there is no file {args.video}")
    if args.frames < 1:
        parser.error(f"--frames must be 1 or more, got {args.frames}")
    args.output.mkdir(parents=True, exist_ok=True)

    sharp, output = args.output / "sharp.mp4", args.output / "output.mp4"
    if args.video:
        upscale = 1
        source = args.output / f"input{args.video.suffix}"
        if args.video.resolve() != source.resolve():
            shutil.copyfile(args.video, source)
    else:
        upscale = UPSCALE
        source = args.output / "input.mp4"
        write_moving_portrait(sharp, args.frames)
        degrade_video(sharp, source, LEVELS["medium"].at_size(FACE_SIZE), seed=0)

    pipe = KeepPipeline.from_pretrained(args.model)
    report = pipe.restore_video(source, output, upscale=upscale)

    write_before_after(args.output / "before_after.mp4", source, output, upscale)
    rows = {"input": read(source, upscale), "restored": read(output)}
    if not args.video:
        rows["truth"] = read(sharp)
    draw_strip(args.output / "strip.jpg", rows, report["frames"])

    print(
        f"{report['frames']} frames with {len(report['tracks'])} tracked face(s), restored in "
        f"{report['seconds']['total']:.0f} s"
    )
    if not args.video:
        print_metrics(sharp, source, output)
    print(f"See {source.name}, output.mp4, before_after.mp4 and strip.jpg in {args.output.resolve()}")


if __name__ == "__main__":
    main()
