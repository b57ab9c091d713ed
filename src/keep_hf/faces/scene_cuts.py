"""Scene cuts, found while frames stream in, with a look-ahead of two frames.

The pictures are shrunk to thumbnails.  Of two neighbours one is moved onto the other by optical flow, so that pans,
zooms and moving heads do not count, and what is left is compared twice: by the correlation of local structure, which
does not mind a change of exposure, and by the mean difference, which does not mind noise in flat pictures.  Two
neighbours that match in neither way are a cut, unless the film returns within two frames to what it showed (a flash, a
damaged frame), or changes as much in the frames before or after (a fade, a whip of the camera).

Within one set, a jump of the camera or a piece left out is no cut: place and size of things hardly change.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from ..state_version import check_state_version


# Long side of a thumbnail, the least short side, and how many samples per side of its pixels are averaged.
THUMBNAIL, SHORTEST, SAMPLES = 128, 48, 4
# Neighbours whose structure correlates at least so much, or that differ by less levels of 255, belong together.
CORRELATION = 0.7
DIFFERENCE = 1.0
# A cut stands out by this factor from the changes before and after it.
CONTRAST = 2.0
STATE_VERSION = 1


class CutFinder:
    """Tells for every frame of a stream whether a new scene begins with it.

    What it tells depends on the frames since the last cut and on `look_ahead` more only: after a cut it goes on as a
    new finder would that starts at the cut.
    """

    look_ahead = 2
    """Frames after a frame that must be seen before it is decided."""

    def __init__(self) -> None:
        # Thumbnails of up to three frames that are decided, all of the present scene, and then of the undecided ones.
        self._thumbnails: list[np.ndarray] = []
        self._num_undecided = 0
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def step(self, image: np.ndarray) -> bool | None:
        """Look at the next frame.

        Args:
            image (`np.ndarray` of shape `(h, w, 3)`):
                RGB frame, uint8; all frames of a stream have one size.

        Returns:
            `bool`, *optional*: whether the frame `look_ahead` steps ago is the first of a new scene; `None` for the
            first `look_ahead` frames.  The first frame of a stream is never a cut.

        Raises:
            ValueError: If the image is no RGB frame or has another shape than those before.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"image must be uint8 of shape (h, w, 3), got {image.dtype} {image.shape}.")
        thumbnail = _shrink(image)
        if self._thumbnails and self._thumbnails[-1].shape != thumbnail.shape:
            raise ValueError(
                f"image has another shape, {image.shape}, than the frames before it: use a new CutFinder for it."
            )
        self._thumbnails.append(thumbnail)
        self._num_undecided += 1
        return self._decide() if self._num_undecided > self.look_ahead else None

    def flush(self) -> list[bool]:
        """End the stream.

        Returns:
            `list[bool]`: the same as from `step` for the last frames, `look_ahead` of them or as many as there were.
        """
        decisions = [self._decide() for _ in range(self._num_undecided)]
        self._thumbnails = []
        return decisions

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps: the version, a list of uint8 arrays, and a number."""
        return {
            "version": STATE_VERSION,
            "thumbnails": list(self._thumbnails),
            "num_undecided": self._num_undecided,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the `state_dict` of another finder.

        Raises:
            ValueError: If the state has another version.
        """
        check_state_version(state, STATE_VERSION, "CutFinder")
        self._thumbnails = list(state["thumbnails"])
        self._num_undecided = state["num_undecided"]

    def _decide(self) -> bool:
        now = len(self._thumbnails) - self._num_undecided
        self._num_undecided -= 1
        is_cut = now > 0 and self._is_cut(now)
        del self._thumbnails[: now if is_cut else max(now - 2, 0)]
        return is_cut

    def _is_cut(self, now: int) -> bool:
        # Frames that the end of the stream or a fresh scene does not have are taken for different, and for still.
        end = min(now + self.look_ahead, len(self._thumbnails) - 1)
        returns = [(now - 1, later) for later in range(now, end + 1)]
        returns += [(earlier, now) for earlier in range(max(now - 3, 0), now - 1)]
        if any(self._match(*pair) for pair in returns):
            return False

        # The smaller of two changes: one alone may be a second cut, or the start of a flash.
        def steady_change(first: int) -> float:
            if first < 0 or first + 2 > end:
                return 0.0
            return min(self._change(first, first + 1), self._change(first + 1, first + 2))

        steady = max(steady_change(now - 3), steady_change(now))
        return self._change(now - 1, now) > CONTRAST * steady

    def _match(self, first: int, second: int) -> bool:
        a, b = self._thumbnails[first], self._thumbnails[second]
        if cv2.absdiff(a, b).mean() < DIFFERENCE:
            return True
        # What a movement uncovers is found in one of the two pictures only: one direction is enough.
        for still, moving in ((a, b), (b, a)):
            correlation, difference = self._compare_moved(still, moving)
            if correlation >= CORRELATION or difference < DIFFERENCE:
                return True
        return False

    def _change(self, first: int, second: int) -> float:
        a, b = self._thumbnails[first], self._thumbnails[second]
        return min(self._compare_moved(a, b)[1], self._compare_moved(b, a)[1])

    def _compare_moved(self, still: np.ndarray, moving: np.ndarray) -> tuple[float, float]:
        """Correlation of the local structure and mean difference, once one picture is moved onto the other."""
        flow = self._flow.calc(still[..., 0].copy(), moving[..., 0].copy(), None)
        height, width = still.shape[:2]
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        moved = cv2.remap(
            moving, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

        structure, other = (_local_structure(picture[..., 0]) for picture in (still, moved))
        # A variance of 1 level is added: what is flat but for noise has no structure.
        power = (np.square(structure).mean() + 1) * (np.square(other).mean() + 1)
        return float((structure * other).mean() / np.sqrt(power)), float(cv2.absdiff(still, moved).mean())


def _shrink(image: np.ndarray) -> np.ndarray:
    """A thumbnail in YCrCb, a little blurred against noise and blocks of compression."""
    height, width = image.shape[:2]
    # Of a large frame samples are enough, and far quicker to gather than the mean of every pixel.
    stride = max(round(max(height, width) / (THUMBNAIL * SAMPLES)), 1)
    scale = THUMBNAIL / max(height, width)
    # OpenCV reads outside of pictures that are smaller than its patches at a quarter of the size.
    size = (max(round(width * scale), SHORTEST), max(round(height * scale), SHORTEST))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(image[::stride, ::stride]), size, interpolation=interpolation)
    return cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb), (0, 0), 1)


def _local_structure(luma: np.ndarray) -> np.ndarray:
    luma = luma.astype(np.float32)
    return luma - cv2.blur(luma, (15, 15))
