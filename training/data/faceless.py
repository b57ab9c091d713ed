"""Images without a face, for the detector: what is around faces, faces taken apart, drawings, and earlier errors."""

import cv2
import numpy as np

from .drawings import draw_faceless, draw_texture, plain
from .teacher_labels import Portrait


MARGIN = 0.1  # around a box, in parts of its side
# "around": a part of a portrait beside the face; "covered": a portrait with something in front of the face; "tiles": a
# portrait in shuffled tiles; "drawn": see drawings.py; "error": what an earlier detector took for a face, if given.
KINDS = ("around", "covered", "tiles", "drawn", "error")
PROBABILITIES = ((0.34, 0.14, 0.12, 0.4, 0.0), (0.25, 0.1, 0.09, 0.28, 0.28))
TURNED = 0.11  # part of the images with a face that is not upright
TURNS = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)


def make_faceless(
    rng: np.random.Generator, portraits: list[Portrait], errors: list[np.ndarray], size: int
) -> np.ndarray:
    """Make an image without an upright face.

    A face that is turned by a quarter or more is none: the detector finds it in the turned frame.

    Args:
        rng (`np.random.Generator`): Source of randomness.
        portraits (`list[Portrait]`): Labelled images.
        errors (`list[np.ndarray]`): Images `(h, w, 3)`, uint8, RGB, in which an earlier detector found a face that is
            none; may be empty.
        size (`int`): Side of the image in pixels.

    Returns:
        `np.ndarray` of shape `(size, size, 3)`: RGB, uint8.
    """
    if rng.random() < TURNED:
        return turn_portrait(rng, portraits[rng.integers(len(portraits))], size)
    return make_empty(rng, portraits, errors, size)


def make_empty(rng: np.random.Generator, portraits: list[Portrait], errors: list[np.ndarray], size: int) -> np.ndarray:
    """Make an image without any face; see [`make_faceless`]."""
    kind = rng.choice(KINDS, p=PROBABILITIES[bool(errors)])
    portrait = portraits[rng.integers(len(portraits))]
    if kind == "around":
        image = cut_around(rng, portrait)
    elif kind == "covered":
        image = cover(rng, portrait)
    elif kind == "tiles":
        image = shuffle_tiles(rng, portrait)
    elif kind == "drawn":
        image = draw_faceless(rng, size)
    else:
        image = cut_randomly(rng, errors[rng.integers(len(errors))], least=0.75)
    return vary(rng, cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR))


def cut_around(rng: np.random.Generator, portrait: Portrait) -> np.ndarray:
    """A part of a portrait to the left, to the right, above or below the face."""
    left, top, right, bottom = with_margin(portrait)
    strips = [
        portrait.image[:, :left],
        portrait.image[:, right:],
        portrait.image[:top],
        portrait.image[bottom:],
    ]
    strips = [strip for strip in strips if min(strip.shape[:2]) >= 16]
    if not strips:
        return cover(rng, portrait)
    return cut_randomly(rng, strips[rng.integers(len(strips))], least=0.25)


def cover(rng: np.random.Generator, portrait: Portrait) -> np.ndarray:
    """A portrait with a texture, or another part of it, in front of the face."""
    image = portrait.image.copy()
    left, top, right, bottom = with_margin(portrait)
    side = max(right - left, bottom - top)
    patch = draw_texture(rng, side) if rng.random() < 0.5 else plain(rng, side)
    if rng.random() < 0.5:
        strip = image[bottom:] if image.shape[0] - bottom >= 8 else image[:, :left] if left >= 8 else patch
        patch = strip
    image[top:bottom, left:right] = cv2.resize(patch, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return image


def shuffle_tiles(rng: np.random.Generator, portrait: Portrait) -> np.ndarray:
    """A portrait whose rows of tiles are shuffled, then the tiles in each row. Single eyes and mouths are no faces."""
    tile = int(rng.choice([20, 32, 40]))
    rows = rng.permutation(cv2.resize(portrait.image, (320, 320)).reshape(-1, tile, 320, 3))
    return np.vstack([np.hstack(list(rng.permutation(np.split(row, 320 // tile, axis=1)))) for row in rows])


def turn_portrait(rng: np.random.Generator, portrait: Portrait, size: int) -> np.ndarray:
    """A portrait by a quarter turn to either side or upside down, give or take 20 degrees."""
    middle = portrait.box.reshape(2, 2).mean(axis=0)
    side = float(np.sqrt(np.prod(portrait.box[2:] - portrait.box[:2])))
    scale = size * np.exp(rng.uniform(np.log(0.12), np.log(0.9))) / side
    angle = float(rng.choice([90, 180, 270]) + rng.uniform(-20, 20))
    matrix = cv2.getRotationMatrix2D(middle.tolist(), angle, scale)
    matrix[:, 2] += rng.uniform(0.25, 0.75, 2) * size - middle
    canvas = plain(rng, size)
    flags = cv2.INTER_AREA
    return cv2.warpAffine(portrait.image, matrix, (size, size), canvas, flags, cv2.BORDER_TRANSPARENT)


def vary(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Flip and turn an image, mirror one half to the other, exchange colours."""
    if rng.random() < 0.6:
        image = cv2.rotate(image, int(rng.choice(TURNS)))
    if rng.random() < 0.5:
        image = cv2.flip(image, 1)
    if rng.random() < 0.15:  # symmetric images are taken for faces most easily
        half = image.shape[1] // 2
        image = np.hstack([image[:, :half], cv2.flip(image[:, : image.shape[1] - half], 1)])
    if rng.random() < 0.25:
        image = cv2.transform(image, np.eye(3)[rng.permutation(3)])
    return image


def cut_randomly(rng: np.random.Generator, image: np.ndarray, least: float) -> np.ndarray:
    """A random part of an image, with at least `least` of its height and width."""
    height, width = (max(round(side * rng.uniform(least, 1)), 8) for side in image.shape[:2])
    top, left = (int(rng.integers(max(side, 1))) for side in (image.shape[0] - height + 1, image.shape[1] - width + 1))
    return image[top : top + height, left : left + width]


def with_margin(portrait: Portrait) -> tuple[int, int, int, int]:
    """The box of the face with a margin, inside the image."""
    height, width = portrait.image.shape[:2]
    left, top, right, bottom = portrait.box
    margin = MARGIN * max(right - left, bottom - top)
    return (
        int(np.clip(left - margin, 0, width - 8)),
        int(np.clip(top - margin, 0, height - 8)),
        int(np.clip(right + margin, 8, width)),
        int(np.clip(bottom + margin, 8, height)),
    )
