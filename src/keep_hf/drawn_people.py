"""Drawn people who sway before a wall: a film that face detectors take for real, made where there is no other."""

from collections.abc import Iterator

import cv2
import numpy as np


SKINS = ((205, 160, 135), (150, 105, 80), (225, 185, 165))
HAIRS = ((60, 40, 30), (25, 22, 20), (150, 110, 60))
SHARPNESS = 4  # times finer than the picture, then averaged: smooth edges


def draw_person(size: int, who: int = 0) -> np.ndarray:
    """Draw the head and shoulders of a person.

    Args:
        size (`int`): Side of the picture in pixels; the face is about half of it wide.
        who (`int`, *optional*, defaults to 0): Number of the person, for the colours.

    Returns:
        `np.ndarray` of shape `(size, size, 3)`: RGB, uint8.
    """
    skin, hair = np.array(SKINS[who % 3]), HAIRS[who % 3]
    shade, light = skin * 0.82, np.minimum(skin * 1.06, 255)
    side = size * SHARPNESS
    picture = np.full((side, side, 3), (110, 125, 140), np.uint8)

    def ellipse(x: float, y: float, width: float, height: float, colour, turn: float = 0) -> None:
        """With the middle, and half the width and height, in sides of the picture."""
        middle, axes = (round(x * side), round(y * side)), (round(width * side), round(height * side))
        colour = tuple(float(value) for value in colour)
        cv2.ellipse(picture, middle, axes, turn, 0, 360, colour, cv2.FILLED, cv2.LINE_AA)

    ellipse(0.5, 1.02, 0.42, 0.22, (70 + 40 * (who % 3), 80, 110))  # shoulders
    ellipse(0.5, 0.82, 0.13, 0.2, shade)  # neck
    ellipse(0.5, 0.4, 0.3, 0.36, hair)
    ellipse(0.5, 0.49, 0.245, 0.33, skin)
    ellipse(0.5, 0.17, 0.22, 0.09, hair)
    for way in (-1, 1):
        ellipse(0.5 + way * 0.255, 0.5, 0.03, 0.065, shade)  # ear
        eye = 0.5 + way * 0.105
        ellipse(eye, 0.44, 0.062, 0.04, shade)
        ellipse(eye, 0.445, 0.05, 0.024, (245, 240, 235))
        ellipse(eye, 0.445, 0.022, 0.024, (70, 50, 35))
        ellipse(eye, 0.445, 0.01, 0.011, (10, 10, 10))
        ellipse(eye, 0.385, 0.065, 0.013, hair, turn=way * 6)
        ellipse(0.5 + way * 0.13, 0.6, 0.06, 0.05, skin * 0.93 + (18, 6, 6))  # cheek
    ellipse(0.5, 0.53, 0.02, 0.1, light)  # nose
    ellipse(0.5, 0.605, 0.045, 0.025, shade)
    for way in (-1, 1):
        ellipse(0.5 + way * 0.022, 0.615, 0.01, 0.007, (90, 55, 45))
    ellipse(0.5, 0.695, 0.085, 0.026, (165, 80, 80))  # lips
    ellipse(0.5, 0.693, 0.085, 0.006, (90, 35, 35))
    ellipse(0.5, 0.745, 0.04, 0.012, shade)
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def draw_film(
    num_people: int, num_frames: int, width: int = 640, height: int = 480, frame_rate: float = 25.0
) -> Iterator[np.ndarray]:
    """Film people who stand side by side and sway, each in their own time.

    Args:
        num_people (`int`): How many.
        num_frames (`int`): Length of the film.
        width, height (`int`, *optional*): Of the frames, in pixels.
        frame_rate (`float`, *optional*, defaults to 25.0): Frames per second.

    Yields:
        `np.ndarray` of shape `(height, width, 3)`: RGB, uint8; a little noisy and blurred, as old film is.

    Raises:
        ValueError: If a number is not positive.
    """
    if min(num_people, num_frames, width, height) < 1:
        raise ValueError(f"All must be positive: {num_people} people, {num_frames} frames, {width} x {height} pixels.")
    place = width / num_people
    size = round(min(0.6 * height, 1.1 * place))
    people = [draw_person(size, who) for who in range(num_people)]
    wall = np.full((height, width, 3), (110, 125, 140), np.uint8)
    random = np.random.default_rng(0)
    for index in range(num_frames):
        frame = wall.copy()
        for who, person in enumerate(people):
            time = 2 * np.pi * index / frame_rate
            matrix = cv2.getRotationMatrix2D((size / 2, size), 4 * np.sin(0.5 * time + who), 1.0)
            matrix[:, 2] += (who + 0.5) * place - size / 2, height - size + 6 * np.sin(0.4 * time + 2 * who)
            cv2.warpAffine(person, matrix, (width, height), frame, cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)
        noisy = cv2.GaussianBlur(frame, (0, 0), 1.2) + random.normal(0, 3, frame.shape)
        yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
