"""Training examples of the face detector: mosaics of faces to find, and close-ups of faces to place landmarks in.

All are composed of labelled portraits, at random sizes and angles, and degraded.
"""

import cv2
import numpy as np
import torch

from keep_hf.faces.detector import CLOSE_UP_MARGIN
from keep_hf.video.pixels import to_tensor

from ..loop.stage import Batch, TrainingSet
from .images import compress
from .teacher_labels import Portrait


MAX_FACES = 5  # in a mosaic
# Every example is random, so the length of an epoch is arbitrary.
EXAMPLES_PER_EPOCH = 4096


class DetectorExamples(TrainingSet):
    """Mosaics, each with some close-ups.

    Args:
        portraits (`list[Portrait]`): Labelled images.
        mosaic_size (`int`): Side of the mosaics in pixels.
        close_ups (`int`): Close-ups per mosaic.
        close_up_size (`int`): Side of the close-ups in pixels.
        seed (`int`): Seed of all random numbers.

    Each item is a dict of float tensors: `mosaic` `(3, mosaic_size, mosaic_size)` in [-1, 1]; `boxes` `(5, 4)`, left,
    top, right and bottom in pixels, with rows of zeros after the last face; `close_ups` `(n, 3, size, size)` in
    [-1, 1]; and `landmarks` `(n, 5, 2)` from the centre of each close-up, in sides of it.
    """

    def __init__(
        self, portraits: list[Portrait], mosaic_size: int, close_ups: int, close_up_size: int, seed: int
    ) -> None:
        self.portraits, self.mosaic_size, self.seed = portraits, mosaic_size, seed
        self.close_ups, self.close_up_size = close_ups, close_up_size

    def __len__(self) -> int:
        return EXAMPLES_PER_EPOCH

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        mosaic, boxes = make_mosaic(rng, self.portraits, self.mosaic_size)
        pairs = [make_close_up(rng, self.portraits, self.close_up_size) for _ in range(self.close_ups)]
        padding = np.zeros((MAX_FACES - len(boxes), 4))
        return {
            "mosaic": to_tensor(mosaic),
            "boxes": torch.from_numpy(np.concatenate([boxes, padding])).float(),
            "close_ups": to_tensor([image for image, _ in pairs]),
            "landmarks": torch.from_numpy(np.stack([landmarks for _, landmarks in pairs])).float(),
        }


def make_mosaic(rng: np.random.Generator, portraits: list[Portrait], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw up to five faces, from 20 pixels to larger than the mosaic, on a background, without overlap.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the mosaic `(size, size, 3)`, uint8, RGB, and the boxes of the faces `(n, 4)`.
    """
    canvas = make_background(rng, portraits, size)
    count = rng.choice(MAX_FACES + 1, p=[0.05, 0.4, 0.15, 0.15, 0.15, 0.1])
    max_side = 1.17 * size if count == 1 else 0.5 * size
    found: list[np.ndarray] = []
    for _ in range(count):
        portrait = draw_portrait(rng, portraits)
        side = float(np.exp(rng.uniform(np.log(20), np.log(max_side))))
        scale, angle = side / side_of(portrait.box), np.deg2rad(rng.uniform(-30, 30))
        corners = portrait.box.reshape(2, 2)
        middle, half = corners.mean(axis=0), (corners[1] - corners[0]) * scale / 2
        matrix = similarity_transform(angle, scale, middle, rng.uniform(0.3 * side, size - 0.3 * side, 2))
        target = matrix[:, :2] @ middle + matrix[:, 2]
        # The part of the portrait that is drawn: all of it, or little more than the face.
        reach = half * rng.uniform(1.2, 6.0, 2)
        patch = np.concatenate([target - reach, target + reach])
        if any(np.all(patch[:2] < box[2:]) and np.all(box[:2] < patch[2:]) for box in found):
            continue
        # Shrunk by averaging first, because the warp below would alias.
        step = max(int(1 / scale), 1)
        source = cv2.resize(portrait.image, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
        from_source = matrix @ np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2], [0, 0, 1]])
        left, top, right, bottom = np.clip(np.rint(patch), 0, size).astype(int)
        opaque = np.dstack([source, np.full_like(source[..., 0], 255)])
        warped = cv2.warpAffine(opaque, from_source, (size, size))[top:bottom, left:right]
        inside = warped[..., 3] == 255
        canvas[top:bottom, left:right][inside] = warped[inside][:, :3]
        found.append(np.concatenate([target - half, target + half]))
    boxes = np.reshape(found, (-1, 4))
    return degrade(rng, canvas, min((side_of(box) for box in boxes), default=40.0)), boxes


def make_background(rng: np.random.Generator, portraits: list[Portrait], size: int) -> np.ndarray:
    """An image without a face: a strip beside a face, a portrait in shuffled tiles, or a random texture."""
    portrait = portraits[rng.integers(len(portraits))]
    kind = rng.integers(3)
    if kind == 0:
        left, _, right, _ = portrait.box.astype(int)
        strips = portrait.image[:, : max(left, 1)], portrait.image[:, min(right, portrait.image.shape[1] - 1) :]
        image = max(strips, key=lambda strip: strip.shape[1])
    elif kind == 1:
        # The rows of tiles are shuffled, then the tiles in each row. Single eyes and mouths are no faces.
        tile = int(rng.choice([32, 40, 64]))
        rows = rng.permutation(cv2.resize(portrait.image, (320, 320)).reshape(-1, tile, 320, 3))
        image = np.vstack([np.hstack(list(rng.permutation(np.split(row, 320 // tile, axis=1)))) for row in rows])
    else:
        grid = rng.integers(2, 40, 2)
        image = (rng.random((*grid, 3)) * 255 * rng.random() + rng.integers(0, 128)).clip(0, 255).astype(np.uint8)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)


def make_close_up(rng: np.random.Generator, portraits: list[Portrait], size: int) -> tuple[np.ndarray, np.ndarray]:
    """A close-up as the detector cuts it around landmarks with an error.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the close-up `(size, size, 3)`, uint8, RGB, and the true landmarks `(5, 2)`
        from its centre, in sides of it.
    """
    portrait = draw_portrait(rng, portraits)
    middle = portrait.landmarks.mean(axis=0)
    spread = np.sqrt(((portrait.landmarks - middle) ** 2).sum(axis=1).mean())
    # Half of the boxes have a large error, the others a small one.
    error = 1.0 if rng.random() < 0.5 else 0.25
    side = 2 * CLOSE_UP_MARGIN * spread * np.exp(rng.normal(0, 0.2 * error))
    target = size + rng.normal(0, 0.1 * error, 2) * 2 * size
    # Cut at twice the size and averaged.
    matrix = similarity_transform(np.deg2rad(rng.uniform(-35, 35)), 2 * size / side, middle, target)
    wide = cv2.warpAffine(portrait.image, matrix, (2 * size, 2 * size), borderMode=cv2.BORDER_REPLICATE)
    image = cv2.resize(wide, (size, size), interpolation=cv2.INTER_AREA)
    landmarks = (portrait.landmarks @ matrix[:, :2].T + matrix[:, 2] + 0.5) / (2 * size) - 0.5
    return degrade(rng, image, 0.6 * size), landmarks


def degrade(rng: np.random.Generator, image: np.ndarray, smallest: float) -> np.ndarray:
    """Change light and colour, blur, shrink, add noise and compress; the size of the image stays the same.

    Args:
        rng (`np.random.Generator`): Source of randomness.
        image (`np.ndarray` of shape `(h, w, 3)`): uint8, RGB.
        smallest (`float`): Side of the smallest face in pixels. Its resolution stays about 14 pixels or more.
    """
    height, width = image.shape[:2]
    limit = max(smallest / 14, 1.0)
    if rng.random() < 0.1:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    light = 255 * (np.arange(256) / 255) ** np.exp(rng.normal(0, 0.35))
    gains = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.06, 3))
    image = cv2.LUT(image, (light[:, None] * gains).clip(0, 255).astype(np.uint8)[None])
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
