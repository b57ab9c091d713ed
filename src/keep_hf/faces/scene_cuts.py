"""Scene cuts, found while frames stream in, with a look-ahead of a few frames.

Frames are reduced to thumbnails.  One of two neighbours is warped onto the other by optical flow, so that pans, zooms
and moving heads do not count.  The two are then compared by the correlation of their local structure, which is robust
to a change of exposure, and by their mean difference, which is robust to noise in flat images.  Two neighbours that
match in neither way are a cut, with two exceptions: the video returns within the look-ahead to what it showed before
(a flash, a damaged frame), or it changes as much in the frames before or after (a fade, a whip pan).

A jump of the camera within one set, or an omitted part of a take, is no cut: the place and the size of objects hardly
change.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from ..state_version import check_state_version


THUMBNAIL, SHORTEST = 128, 48  # pixels: longer side of a thumbnail, and least shorter side
SAMPLES = 4  # averaged for each pixel of a thumbnail, in each direction
# Neighbours belong together if their structure correlates at least this much, or if they differ by less levels of 255.
CORRELATION = 0.7
DIFFERENCE = 1.0
# The change at a cut is larger by this factor than the changes before and after it.
CONTRAST = 2.0
STATE_VERSION = 1


class CutFinder:
    """Decide for every frame of a stream whether a new scene starts with it.

    A decision depends only on the frames since the last cut and on the next `look_ahead` frames: after a cut the
    decisions are those of a new finder that starts at the cut.

    Args:
        look_ahead (`int`, defaults to 2): Number of frames after a frame that must be seen before it is decided. With
            one frame, steps of a fade can be cuts.
    """

    def __init__(self, look_ahead: int = 2) -> None:
        self.look_ahead = look_ahead
        # Thumbnails of up to three decided frames of the present scene, then those of the undecided frames.
        self._thumbnails: list[np.ndarray] = []
        self._num_undecided = 0
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def step(self, image: np.ndarray) -> bool | None:
        """Take the next frame.

        Args:
            image (`np.ndarray` of shape `(h, w, 3)`):
                RGB frame, uint8; all frames of a stream have one size.

        Returns:
            `bool`, *optional*: whether the frame `look_ahead` steps ago is the first of a new scene; `None` for the
            first `look_ahead` frames.  The first frame of a stream is never a cut.

        Raises:
            ValueError: If the image is not an RGB frame or has another shape than the frames before it.
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
        """End the stream; afterwards the finder can be used for another one.

        Returns:
            `list[bool]`: the decisions for the last `look_ahead` frames, or for all if there were fewer.
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
        """Decide the oldest undecided frame, and remove the thumbnails that no later decision needs."""
        now = len(self._thumbnails) - self._num_undecided
        self._num_undecided -= 1
        is_cut = now > 0 and self._is_cut(now)
        del self._thumbnails[: now if is_cut else max(now - 2, 0)]
        return is_cut

    def _is_cut(self, now: int) -> bool:
        """Decide whether a cut lies before thumbnail `now`."""
        # Near the ends of the stream and of the scene some frames are missing: they match no frame and do not change.
        end = min(now + self.look_ahead, len(self._thumbnails) - 1)
        returns = [(now - 1, later) for later in range(now, end + 1)]
        returns += [(earlier, now) for earlier in range(max(now - 3, 0), now - 1)]
        if any(self._match(*pair) for pair in returns):
            return False

        # The smaller of two successive changes: a single one may be another cut, or the start of a flash.
        def steady_change(first: int) -> float:
            if first < 0 or first + 2 > end:
                return 0.0
            return min(self._change(first, first + 1), self._change(first + 1, first + 2))

        steady = max(steady_change(now - 3), steady_change(now))
        return self._change(now - 1, now) > CONTRAST * steady

    def _match(self, first: int, second: int) -> bool:
        """Decide whether two thumbnails belong to one scene."""
        a, b = self._thumbnails[first], self._thumbnails[second]
        if cv2.absdiff(a, b).mean() < DIFFERENCE:
            return True
        # What a movement uncovers is visible in one of the two images only: a match in one direction is enough.
        for still, moving in ((a, b), (b, a)):
            correlation, difference = self._compare_moved(still, moving)
            if correlation >= CORRELATION or difference < DIFFERENCE:
                return True
        return False

    def _change(self, first: int, second: int) -> float:
        """Return the mean difference of two thumbnails after warping, in levels of 255."""
        a, b = self._thumbnails[first], self._thumbnails[second]
        return min(self._compare_moved(a, b)[1], self._compare_moved(b, a)[1])

    def _compare_moved(self, still: np.ndarray, moving: np.ndarray) -> tuple[float, float]:
        """Warp one thumbnail onto another one, and return the correlation of their structure and their difference."""
        # The type stubs of OpenCV do not know that the third argument, an initial flow, may be None.
        flow = self._flow.calc(still[..., 0].copy(), moving[..., 0].copy(), None)  # type: ignore[call-overload]
        height, width = still.shape[:2]
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        moved = cv2.remap(
            moving, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

        structure, other = (_local_structure(image[..., 0]) for image in (still, moved))
        # A variance of 1 level is added: an image that is flat except for noise has no structure.
        power = (np.square(structure).mean() + 1) * (np.square(other).mean() + 1)
        return float((structure * other).mean() / np.sqrt(power)), float(cv2.absdiff(still, moved).mean())


def _shrink(image: np.ndarray) -> np.ndarray:
    """Return the thumbnail of a frame in YCrCb, slightly blurred against noise and compression blocks."""
    height, width = image.shape[:2]
    # In a large frame, averaging a part of the pixels is enough and much faster than averaging all of them.
    stride = max(round(max(height, width) / (THUMBNAIL * SAMPLES)), 1)
    scale = THUMBNAIL / max(height, width)
    # The optical flow of OpenCV reads outside of images that are smaller than its patches at a quarter of their size.
    size = (max(round(width * scale), SHORTEST), max(round(height * scale), SHORTEST))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(image[::stride, ::stride]), size, interpolation=interpolation)
    return cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb), (0, 0), 1)


def _local_structure(luma: np.ndarray) -> np.ndarray:
    """Return the difference to the local mean, float32."""
    luma = luma.astype(np.float32)
    return luma - cv2.blur(luma, (15, 15))
