"""Overview images of a folder of shards: its clips, and what the degradation does to them."""

from pathlib import Path

import cv2
import numpy as np

from keep_hf.degrade import LEVELS, TRAINING, degrade_frames

from .shards import read_clips


FRAMES_PER_CLIP = 4
FRAME_SIDE, LINE_HEIGHT = 128, 17  # in pixels
COLUMNS = 3
# More clips would not fit into a JPEG.
MAX_CLIPS = 600

DEGRADED_CLIPS, DEGRADED_SIDE = 6, 256
# The codec treats the first frame differently, so a later one is shown.
DEGRADED_FRAMES, SHOWN_FRAME = 16, 12


def draw_contact_sheet(folder: Path) -> np.ndarray:
    """Draw a few frames of each clip under its key, the size of the face, the sharpness and the turn of the head.

    Args:
        folder (`Path`): Shards written by `prepare_data.py`.

    Returns:
        `np.ndarray` of shape `(h, w, 3)`, uint8, RGB: at most 600 clips, at equal distances.
    """
    cells = []
    for clip in read_clips(folder, MAX_CLIPS):
        frames = clip.frames()
        chosen = np.linspace(0, len(frames) - 1, FRAMES_PER_CLIP).round().astype(int)
        row = np.hstack([_resize(frames[i], FRAME_SIDE) for i in chosen])
        metadata = clip.metadata
        figures = f"{metadata['num_frames']} frames, face {metadata['face_size']['median']:.0f} px, "
        figures += f"sharpness {metadata['sharpness']:.3f}, turn {metadata['turn']['median']:+.2f}"
        cells.append(np.vstack([_caption([clip.key, figures], row.shape[1]), row]))
    columns = min(COLUMNS, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])


def draw_degradations(folder: Path) -> np.ndarray:
    """Draw a frame of a few clips: sharp, degraded at the three levels, and twice with the random ranges of training.

    Args:
        folder (`Path`): Shards written by `prepare_data.py`.

    Returns:
        `np.ndarray` of shape `(h, w, 3)`, uint8, RGB: degraded frames are enlarged as in training.
    """
    columns = [(level, LEVELS[level]) for level in LEVELS] + [("training", TRAINING), ("training again", TRAINING)]
    heads = ["sharp", *(name for name, _ in columns)]
    rows = [np.hstack([_caption([head], DEGRADED_SIDE) for head in heads])]
    for number, clip in enumerate(read_clips(folder, DEGRADED_CLIPS)):
        frames = clip.frames(DEGRADED_FRAMES)
        shown = min(SHOWN_FRAME, len(frames) - 1)
        row = [_resize(frames[shown], DEGRADED_SIDE)]
        for draw, (_, degradation) in enumerate(columns):
            ranges, seed = degradation.at_size(frames.shape[1]), number * len(columns) + draw
            small = degrade_frames(frames, ranges, seed=seed, frame_rate=clip.metadata["frame_rate"])
            row.append(_resize(small[shown], DEGRADED_SIDE))
        rows.append(np.hstack(row))
    return np.vstack(rows)


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    is_smaller = side < len(image)
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR)


def _caption(lines: list[str], width: int) -> np.ndarray:
    canvas = np.full((LINE_HEIGHT * len(lines), width, 3), 255, np.uint8)
    for number, line in enumerate(lines):
        position = (4, LINE_HEIGHT * number + 12)
        cv2.putText(canvas, line, position, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas
