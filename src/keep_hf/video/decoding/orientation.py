"""How the frames of a video are rotated and mirrored for display."""

from dataclasses import dataclass
from typing import Any

import av
import numpy as np


@dataclass(frozen=True)
class Orientation:
    """How stored frames are transformed for display: transposed first, then mirrored."""

    transposed: bool
    mirrored_x: bool
    mirrored_y: bool

    @classmethod
    def read(cls, frame: av.VideoFrame) -> "Orientation":
        """Read the display matrix of a frame.

        It maps (x, y) to (a x + c y, b x + d y) with y pointing down; files contain quarter turns and reflections.
        """
        try:
            side_data: Any = frame.side_data
        except ValueError:
            # PyAV has no name for some side data, such as the number of the view in spatial videos.
            turns = frame.rotation // 90 % 4
            return cls(turns % 2 == 1, turns in (2, 3), turns in (1, 2))
        if "DISPLAYMATRIX" not in side_data:
            return cls(False, False, False)
        a, b, _, c, d = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), dtype=np.int32)[:5]
        return cls(True, bool(c < 0), bool(b < 0)) if abs(b) > abs(a) else cls(False, bool(a < 0), bool(d < 0))

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Transform an image `(h, w, 3)` or a plane `(h, w)`; the result is contiguous."""
        if self.transposed:
            image = image.swapaxes(0, 1)
        if self.mirrored_x:
            image = image[:, ::-1]
        if self.mirrored_y:
            image = image[::-1]
        return np.ascontiguousarray(image)
