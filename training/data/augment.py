"""Augmentation of portraits: other shapes, other light, blends of two people. Images are float RGB in [0, 1].

A portrait is changed once, before it moves, so that all frames of a clip show one person in one light.
"""

import cv2
import numpy as np


def smooth_noise(random: np.random.Generator, size: int, cells: int, channels: int) -> np.ndarray:
    """Normal noise `(size, size, channels)` that changes over `size / cells` pixels."""
    coarse = random.normal(size=(cells + 2, cells + 2, channels)).astype(np.float32)
    fine = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return fine.reshape(size, size, channels)


def reshape(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Bend the face smoothly, by up to a few percent of its size, and make it wider or narrower."""
    size = len(image)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).astype(np.float32)
    bend = smooth_noise(random, size, int(random.integers(2, 5)), 2) * size * random.uniform(0, 0.02)
    stretch = (grid - size / 2) * random.normal(0, 0.04, 2).astype(np.float32)
    x, y = np.split((grid + bend + stretch).astype(np.float32), 2, axis=-1)
    bent = cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return bent.clip(0, 1)  # cubic interpolation overshoots at edges


def light(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Change the light: brighter on one side, of another colour, with more or less contrast."""
    size = len(image)
    shade = smooth_noise(random, size, int(random.integers(1, 3)), 1) * random.uniform(0, 0.3)
    tint = random.normal(0, 0.05, 3).astype(np.float32)
    gamma = np.float32(np.exp(random.normal(0, 0.2)))
    return np.clip(np.power(image, gamma) * np.exp(shade + tint), 0, 1)


def blend(image: np.ndarray, other: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blend two aligned faces: regions of the second, with soft borders, in the colours of the first."""
    size = len(image)
    mask = 1 / (1 + np.exp(-8 * smooth_noise(random, size, 2, 1)))
    middle = slice(size // 4, 3 * size // 4)
    face, other_face = image[middle, middle], other[middle, middle]
    matched = (other - other_face.mean((0, 1))) * (face.std() / max(other_face.std(), 1e-3)) + face.mean((0, 1))
    return np.clip(mask * matched + (1 - mask) * image, 0, 1)
