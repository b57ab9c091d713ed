"""Pictures of what there is to train on: all clips of a folder of shards, and what the degradation does to them."""

from pathlib import Path

import cv2
import numpy as np

from keep_hf.degrade import LEVELS, TRAINING, degrade_frames

from .shards import read_clips


LOOKS = 4  # of a clip in the contact sheet
LOOK, CAPTION = 128, 34  # sides in pixels
COLUMNS = 3
# More would not fit into a JPEG, nor be looked at.
MOST_CLIPS = 600

DEGRADED_CLIPS, DEGRADED_SIDE = 6, 256
# The codec spends its bits differently on the first frame; a later one looks like the rest of the clip.
DEGRADED_FRAMES, SHOWN_FRAME = 16, 12


def draw_contact_sheet(folder: Path) -> np.ndarray:
    """Draw a few frames of each clip under its key, the size of the face and the sharpness.

    Args:
        folder (`Path`): Shards of `prepare_data.py`.

    Returns:
        `np.ndarray` of shape `(h, w, 3)`, uint8: RGB; of more than 600 clips it shows 600.
    """
    cells = []
    for clip in read_clips(folder, MOST_CLIPS):
        frames = clip.frames()
        chosen = np.linspace(0, len(frames) - 1, LOOKS).round().astype(int)
        looks = np.hstack([_resize(frames[i], LOOK) for i in chosen])
        about = clip.about
        figures = f"{about['num_frames']} frames, face {about['face_size']['median']:.0f} px, "
        figures += f"sharpness {about['sharpness']:.3f}, turn {about['turn']['median']:+.2f}"
        cells.append(np.vstack([_caption([clip.key, figures], looks.shape[1]), looks]))
    columns = min(COLUMNS, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])


def draw_degradations(folder: Path) -> np.ndarray:
    """Draw a frame of a few clips: sharp, at the three levels, and twice as drawn in training.

    Args:
        folder (`Path`): Shards of `prepare_data.py`.

    Returns:
        `np.ndarray` of shape `(h, w, 3)`, uint8: RGB; degraded frames are enlarged as training does.
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
            small = degrade_frames(frames, ranges, seed=seed, frame_rate=clip.about["frame_rate"])
            row.append(_resize(small[shown], DEGRADED_SIDE))
        rows.append(np.hstack(row))
    return np.vstack(rows)


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    shrinks = side < len(image)
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _caption(lines: list[str], width: int) -> np.ndarray:
    room = np.full((CAPTION // 2 * len(lines), width, 3), 255, np.uint8)
    for number, line in enumerate(lines):
        where = (4, CAPTION // 2 * number + 12)
        cv2.putText(room, line, where, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return room
