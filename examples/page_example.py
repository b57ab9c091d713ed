"""Generate the example video of the web page: the moving portrait of `demo.py`, degraded, with a short melody.

    python examples/page_example.py src/keep_hf/page/example.mp4

The portrait shows Eileen Collins (NASA, public domain). The melody is computed here.
"""

import argparse
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np
from demo import FACE_SIZE, FRAME_RATE, FRAME_SIZE, write_moving_portrait

from keep_hf import VideoReader
from keep_hf.degrade import LEVELS, degrade_video


NUM_FRAMES = 100
SAMPLE_RATE = 48000
NOTES = (60, 64, 67, 72, 69, 65, 67, 64)  # MIDI note numbers, two per second


def synthesize_melody(seconds: float) -> np.ndarray:
    """Synthesize a plucked melody: float32 `(samples,)` in [-1, 1]."""
    time = np.arange(round(SAMPLE_RATE * seconds)) / SAMPLE_RATE
    samples = np.zeros_like(time)
    for index, note in enumerate(NOTES):
        since = time - 0.5 * index
        frequency = 440 * 2 ** ((note - 69) / 12)
        strength = np.where(since >= 0, np.minimum(since / 0.01, 1) * np.exp(-4 * np.maximum(since, 0)), 0)
        for overtone in (1, 2, 3):
            samples += strength / overtone**2 * np.sin(2 * np.pi * frequency * overtone * since)
    return (0.2 * samples * np.minimum((seconds - time) / 0.1, 1)).astype(np.float32)


def write_example(path: Path) -> None:
    """Write the degraded portrait, enlarged to its original size, with the melody."""
    with TemporaryDirectory() as folder, av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        sharp, small = Path(folder) / "sharp.mp4", Path(folder) / "small.mp4"
        write_moving_portrait(sharp, NUM_FRAMES)
        degrade_video(sharp, small, LEVELS["medium"].at_size(FACE_SIZE), seed=0)

        video = container.add_stream("libx264", rate=FRAME_RATE, options={"crf": "23"})
        video.width = video.height = FRAME_SIZE
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        with VideoReader(small) as reader:
            for frame in reader:
                image = cv2.resize(frame.image, (FRAME_SIZE, FRAME_SIZE), interpolation=cv2.INTER_CUBIC)
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        melody = synthesize_melody(NUM_FRAMES / FRAME_RATE)
        samples = av.AudioFrame.from_ndarray(melody[None], format="fltp", layout="mono")
        samples.sample_rate, samples.time_base, samples.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), 0
        container.mux([packet for frame in (samples, None) for packet in audio.encode(frame)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the .mp4 to write")
    write_example(parser.parse_args().output)
