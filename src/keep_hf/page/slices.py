"""How long a GPU is borrowed: for short slices, until the work is done.

A slice continues from the state that the one before has left, so the result does not depend on where they end. Short
slices are granted also to users with a small quota, and make others wait for a short time only.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..faces.tracking.tracks import PlacedFace


MAX_SECONDS = 60  # the longest slice
# Seconds of a slice that are not for frames: the weights are moved to the GPU before, and files are finished after.
OVERHEAD = 10
# Seconds to request for each frame: generous, because time that is not used costs nothing.
SECONDS_PER_FRAME = 0.1
MIN_WORK = 10  # seconds for frames, at least


@dataclass(frozen=True)
class TrackedFrames:
    """What a slice of tracking returns.

    Attributes:
        faces (`list[list[PlacedFace]]`): The faces of the frames that were decided in the slice.
        state (`dict`, *optional*): State of the follower, from which the next slice continues; `None` at the end of
            the video.
    """

    faces: list[list[PlacedFace]]
    state: dict[str, Any] | None


@dataclass(frozen=True)
class RestoredFrames:
    """How far a restoration is.

    Attributes:
        num_in (`int`): Number of frames that the stream has taken.
        num_out (`int`): Number of frames that are written.
        boxes (`dict[int, np.ndarray]`): The boxes of the restored faces in the last of these, by track: left, top,
            right and bottom in pixels, `(4,)`.
    """

    num_in: int
    num_out: int
    boxes: dict[int, np.ndarray]


def gpu_seconds(num_frames: int) -> int:
    """Seconds of GPU time to request for a slice, by the number of frames that are left."""
    return round(min(MAX_SECONDS, OVERHEAD + max(MIN_WORK, SECONDS_PER_FRAME * num_frames)))


class SliceTimer:
    """Measures a slice that starts now.

    Args:
        seconds (`float`): Length of the slice; infinite if nothing is borrowed.
    """

    def __init__(self, seconds: float) -> None:
        self.end, self.last, self.longest = time.monotonic() + seconds, time.monotonic(), 0.0

    def is_over(self) -> bool:
        """Call this after every step: whether another one, as long as the longest so far, would end too late."""
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - self.last), now
        return now + self.longest > self.end
