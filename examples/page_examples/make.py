"""Make the example clips of the web page, and the result that it shows before there is another one.

    python examples/page_examples/make.py                 # all clips and the result: some minutes
    python examples/page_examples/make.py --result        # the result only, with the current checkpoint: a minute
    python examples/page_examples/make.py two_people      # one clip

The people are variations of one portrait (Eileen Collins, NASA, public domain). The rest is drawn and synthesized.
"""

import argparse
import hashlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np
from melody import SAMPLE_RATE, synthesize_melody
from recordings import RECORDINGS, Recording
from scenes import SCENES

from keep_hf import KeepPipeline, VideoReader
from keep_hf.built_in import BUILT_IN
from keep_hf.page.examples import FOLDER, RESULT, SHOWN


CHECKPOINT = "keep-small"
CODEC_CRF = 33  # of the first encoding of a video call
RESULT_CRF = 22


def write_clip(path: Path, frames: Iterator[np.ndarray], recording: Recording, crf: int, sound: bool = False) -> None:
    """Encode frames, float32 (h, w, 3) in [0, 255], with x264; one thread gives the same file everywhere."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=recording.frame_rate, options={"crf": str(crf), "preset": "slow"})
        video.pix_fmt, video.thread_count = "yuv420p", 1
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if sound else None
        for index, frame in enumerate(frames):
            if index == 0:
                video.height, video.width = frame.shape[:2]
            image = np.clip(np.rint(frame), 0, 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            audio.bit_rate = 48_000
            samples = av.AudioFrame.from_ndarray(
                synthesize_melody(recording.seconds)[None], format="fltp", layout="mono"
            )
            samples.sample_rate, samples.time_base, samples.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), 0
            container.mux([packet for frame in (samples, None) for packet in audio.encode(frame)])


def resize(frames: Iterator[np.ndarray], size: tuple[int, int], interpolation: int) -> Iterator[np.ndarray]:
    for frame in frames:
        yield cv2.resize(frame, size, interpolation=interpolation)


def read(path: Path) -> Iterator[np.ndarray]:
    with VideoReader(path) as reader:
        for frame in reader:
            yield frame.image


def make_example(name: str) -> None:
    """Draw, degrade and encode a clip."""
    recording = RECORDINGS[name]
    num_frames = round(recording.seconds * recording.frame_rate)
    frames = recording.degrade(SCENES[name](num_frames, recording.frame_rate))
    target = FOLDER / f"{name}.mp4"
    if recording.codec_size is None:
        write_clip(target, frames, recording, recording.crf, recording.sound)
    else:
        with TemporaryDirectory() as folder:
            small = Path(folder) / "small.mp4"
            write_clip(small, resize(frames, recording.codec_size, cv2.INTER_AREA), recording, CODEC_CRF)
            enlarged = resize(read(small), (640, 360), cv2.INTER_LINEAR)
            write_clip(target, enlarged, recording, recording.crf, recording.sound)
    print(f"{target.name}: {num_frames} frames, {target.stat().st_size / 1000:.0f} kB")


def make_result() -> None:
    """Restore an example with the bundled checkpoint, for the comparison that the page plays when it is opened."""
    pipe = KeepPipeline.from_pretrained(CHECKPOINT)
    report = pipe.restore_video(SHOWN.path, RESULT, crf=RESULT_CRF)
    faces = sum(track["frames"] for track in report["tracks"])
    print(f"{RESULT.name}: {report['frames']} frames, {faces} faces, {RESULT.stat().st_size / 1000:.0f} kB")
    weights = (BUILT_IN[CHECKPOINT] / "vq").glob("*.safetensors")
    checksums = ", ".join(hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in weights)
    print(f"restored with {CHECKPOINT}, SHA-256 of its weights {checksums}...")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"clips to make: {', '.join(SCENES)}")
    parser.add_argument("--result", action="store_true", help="make the result only")
    args = parser.parse_args()
    if unknown := set(args.names) - set(SCENES):
        parser.error(f"there is no example {', '.join(sorted(unknown))}: use {', '.join(SCENES)}")
    if not args.result:
        for name in args.names or SCENES:
            make_example(name)
    if args.result or not args.names:
        make_result()


if __name__ == "__main__":
    main()
