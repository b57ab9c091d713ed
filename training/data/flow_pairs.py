"""Pairs of degraded face images whose optical flow is known.

A smooth random flow is drawn first, and both images are then sampled from one portrait:

    image 2 (p) = portrait(A p)        image 1 (p) = portrait(A (p + flow(p)))        A: a random placement of the crop

So the flow from image 1 to image 2 is exact, and no pixel is resampled twice. In some pairs a face moves in front of
another portrait, which has its own flow. Both images are degraded alike (blur, low resolution, noise, compression),
because KEEP estimates flow between degraded frames.
"""

import math
from pathlib import Path

import cv2
import numpy as np
import torch

from keep_hf.video.media_files import IMAGE_SUFFIXES, find_images
from keep_hf.video.pixels import to_tensor

from ..loop.stage import Batch, TrainingSet
from .images import compress, read_image


MAX_FLOW = 24 / 256  # fraction of the side of the image


class FlowPairs(TrainingSet):
    """Pairs of degraded images with the flow between them.

    Args:
        sources (`list[str]`): Folders of portraits, searched at any depth.
        size (`int`): Side of the images in pixels.
        seed (`int`): Seed of all random numbers.

    Each item is a dict of float tensors: `image1` and `image2` `(3, size, size)` in [-1, 1]; `flow` `(2, size, size)`
    in pixels; `visible` `(1, size, size)`, 1 where a pixel of image 1 is visible in image 2 and 0 elsewhere.

    Raises:
        ValueError: If there are no images.
    """

    def __init__(self, sources: list[str], size: int, seed: int) -> None:
        self.paths = [path for source in sources for path in find_images(Path(source))]
        self.size, self.seed = size, seed
        if not self.paths:
            raise ValueError(f"There are no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in {', '.join(sources)}.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        grid = np.stack(np.meshgrid(np.arange(self.size), np.arange(self.size)), axis=-1).astype(np.float32)
        max_flow = MAX_FLOW * self.size

        face, matrix, offset = self._place(self.paths[index], rng)
        flow = random_flow(rng, grid, max_flow)
        image2 = sample(face, grid @ matrix + offset)
        image1 = sample(face, (grid + flow) @ matrix + offset)
        visible = np.ones((self.size, self.size), bool)
        if rng.random() < 0.4:
            # A part of the face, in front of another portrait with its own flow, which it partly hides.
            back, matrix, offset = self._place(self.paths[rng.integers(len(self.paths))], rng)
            back_flow = random_flow(rng, grid, max_flow / 2)
            mask2 = soft_ellipse(rng, self.size)
            mask1, hidden = sample(mask2, grid + flow), sample(mask2, grid + back_flow)
            weight1, weight2 = mask1[..., None], mask2[..., None]
            image2 = weight2 * image2 + (1 - weight2) * sample(back, grid @ matrix + offset)
            image1 = weight1 * image1 + (1 - weight1) * sample(back, (grid + back_flow) @ matrix + offset)
            visible = (mask1 > 0.5) | (hidden < 0.5)
            flow = np.where(weight1 > 0.5, flow, back_flow)

        gain, bias = 1 + rng.normal() * 0.15, rng.normal() * 15
        images = [np.clip(image * (gain + rng.normal() * 0.01) + bias, 0, 255) for image in (image1, image2)]
        image1, image2 = degrade(rng, [image.astype(np.uint8) for image in images])
        return {
            "image1": to_tensor(image1),
            "image2": to_tensor(image2),
            "flow": torch.from_numpy(flow.transpose(2, 0, 1).astype(np.float32)),
            "visible": torch.from_numpy(visible[None].astype(np.float32)),
        }

    def _place(self, path: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The image, small enough not to alias, and the matrix and offset that place the crop in it."""
        image = read_image(path)
        shrink = self.size * rng.uniform(1.0, 1.8) / min(image.shape[:2])
        if shrink < 1:
            image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
        angle, zoom = rng.normal() * 0.2, rng.uniform(0.8, 1.05)
        matrix = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        middle = np.array(image.shape[1::-1]) / 2 + rng.uniform(-0.15, 0.15, 2) * self.size
        return image, matrix.T, middle - matrix @ np.full(2, self.size / 2)


def random_flow(rng: np.random.Generator, grid: np.ndarray, max_flow: float) -> np.ndarray:
    """Shift, rotation, zoom and deformations at several scales: mostly small, rarely up to `max_flow` pixels long."""
    size = len(grid)
    strength = max_flow * rng.random() ** 3
    angle, zoom = rng.normal(size=2) * strength / size
    turn = np.array([[zoom, -angle], [angle, zoom]], np.float32)
    centre = rng.uniform(0.3, 0.7, 2) * size
    flow = (grid - centre) @ turn.T + rng.normal(size=2) * strength * 0.5 * (rng.random() < 0.7)
    for cells in (2, 4, 8, 14):
        if rng.random() < 0.6:
            flow = flow + smooth_field(rng, size, cells) * strength * rng.random() / cells
    peak = np.sqrt((flow**2).sum(-1)).max()
    return (flow * min(1.0, max_flow / max(peak, 1e-6))).astype(np.float32)


def smooth_field(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """A random vector field `(size, size, 2)` of unit strength that changes over `size / cells` pixels."""
    coarse = rng.normal(size=(cells + 2, cells + 2, 2)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def soft_ellipse(rng: np.random.Generator, size: int) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    centre, axes = rng.uniform(0.35, 0.65, 2) * size, rng.uniform(0.15, 0.45, 2) * size
    cv2.ellipse(mask, centre.astype(int).tolist(), axes.astype(int).tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
    return cv2.GaussianBlur(mask, (0, 0), 1)


def sample(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y = np.split(points.astype(np.float32), 2, axis=-1)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def degrade(rng: np.random.Generator, images: list[np.ndarray]) -> list[np.ndarray]:
    """Degrade images with the same blur, resolution, strength of noise and compression; the noise itself differs."""
    height, width = images[0].shape[:2]
    if rng.random() < 0.1:
        return images
    blur = rng.uniform(0.2, 3.0) * height / 256
    scale = rng.uniform(1, 5)
    noise = rng.uniform(0, 12) * (rng.random() < 0.7)
    quality = int(rng.integers(20, 95))
    degraded = []
    for image in images:
        image = cv2.GaussianBlur(image, (0, 0), blur)
        image = cv2.resize(image, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        image = np.clip(image + rng.normal(size=image.shape) * noise, 0, 255).astype(np.uint8)
        degraded.append(cv2.resize(compress(image, quality), (width, height), interpolation=cv2.INTER_LINEAR))
    return degraded
