"""Small images of every person before and after, read from the two videos."""

import base64
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...video.open import open_video


SIDE = 160  # pixels
MARGIN = 0.2  # around the box, relative to its longer side
JPEG_QUALITY = 85
MAX_PEOPLE = 100  # about 10 kB each


def draw_thumbnails(report: Mapping[str, Any], source: Path, target: Path) -> dict[int, tuple[str, str]]:
    """Draw every person before and after, in the frame where their face is largest and clearest.

    Both videos are decoded once, up to the last of these frames.

    Args:
        report (`Mapping[str, Any]`): The report of the video, from [`KeepPipeline.restore_video`].
        source, target (`Path`): The video before and after.

    Returns:
        `dict[int, tuple[str, str]]`: By the number of the track, two JPEG images of 160 x 160 pixels as `data:` URLs;
            of at most 100 people.
    """
    wanted: dict[int, list[tuple[int, list[float]]]] = {}  # by frame: number of the track, and box
    for track in report["tracks"][:MAX_PEOPLE]:
        wanted.setdefault(track["clearest"]["frame"], []).append((track["id"], track["clearest"]["box"]))
    if not wanted:
        return {}
    thumbnails: dict[int, tuple[str, str]] = {}
    # Damage of the source was reported when it was restored.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rate, stream = report["frame_rate"], report["video_stream"]
        with open_video(source, rate, video_stream=stream) as before, open_video(target, rate) as after:
            for index, pair in enumerate(zip(before.read(), after.read(), strict=False)):
                for number, box in wanted.pop(index, []):
                    one, other = (frame.image for frame in pair)
                    scales = np.array(other.shape[1::-1]) / one.shape[1::-1]
                    thumbnails[number] = (
                        to_data_url(crop_square(one, np.array(box))),
                        to_data_url(crop_square(other, np.array(box) * np.tile(scales, 2))),
                    )
                if not wanted:
                    break
    return thumbnails


def crop_square(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Crop a square around a box.

    Args:
        image (`np.ndarray`): The frame, uint8 RGB `(h, w, 3)`.
        box (`np.ndarray`): Left, top, right and bottom in pixels.

    Returns:
        `np.ndarray`: uint8 RGB `(160, 160, 3)`. Beyond the frame its border is repeated.
    """
    centre = (box[:2] + box[2:]) / 2
    side = (1 + 2 * MARGIN) * float((box[2:] - box[:2]).max())
    scale = SIDE / side
    matrix = np.array([[scale, 0, SIDE / 2 - scale * centre[0]], [0, scale, SIDE / 2 - scale * centre[1]]])
    if scale < 1:  # warpAffine does not average
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        matrix[:, :2] /= scale
    return cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def to_data_url(image: np.ndarray) -> str:
    """Encode an uint8 RGB image as a `data:` URL with a JPEG."""
    is_encoded, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert is_encoded
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
