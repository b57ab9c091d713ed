"""Training examples of the face detector: mosaics of faces to find, and close-ups to check and to place landmarks in.

All are composed of labelled portraits, at random sizes and angles, and of images without a face, and degraded.
"""

import cv2
import numpy as np
import torch

from keep_hf.faces.detector_parts.close_ups import MARGIN, spread
from keep_hf.video.pixels import to_tensor

from ..loop.stage import Batch, TrainingSet
from .drawings import draw_texture, paste, plain
from .faceless import make_faceless
from .images import compress
from .teacher_labels import Portrait


MAX_FACES = 5  # in a mosaic
SMALLEST_FACE = 10  # pixels
FACES_AMONG_CLOSE_UPS = 0.65
SEPIA = np.array([1.07, 0.96, 0.77])
# Every example is random, so the length of an epoch is arbitrary.
EXAMPLES_PER_EPOCH = 4096


class DetectorExamples(TrainingSet):
    """Mosaics, each with some close-ups.

    Args:
        portraits (`list[Portrait]`): Labelled images.
        errors (`list[np.ndarray]`): Images without a face that an earlier detector took for one; may be empty.
        mosaic_size (`int`): Side of the mosaics in pixels.
        close_ups (`int`): Close-ups per mosaic.
        close_up_size (`int`): Side of the close-ups in pixels.
        seed (`int`): Seed of all random numbers.

    Each item is a dict of float tensors: `mosaic` `(3, mosaic_size, mosaic_size)` in [-1, 1]; `boxes` `(5, 4)`, left,
    top, right and bottom in pixels, with rows of zeros after the last face; `close_ups` `(n, 3, size, size)` in
    [-1, 1]; `is_face` `(n,)`, 1 or 0; and `landmarks` `(n, 5, 2)` from the centre of each close-up, in sides of it,
    zeros where there is no face.
    """

    def __init__(
        self,
        portraits: list[Portrait],
        errors: list[np.ndarray],
        mosaic_size: int,
        close_ups: int,
        close_up_size: int,
        seed: int,
    ) -> None:
        self.portraits, self.errors, self.mosaic_size, self.seed = portraits, errors, mosaic_size, seed
        self.close_ups, self.close_up_size = close_ups, close_up_size

    def __len__(self) -> int:
        return EXAMPLES_PER_EPOCH

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        mosaic, boxes = make_mosaic(rng, self.portraits, self.errors, self.mosaic_size)
        images, landmarks, is_face = [], np.zeros((self.close_ups, 5, 2)), np.zeros(self.close_ups)
        for i in range(self.close_ups):
            if rng.random() < FACES_AMONG_CLOSE_UPS:
                image, landmarks[i] = make_close_up(rng, self.portraits, self.close_up_size)
                is_face[i] = 1
            else:
                image = make_wrong_close_up(rng, self.portraits, self.errors, self.close_up_size)
            images.append(image)
        padding = np.zeros((MAX_FACES - len(boxes), 4))
        return {
            "mosaic": to_tensor(mosaic),
            "boxes": torch.from_numpy(np.concatenate([boxes, padding])).float(),
            "close_ups": to_tensor(images),
            "landmarks": torch.from_numpy(landmarks).float(),
            "is_face": torch.from_numpy(is_face).float(),
        }


def make_mosaic(
    rng: np.random.Generator, portraits: list[Portrait], errors: list[np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw up to five faces, from 10 pixels to larger than the mosaic, on a background, without overlap.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the mosaic `(size, size, 3)`, uint8, RGB, and the boxes of the faces `(n, 4)`.
    """
    canvas = make_faceless(rng, portraits, errors, size)
    if rng.random() < 0.4:  # The edges of a pasted image are no sign of a face.
        patch = make_faceless(rng, portraits, errors, int(size * rng.uniform(0.15, 0.6)))
        paste(rng, canvas, patch)
    count = rng.choice(MAX_FACES + 1, p=[0.2, 0.35, 0.15, 0.1, 0.1, 0.1])
    max_side = 1.17 * size if count == 1 else 0.5 * size
    boxes: list[np.ndarray] = []
    for _ in range(count):
        side = float(np.exp(rng.uniform(np.log(SMALLEST_FACE), np.log(max_side))))
        box = draw_face(rng, canvas, draw_portrait(rng, portraits), side, boxes)
        if box is not None:
            boxes.append(box)
    found = np.reshape(boxes, (-1, 4))
    return degrade(rng, canvas, min((side_of(box) for box in found), default=40.0)), found


def draw_face(
    rng: np.random.Generator, canvas: np.ndarray, portrait: Portrait, side: float, taken: list[np.ndarray]
) -> np.ndarray | None:
    """Draw a portrait with a face of a given side at a random place.

    Returns:
        `np.ndarray` of shape `(4,)`, *optional*: the box; `None` if the place is `taken`, and nothing is drawn.
    """
    size = len(canvas)
    corners, scale = portrait.box.reshape(2, 2), side / side_of(portrait.box)
    middle, half = corners.mean(axis=0), (corners[1] - corners[0]) * scale / 2
    target = rng.uniform(0.3 * side, size - 0.3 * side, 2)
    matrix = similarity_transform(draw_angle(rng), scale, middle, target)
    # The part of the portrait that is drawn: all of it, or little more than the face.
    reach = half * rng.uniform(1.2, 6.0, 2)
    patch = np.concatenate([target - reach, target + reach])
    if any(np.all(patch[:2] < box[2:]) and np.all(box[:2] < patch[2:]) for box in taken):
        return None
    # Shrunk by averaging first, because the warp below would alias.
    step = max(int(1 / scale), 1)
    source = cv2.resize(portrait.image, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
    from_source = matrix @ np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2], [0, 0, 1]])
    left, top, right, bottom = np.clip(np.rint(patch), 0, size).astype(int)
    opaque = np.dstack([source, np.full_like(source[..., 0], 255)])
    warped = cv2.warpAffine(opaque, from_source, (size, size))[top:bottom, left:right]
    inside = warped[..., 3] == 255
    canvas[top:bottom, left:right][inside] = warped[inside][:, :3]
    hide_part(rng, canvas, target, half)
    return np.concatenate([target - half, target + half])


def make_close_up(rng: np.random.Generator, portraits: list[Portrait], size: int) -> tuple[np.ndarray, np.ndarray]:
    """A close-up as the detector cuts it around landmarks with an error.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the close-up `(size, size, 3)`, uint8, RGB, and the true landmarks `(5, 2)`
        from its centre, in sides of it.
    """
    portrait = draw_portrait(rng, portraits)
    # Half of the boxes have a large error, the others a small one.
    error = 1.0 if rng.random() < 0.5 else 0.25
    shift, zoom = rng.normal(0, 0.1 * error, 2), np.exp(rng.normal(0, 0.2 * error))
    image, matrix = cut_close_up(portrait, size, draw_angle(rng), shift, zoom)
    landmarks = (portrait.landmarks @ matrix[:, :2].T + matrix[:, 2] + 0.5) / size - 0.5
    middle = (landmarks.mean(axis=0) + 0.5) * size
    hide_part(rng, image, middle, np.full(2, 0.45 * size))
    return degrade(rng, image, 0.6 * size), landmarks


def make_wrong_close_up(
    rng: np.random.Generator, portraits: list[Portrait], errors: list[np.ndarray], size: int
) -> np.ndarray:
    """A close-up `(size, size, 3)` without a face, or beside one."""
    if rng.random() < 0.2:
        angle = rng.uniform(0, 2 * np.pi)
        shift = rng.uniform(0.5, 1.2) * np.array([np.cos(angle), np.sin(angle)])
        portrait = draw_portrait(rng, portraits)
        image, _ = cut_close_up(portrait, size, draw_angle(rng), shift, np.exp(rng.normal(0, 0.2)))
    else:
        image = make_faceless(rng, portraits, errors, size)
    return degrade(rng, image, 0.6 * size)


def cut_close_up(
    portrait: Portrait, size: int, angle: float, shift: np.ndarray, zoom: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the square around a face, shifted by parts of its side and enlarged.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the square `(size, size, 3)`, and the matrix `(2, 3)` from the portrait to it.
    """
    middle = portrait.landmarks.mean(axis=0)
    side = 2 * MARGIN * spread(portrait.landmarks) * zoom
    # Cut at twice the size and averaged.
    matrix = similarity_transform(angle, 2 * size / side, middle, size + shift * 2 * size)
    wide = cv2.warpAffine(portrait.image, matrix, (2 * size, 2 * size), borderMode=cv2.BORDER_REPLICATE)
    half = matrix / 2
    half[:, 2] -= 0.25  # (x + 1/2) / 2 - 1/2: the centres of the pixels
    return cv2.resize(wide, (size, size), interpolation=cv2.INTER_AREA), half


def hide_part(rng: np.random.Generator, image: np.ndarray, middle: np.ndarray, half: np.ndarray) -> None:
    """Cover up to a third of a face from one side, in one of seven cases: a hand, a microphone, a mask, a book."""
    if rng.random() > 1 / 7:
        return
    first, last = middle - half, middle + half
    side, depth = rng.integers(4), rng.uniform(0.1, 0.35)
    axis = side % 2
    if side < 2:
        last[axis] = first[axis] + depth * (last[axis] - first[axis])
        first[axis] -= half[axis]
    else:
        first[axis] = last[axis] - depth * (last[axis] - first[axis])
        last[axis] += half[axis]
    left, top = np.clip(first, 0, image.shape[1::-1]).astype(int)
    right, bottom = np.clip(last, 0, image.shape[1::-1]).astype(int)
    if right > left and bottom > top:
        patch = draw_texture(rng, 32) if rng.random() < 0.5 else plain(rng, 32)
        image[top:bottom, left:right] = cv2.resize(patch, (right - left, bottom - top))


def degrade(rng: np.random.Generator, image: np.ndarray, smallest: float) -> np.ndarray:
    """Change light and colour, blur, shrink, add noise and compress; the size of the image stays the same.

    Args:
        rng (`np.random.Generator`): Source of randomness.
        image (`np.ndarray` of shape `(h, w, 3)`): uint8, RGB.
        smallest (`float`): Side of the smallest face in pixels. Its resolution stays about 14 pixels or more.
    """
    height, width = image.shape[:2]
    limit = max(smallest / 14, 1.0)
    image = change_light(rng, image)
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.3 + 0.7 * min(limit, 4)))
    if rng.random() < 0.1:
        length = int(rng.uniform(2, 2 + 2 * min(limit, 4)))
        kernel = np.diag(np.ones(length)) if rng.random() < 0.5 else np.ones((1, length))
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if rng.random() < 0.5:
        scale = 1 / rng.uniform(1, min(limit, 5))
        interpolation = int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)
    if rng.random() < 0.5:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(1, 18)
        image = (image + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        image = compress(image, quality=int(rng.uniform(8, 70)))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def change_light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Change exposure, contrast and colour; a third of the images becomes grey or sepia, an eighth dark."""
    is_grey, is_dark = rng.random() < 0.33, rng.random() < 0.125
    if is_grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    light = 255 * (np.arange(256) / 255) ** np.exp(rng.normal(0, 0.35))
    colours = rng.normal(0, 0.01 if is_grey else 0.06 if rng.random() < 0.8 else 0.2, 3)
    gains = np.exp(rng.normal(0, 0.2) + colours) * (rng.uniform(0.12, 0.5) if is_dark else 1)
    if is_grey and rng.random() < 0.25:
        gains = gains * SEPIA
    black = rng.uniform(0, 60) if rng.random() < 0.2 else 0  # faded
    return cv2.LUT(image, (black + light[:, None] * gains * (1 - black / 255)).clip(0, 255).astype(np.uint8)[None])


def draw_angle(rng: np.random.Generator) -> float:
    """The angle of a face in the plane, in radians: at most 45 degrees, mostly small."""
    return float(np.deg2rad(rng.uniform(-45, 45) if rng.random() < 0.35 else np.clip(rng.normal(0, 12), -45, 45)))


def draw_portrait(rng: np.random.Generator, portraits: list[Portrait]) -> Portrait:
    """A random portrait, mirrored in half of the cases."""
    portrait = portraits[rng.integers(len(portraits))]
    return portrait.mirrored() if rng.random() < 0.5 else portrait


def side_of(box: np.ndarray) -> float:
    """The geometric mean of width and height."""
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))


def similarity_transform(angle: float, scale: float, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The matrix `(2, 3)` that rotates and scales about the point `source` and moves it to `target`."""
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([turn, (target - turn @ source)[:, None]], axis=1)
