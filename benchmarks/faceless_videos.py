"""Videos without a face, drawn by code, to count the false detections of a face detector.

The kinds are others than those of the training (training/data/drawings.py).
"""

from collections.abc import Callable

import cv2
import numpy as np


Draw = Callable[[np.ndarray, float, np.random.Generator], None]
SIZES = ((320, 240), (640, 360), (360, 640), (1280, 720))


def draw_video(number: int, num_frames: int) -> list[np.ndarray]:
    """Draw a video of a second or so: kind, size and colours depend on the number.

    Args:
        number (`int`): From 0; every [`KINDS`] videos the kinds start again, with other colours and sizes.
        num_frames (`int`): Number of frames.

    Returns:
        `list[np.ndarray]`: RGB frames `(h, w, 3)`, uint8.
    """
    width, height = SIZES[(number + number // len(KINDS)) % len(SIZES)]
    draw = KINDS[number % len(KINDS)]
    background = np.random.default_rng((number, 1)).integers(0, 256, 3)
    frames = []
    for index in range(num_frames):
        canvas = np.full((height, width, 3), background, np.uint8)
        draw(canvas, index / 12, np.random.default_rng(number))
        frames.append(canvas)
    return frames


def colour(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(0, 256, 3).tolist())


def disc(canvas: np.ndarray, x: float, y: float, radius: float, shade: tuple[int, ...]) -> None:
    cv2.circle(canvas, (round(x), round(y)), max(round(radius), 1), shade, cv2.FILLED, cv2.LINE_AA)


def pendulums(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """A row of pendulums of different lengths with shaded bobs and labels."""
    height, width = canvas.shape[:2]
    cv2.rectangle(canvas, (0, 0), (width, height // 12), colour(rng), cv2.FILLED)
    for i in range(count := int(rng.integers(1, 6))):
        length, shade = height * rng.uniform(0.4, 0.8), np.array(colour(rng))
        angle = 0.5 * np.cos(time * rng.uniform(1.5, 3))
        top = np.array([width * (i + 1) / (count + 1), height / 12])
        x, y = top + length * np.array([np.sin(angle), np.cos(angle)])
        cv2.line(canvas, top.round().astype(int).tolist(), (round(x), round(y)), colour(rng), 3, cv2.LINE_AA)
        for part in np.linspace(1, 0.1, 10):
            radius = height * 0.09 * part
            disc(
                canvas,
                x - 0.02 * height * (1 - part),
                y - 0.02 * height * (1 - part),
                radius,
                shade * (1.2 - part) // 1,
            )
        cv2.putText(canvas, f"{length:.0f}", (round(x) - 15, round(y) + 5), 0, 0.5, colour(rng), 1, cv2.LINE_AA)


def robots(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """Toy robots: a box with a grille and two antennae on two wheels."""
    height, width = canvas.shape[:2]
    for i in range(int(rng.integers(1, 4))):
        side = height * rng.uniform(0.25, 0.5)
        x, y = width * (i + 0.5) / 3 + 0.1 * side * np.sin(3 * time + i), height * rng.uniform(0.3, 0.6)
        left, top, right, bottom = (round(v) for v in (x - side / 2, y - side / 2, x + side / 2, y + side / 2))
        cv2.rectangle(canvas, (left, top), (right, bottom), colour(rng), cv2.FILLED)
        for line in range(4):
            row = round(y + side * (0.1 + 0.08 * line))
            cv2.line(canvas, (round(x - 0.3 * side), row), (round(x + 0.3 * side), row), (20, 20, 20), 2)
        for sign in (-1, 1):
            cv2.line(
                canvas,
                (round(x + sign * side / 4), top),
                (round(x + sign * side / 2), round(top - side / 4)),
                (0, 0, 0),
                3,
            )
            disc(canvas, x + sign * side / 3, bottom, side / 6, colour(rng))
            disc(canvas, x + sign * side / 3, bottom, side / 14, colour(rng))


def kaleidoscope(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """Waves of colour, mirrored about both axes."""
    height, width = canvas.shape[:2]
    y, x = np.mgrid[: height // 2 + 1, : width // 2 + 1] / height
    for channel in range(3):
        a, b, c, d = rng.uniform(4, 30, 4)
        wave = np.sin(a * x + time) + np.sin(b * y - time) + np.sin(c * np.hypot(x - 0.3, y - 0.2) + d * x * y)
        quarter = (127 + 42 * wave).astype(np.uint8)
        half = np.hstack([quarter, quarter[:, ::-1]])[:, :width]
        canvas[..., channel] = np.vstack([half, half[::-1]])[:height]


def bars(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """A bar chart with axes and numbers."""
    height, width = canvas.shape[:2]
    for i in range(count := int(rng.integers(3, 12))):
        value = 0.5 + 0.35 * np.sin(time * rng.uniform(0.5, 2) + i)
        left, right = width * (i + 0.2) / count, width * (i + 0.8) / count
        cv2.rectangle(canvas, (round(left), round(height * (1 - value))), (round(right), height), colour(rng), -1)
        cv2.putText(canvas, f"{value:.2f}", (round(left), round(height * (1 - value)) - 5), 0, 0.5, colour(rng), 1)


def credits(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """Lines of text that scroll."""
    shade = colour(rng)
    for line in range(24):
        text = "".join(rng.choice(list("etaoin shrdlu ABCGOQ 0689"), 30))
        y = round((line * 36 - 60 * time) % (24 * 36))
        cv2.putText(canvas, text, (20, y), int(rng.integers(0, 5)), 1, shade, 2, cv2.LINE_AA)


def plasma(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """Smooth noise that drifts, such as clouds, smoke and water."""
    height, width = canvas.shape[:2]
    total = np.zeros((height, width))
    for octave in (4, 8, 16, 32):
        first, last = rng.random((2, octave, octave)) / octave
        part = (time / 3) % 1
        total += cv2.resize((1 - part) * first + part * last, (width, height), interpolation=cv2.INTER_CUBIC)
    total = (total - total.min()) / np.ptp(total)
    first, last = rng.integers(0, 256, (2, 3))
    canvas[:] = first + (last - first) * total[..., None]


def aquarium(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """Fish that swim past plants."""
    height, width = canvas.shape[:2]
    for _ in range(12):
        x, bend = rng.uniform(0, width), rng.uniform(-0.1, 0.1) * height
        points = [[x + bend * np.sin(4 * part + time), height * (1 - 0.6 * part)] for part in np.linspace(0, 1, 12)]
        cv2.polylines(canvas, [np.array(points, np.int32)], False, colour(rng), 6, cv2.LINE_AA)
    for _ in range(int(rng.integers(2, 7))):
        size, speed = height * rng.uniform(0.05, 0.15), rng.uniform(-1, 1) * width / 4
        x, y = (rng.uniform(0, width) + speed * time) % width, rng.uniform(0.1, 0.9) * height
        shade = colour(rng)
        ahead = np.sign(speed)
        cv2.ellipse(canvas, (round(x), round(y)), (round(size), round(size / 2)), 0, 0, 360, shade, -1, cv2.LINE_AA)
        tail = [[x - ahead * size, y], [x - 1.6 * ahead * size, y - size / 2], [x - 1.6 * ahead * size, y + size / 2]]
        cv2.fillPoly(canvas, [np.array(tail, np.int32)], shade, cv2.LINE_AA)
        disc(canvas, x + 0.6 * ahead * size, y - size / 8, size / 8, (250, 250, 250))
        disc(canvas, x + 0.62 * ahead * size, y - size / 8, size / 16, (10, 10, 10))


def cube(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """A turning wire cube."""
    height, width = canvas.shape[:2]
    corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
    for axis, speed in ((0, 0.7), (1, 1.1)):
        turn, rows = np.eye(3), [i for i in range(3) if i != axis]
        c, s = np.cos(speed * time), np.sin(speed * time)
        turn[np.ix_(rows, rows)] = [[c, -s], [s, c]]
        corners = corners @ turn.T
    places = np.array([width / 2, height / 2]) + corners[:, :2] * height / (corners[:, 2:] + 4)
    shade = colour(rng)
    for i in range(8):
        for j in range(i):
            if bin(i ^ j).count("1") == 1:
                ends = places[[i, j]].round().astype(int).tolist()
                cv2.line(canvas, ends[0], ends[1], shade, 4, cv2.LINE_AA)


def street(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """Houses with windows and entrances; vehicles seen from the front, with two lamps and a bumper."""
    height, width = canvas.shape[:2]
    for i in range(4):
        left, top = width * i / 4, height * rng.uniform(0.1, 0.4)
        cv2.rectangle(canvas, (round(left), round(top)), (round(left + width / 4.4), height), colour(rng), -1)
        for x in (0.05, 0.14):
            for y in (0.1, 0.25):
                first = (round(left + x * width), round(top + y * height))
                cv2.rectangle(canvas, first, (first[0] + width // 20, first[1] + height // 12), (240, 230, 150), -1)
        cv2.rectangle(
            canvas,
            (round(left + width * 0.09), round(0.8 * height)),
            (round(left + width * 0.13), height),
            colour(rng),
            -1,
        )
    size = height * (0.1 + 0.04 * time)
    x, y = width * rng.uniform(0.3, 0.7), 0.85 * height
    cv2.rectangle(canvas, (round(x - size), round(y - size)), (round(x + size), round(y)), colour(rng), -1)
    for sign in (-1, 1):
        disc(canvas, x + sign * 0.7 * size, y - size / 2, size / 5, (255, 250, 220))
    cv2.rectangle(
        canvas,
        (round(x - size / 2), round(y - size / 3)),
        (round(x + size / 2), round(y - size / 5)),
        (30, 30, 30),
        -1,
    )


def rosette(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """A curve of Spirograph that grows."""
    height, width = canvas.shape[:2]
    ratio, arm = rng.uniform(0.2, 0.8), rng.uniform(0.3, 1)
    t = np.linspace(0, 20 + 20 * time, 2000)
    x = (1 - ratio) * np.cos(t) + arm * ratio * np.cos((1 - ratio) / ratio * t)
    y = (1 - ratio) * np.sin(t) - arm * ratio * np.sin((1 - ratio) / ratio * t)
    points = np.stack([width / 2 + 0.4 * height * x, height / 2 + 0.4 * height * y], axis=1)
    cv2.polylines(canvas, [np.array(points, np.int32)], False, colour(rng), 2, cv2.LINE_AA)


def cells(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """Life on a grid of cells."""
    grid = rng.random((30, 40)) < 0.35
    for _ in range(round(4 * time)):
        near = sum(np.roll(grid, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) - grid
        grid = (near == 3) | (grid & (near == 2))
    mask = cv2.resize(grid.astype(np.uint8), canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    canvas[mask] = colour(rng)


def planets(canvas: np.ndarray, time: float, rng: np.random.Generator) -> None:
    """Shaded planets on orbits around a sun, in front of stars."""
    height, width = canvas.shape[:2]
    for _ in range(80):
        disc(canvas, rng.uniform(0, width), rng.uniform(0, height), 1, (255, 255, 255))
    for i in range(6):
        radius, shade = height * 0.075 * i, np.array(colour(rng))
        angle, size = time * 2 / (i + 1) + rng.uniform(0, 6), height * (0.1 if i == 0 else rng.uniform(0.02, 0.08))
        x, y = width / 2 + 1.3 * radius * np.cos(angle), height / 2 + radius * np.sin(angle)
        for part in np.linspace(1, 0.2, 8):
            disc(
                canvas,
                x - size * (1 - part) / 3,
                y - size * (1 - part) / 3,
                size * part,
                shade * (1.1 - 0.6 * part) // 1,
            )


KINDS: tuple[Draw, ...] = (
    pendulums,
    robots,
    kaleidoscope,
    bars,
    credits,
    plasma,
    aquarium,
    cube,
    street,
    rosette,
    cells,
    planets,
)
