"""Where the restored faces are over time, and where the divider therefore starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


# Divider positions that are tried, as shares of the width.
POSITIONS = np.linspace(0.1, 0.9, 81)
# A face counts as visible on the restored side if the divider leaves this share of it there.
VISIBLE_SHARE = 0.3


@dataclass(frozen=True)
class FacePath:
    """The path of a restored face through a video.

    Attributes:
        frames (`np.ndarray`): Indices of sampled frames, `(n,)`, ascending.
        boxes (`np.ndarray`): Left, top, right and bottom in these frames, as shares of width and height, `(n, 4)`.
        weight (`float`): Mean weight of the restored face against the input, from 0 to 1.
    """

    frames: np.ndarray
    boxes: np.ndarray
    weight: float

    def importance(self) -> float:
        """Total area, weighted by how much is restored."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        return float(self.weight * sides.prod(axis=1).sum())


def collect_paths(
    boxes: Mapping[int, Mapping[int, np.ndarray]], report: Mapping[str, Any], width: int, height: int
) -> tuple[FacePath, ...]:
    """The paths of all restored faces, the most important one first.

    Args:
        boxes (`Mapping`): For each sampled frame, the box of each track in pixels, `(4,)`.
        report (`Mapping`): The report of the stream; it has the weights.
        width, height (`int`): Size of the frames in pixels.
    """
    paths = []
    for track in report["tracks"]:
        places = {frame: tracks[track["id"]] for frame, tracks in sorted(boxes.items()) if track["id"] in tracks}
        if places:
            shares = np.array([*places.values()]) / (width, height, width, height)
            paths.append(FacePath(np.array([*places]), shares.clip(0, 1), track["strength"]["weight"]))
    return tuple(sorted(paths, key=FacePath.importance, reverse=True))


def divider_start(paths: tuple[FacePath, ...]) -> float:
    """The position at which the divider shows both versions of the faces.

    The left side shows the video before, the right side the restored one. Of all positions, the best one leaves a
    visible part of a restored face on the right side for the longest time; among those, the best one divides the faces
    most evenly.

    Args:
        paths (`tuple[FacePath, ...]`): The restored faces.

    Returns:
        `float`: Share of the width; 0.5 without faces.
    """
    times = {int(frame) for path in paths for frame in path.frames}
    if not times:
        return 0.5
    visible, balance = np.zeros_like(POSITIONS), np.zeros_like(POSITIONS)
    for time in times:
        total, right = 0.0, np.zeros_like(POSITIONS)
        is_visible = np.zeros(POSITIONS.shape, dtype=bool)
        for path in paths:
            for left, top, end, bottom in path.boxes[path.frames == time]:
                share = ((end - POSITIONS) / max(end - left, 1e-6)).clip(0, 1)  # of this face, to the right
                area = path.weight * (end - left) * (bottom - top)
                total, right = total + area, right + area * share
                is_visible |= share >= VISIBLE_SHARE
        visible += is_visible
        balance += np.minimum(right, total - right) / max(total, 1e-6)
    best = np.flatnonzero(visible == visible.max())
    return float(POSITIONS[best[balance[best].argmax()]])
