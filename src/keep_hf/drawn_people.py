"""A synthetic video of drawn people that face detectors find, for benchmarks on machines without a real one."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np


SKINS = ((205, 160, 135), (150, 105, 80), (225, 185, 165))
BACKGROUND = (110, 125, 140)
HAIRS = ((60, 40, 30), (25, 22, 20), (150, 110, 60))
OVERSAMPLING = 4  # the image is drawn larger by this factor and averaged, for smooth edges


def draw_person(size: int, number: int = 0) -> np.ndarray:
    """Draw the head and shoulders of a person.

    Args:
        size (`int`): Side of the image in pixels; the face takes about half of its width.
        number (`int`, *optional*, defaults to 0): Number of the person; it selects the colours.

    Returns:
        `np.ndarray` of shape `(size, size, 3)`: RGB, uint8.
    """
    skin, hair = np.array(SKINS[number % 3]), HAIRS[number % 3]
    shade, light = skin * 0.82, np.minimum(skin * 1.06, 255)
    side = size * OVERSAMPLING
    image = np.full((side, side, 3), BACKGROUND, np.uint8)

    def ellipse(x: float, y: float, width: float, height: float, colour: Iterable[float], angle: float = 0) -> None:
        """Draw an ellipse by its centre and its half axes, relative to the side of the image; angle in degrees."""
        centre, axes = (round(x * side), round(y * side)), (round(width * side), round(height * side))
        colour = tuple(float(value) for value in colour)
        cv2.ellipse(image, centre, axes, angle, 0, 360, colour, cv2.FILLED, cv2.LINE_AA)

    ellipse(0.5, 1.02, 0.42, 0.22, (70 + 40 * (number % 3), 80, 110))  # shoulders
    ellipse(0.5, 0.82, 0.13, 0.2, shade)  # neck
    ellipse(0.5, 0.4, 0.3, 0.36, hair)
    ellipse(0.5, 0.49, 0.245, 0.33, skin)
    ellipse(0.5, 0.17, 0.22, 0.09, hair)
    for sign in (-1, 1):
        ellipse(0.5 + sign * 0.255, 0.5, 0.03, 0.065, shade)  # ear
        eye = 0.5 + sign * 0.105
        ellipse(eye, 0.44, 0.062, 0.04, shade)
        ellipse(eye, 0.445, 0.05, 0.024, (245, 240, 235))
        ellipse(eye, 0.445, 0.022, 0.024, (70, 50, 35))
        ellipse(eye, 0.445, 0.01, 0.011, (10, 10, 10))
        ellipse(eye, 0.385, 0.065, 0.013, hair, angle=6 * sign)
        ellipse(0.5 + sign * 0.13, 0.6, 0.06, 0.05, skin * 0.93 + (18, 6, 6))  # cheek
    ellipse(0.5, 0.53, 0.02, 0.1, light)  # nose
    ellipse(0.5, 0.605, 0.045, 0.025, shade)
    for sign in (-1, 1):
        ellipse(0.5 + sign * 0.022, 0.615, 0.01, 0.007, (90, 55, 45))
    ellipse(0.5, 0.695, 0.085, 0.026, (165, 80, 80))  # lips
    ellipse(0.5, 0.693, 0.085, 0.006, (90, 35, 35))
    ellipse(0.5, 0.745, 0.04, 0.012, shade)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def draw_video(
    num_people: int, num_frames: int, width: int = 640, height: int = 480, frame_rate: float = 25.0
) -> Iterator[np.ndarray]:
    """Draw a video of people who stand side by side and sway, each at their own pace.

    Args:
        num_people (`int`): Number of people.
        num_frames (`int`): Length of the video.
        width, height (`int`, *optional*, default to 640 and 480): Size of the frames in pixels.
        frame_rate (`float`, *optional*, defaults to 25.0): Frames per second.

    Yields:
        `np.ndarray` of shape `(height, width, 3)`: RGB, uint8; slightly blurred and noisy.

    Raises:
        ValueError: If a count or a size is less than 1.
    """
    if min(num_people, num_frames, width, height) < 1:
        counts = f"{num_people} people, {num_frames} frames, {width} x {height} pixels"
        raise ValueError(f"Counts and sizes must be at least 1, got {counts}.")
    spacing = width / num_people
    size = round(min(0.6 * height, 1.1 * spacing))
    people = [draw_person(size, number) for number in range(num_people)]
    background = np.full((height, width, 3), BACKGROUND, np.uint8)
    random = np.random.default_rng(0)
    for index in range(num_frames):
        frame = background.copy()
        for number, person in enumerate(people):
            time = 2 * np.pi * index / frame_rate
            matrix = cv2.getRotationMatrix2D((size / 2, size), 4 * np.sin(0.5 * time + number), 1.0)
            matrix[0, 2] += (number + 0.5) * spacing - size / 2
            matrix[1, 2] += height - size + 6 * np.sin(0.4 * time + 2 * number)
            cv2.warpAffine(person, matrix, (width, height), frame, cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)
        noisy = cv2.GaussianBlur(frame, (0, 0), 1.2) + random.normal(0, 3, frame.shape)
        yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
