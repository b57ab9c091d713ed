"""Videos of aligned faces, in files or in rows of a dataset."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import cv2
import numpy as np
from datasets import Dataset

from keep_hf.video.reader import VideoReader


class StoredVideo:
    """A video of aligned faces, decoded when frames are needed or kept decoded.

    Args:
        name (`str`): For error messages.
        open_reader (`Callable`): Returns a context manager whose value is a reader. It is pickled for the processes
            that load data.
    """

    def __init__(self, name: str, open_reader: Callable[[], AbstractContextManager[VideoReader]]) -> None:
        self.name, self.open_reader = name, open_reader
        self.frames: np.ndarray | None = None
        with open_reader() as reader:
            if reader.width != reader.height:
                raise ValueError(
                    f"{name} is {reader.width}x{reader.height}; aligned faces are square. Use training.prepare_data."
                )
            # Files without a number of frames are decoded to count them.
            self.num_frames = reader.num_frames or sum(1 for _ in reader)

    def keep(self, size: int) -> None:
        """Decode the whole video and keep its frames."""
        self.frames = self.read(0, self.num_frames, 1, size)

    def read(self, start: int, length: int, interval: int, size: int) -> np.ndarray:
        """Decode frames `start`, `start + interval` and so on, as uint8 RGB `(length, size, size, 3)`."""
        last = start + (length - 1) * interval
        if self.frames is not None:
            return self.frames[start : last + 1 : interval]
        frames = []
        with self.open_reader() as reader:
            for i, frame in enumerate(reader.read(start)):
                if i % interval == 0:
                    frames.append(cv2.resize(frame.image, (size, size), interpolation=cv2.INTER_AREA))
                if len(frames) == length:
                    return np.stack(frames)
        raise ValueError(f"{self.name} reports {self.num_frames} frames, but ends before frame {last}.")


@contextmanager
def open_row(rows: Dataset, index: int, column: str) -> Iterator[VideoReader]:
    """Open the video in a row of a dataset. It is a file, or bytes that are written to a temporary file."""
    video = rows[index][column]
    if video["bytes"] is None:
        with VideoReader(video["path"]) as reader:
            yield reader
        return
    with open_content(video["bytes"], ".mp4") as reader:
        yield reader


@contextmanager
def open_content(content: bytes, suffix: str) -> Iterator[VideoReader]:
    """Open the content of a video file, which is written to a temporary file with this suffix."""
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(content)
        file.flush()
        with VideoReader(file.name) as reader:
            yield reader
