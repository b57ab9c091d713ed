"""A stand-in for a pipeline that harms every video, whatever its options: it blurs whole frames."""

from pathlib import Path
from typing import Any

import cv2

from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter


class BlurringPipeline:
    """A pipeline from file to file with a known effect.

    Attributes:
        num_calls (`int`): Number of videos that were restored.
    """

    def __init__(self) -> None:
        self.num_calls = 0

    def fingerprint(self) -> str:
        return "blurring"

    def restore_video(self, source: Path, target: Path, upscale: int = 1) -> dict[str, Any]:
        self.num_calls += 1
        with VideoReader(source) as reader:
            width, height = reader.width * upscale, reader.height * upscale
            with VideoWriter(target, width=width, height=height, frame_rate=reader.frame_rate) as writer:
                for frame in reader.read():
                    large = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_CUBIC)
                    writer.write(cv2.GaussianBlur(large, (0, 0), 2 * upscale))
                return {"frames": writer.num_written, "tracks": []}
