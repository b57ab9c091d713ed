"""Images drawn by code that show no face: textures, shapes, symmetric figures, mechanisms, text.

Detectors take such drawings for faces: two equal marks above a third one, discs with marks, mirrored blobs.
"""

import cv2
import numpy as np


def draw_faceless(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a random image without a face.

    Args:
        rng (`np.random.Generator`): Source of randomness.
        size (`int`): Side of the image in pixels.

    Returns:
        `np.ndarray` of shape `(size, size, 3)`: RGB, uint8.
    """
    kinds = (draw_texture, draw_shapes, draw_symmetric_figure, draw_mechanism, draw_text, draw_facade)
    canvas = draw_texture(rng, size) if rng.random() < 0.5 else plain(rng, size)
    return kinds[rng.integers(len(kinds))](rng, size, canvas)


def plain(rng: np.random.Generator, size: int) -> np.ndarray:
    """A gradient between two colours."""
    first, last = rng.integers(0, 256, (2, 3))
    if rng.random() < 0.5:
        last = first
    part = np.linspace(0, 1, size)[:, None, None]
    image = np.broadcast_to(first + (last - first) * part, (size, size, 3)).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 0, 2) if rng.random() < 0.5 else image)


def draw_texture(rng: np.random.Generator, size: int, canvas: np.ndarray | None = None) -> np.ndarray:
    """Noise of several octaves, coloured, or as the phase of stripes and rings."""
    noise = smooth_noise(rng, size)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(2, 30)
    along = x * np.cos(angle) + y * np.sin(angle)
    radius = np.hypot(x - rng.random(), y - rng.random())
    kind = rng.integers(5)
    if kind == 0:
        values = noise
    elif kind == 1:
        values = np.sin(2 * np.pi * frequency * along + 8 * noise * rng.random()) / 2 + 0.5
    elif kind == 2:
        values = np.sin(2 * np.pi * frequency * radius + 8 * noise * rng.random()) / 2 + 0.5
    elif kind == 3:
        values = ((x * frequency).astype(int) + (y * frequency).astype(int)) % 2 * 0.8 + 0.2 * noise
    else:
        values = np.abs(np.sin(np.pi * frequency * x) * np.sin(np.pi * frequency * y)) * 0.8 + 0.2 * noise
    first, last = rng.integers(0, 256, (2, 3))
    shades = first + (last - first) * np.linspace(0, 1, 256)[:, None]
    return shades.astype(np.uint8)[(255 * values).clip(0, 255).astype(np.uint8)]


def smooth_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise `(size, size)` from 0 to 1, the sum of random octaves."""
    total = np.zeros((size, size), np.float32)
    for octave in (3, 6, 12, 24, 48):
        grid = rng.random((octave, octave)) * rng.random() * 3 / octave**0.7
        cv2.add(total, cv2.resize(grid.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC), total)
    return (total - total.min()) / max(float(np.ptp(total)), 1e-6)


def draw_shapes(rng: np.random.Generator, size: int, canvas: np.ndarray) -> np.ndarray:
    """Filled or outlined ellipses, rectangles, polygons and lines."""
    for _ in range(rng.integers(2, 25)):
        draw_shape(rng, canvas, rng.uniform(0, size, 2), size * rng.uniform(0.02, 0.3))
    return canvas


def draw_shape(rng: np.random.Generator, canvas: np.ndarray, centre: np.ndarray, reach: float) -> None:
    """Draw one shape; `reach` is half its size."""
    colour = random_colour(rng)
    width = cv2.FILLED if rng.random() < 0.6 else int(rng.integers(1, 5))
    x, y = centre.round().astype(int).tolist()
    kind = rng.integers(4)
    if kind == 0:
        axes = (round(reach), round(reach * rng.uniform(0.3, 1)))
        cv2.ellipse(canvas, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, width, cv2.LINE_AA)
    elif kind == 1:
        half = reach * rng.uniform(0.3, 1, 2)
        corners = (centre - half).round().astype(int).tolist(), (centre + half).round().astype(int).tolist()
        cv2.rectangle(canvas, *corners, colour, width)
    elif kind == 2:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        points = centre + reach * rng.uniform(0.4, 1, (len(angles), 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
        draw_polygon(canvas, points, colour, filled=width == cv2.FILLED)
    else:
        end = (centre + rng.uniform(-2, 2, 2) * reach).round().astype(int).tolist()
        cv2.line(canvas, (x, y), end, colour, int(rng.integers(1, 8)), cv2.LINE_AA)


def draw_polygon(canvas: np.ndarray, points: np.ndarray, colour: tuple[int, ...], filled: bool) -> None:
    """Draw a closed polygon `(n, 2)`."""
    corners = [points.round().astype(np.int32)]
    if filled:
        cv2.fillPoly(canvas, corners, colour, cv2.LINE_AA)
    else:
        cv2.polylines(canvas, corners, True, colour, 2, cv2.LINE_AA)


def draw_symmetric_figure(rng: np.random.Generator, size: int, canvas: np.ndarray) -> np.ndarray:
    """Butterflies, vases and masks without features: blobs and lines that are mirrored about vertical axes."""
    for _ in range(rng.integers(1, 5)):
        side = int(size * rng.uniform(0.15, 0.8))
        half = np.zeros((side, side // 2 + 1, 3), np.uint8)
        half[:] = random_colour(rng)
        for _ in range(rng.integers(2, 12)):
            draw_shape(rng, half, rng.uniform(0, side, 2) * (0.5, 1), side * rng.uniform(0.03, 0.3))
        figure = np.hstack([half, half[:, ::-1]])[:, :side]
        paste(rng, canvas, cv2.GaussianBlur(figure, (0, 0), 0.3 + 0.05 * side * rng.random()))
    return canvas


def draw_mechanism(rng: np.random.Generator, size: int, canvas: np.ndarray) -> np.ndarray:
    """Pendulums, clocks, wheels and shaded balls."""
    for _ in range(rng.integers(1, 5)):
        centre, radius = rng.uniform(0.1, 0.9, 2) * size, size * rng.uniform(0.04, 0.35)
        x, y = centre.round().astype(int).tolist()
        if rng.random() < 0.5:
            start = (round(x + rng.uniform(-0.5, 0.5) * size), round(rng.uniform(-0.2, 0.3) * size))
            cv2.line(canvas, start, (x, y), random_colour(rng), int(rng.integers(1, 8)), cv2.LINE_AA)
        light = np.array(random_colour(rng))
        steps = int(rng.integers(1, 12))
        for step in range(steps):
            colour = tuple((light * (0.4 + 0.6 * (step + 1) / steps)).tolist())
            offset = round(radius * 0.3 * step / steps)
            inner = max(round(radius * (1 - step / steps)), 1)
            cv2.circle(canvas, (x - offset, y - offset), inner, colour, cv2.FILLED, cv2.LINE_AA)
        spokes = int(rng.integers(0, 16))
        for angle in rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(spokes) / max(spokes, 1):
            direction = radius * np.array([np.cos(angle), np.sin(angle)])
            start = (centre + rng.choice([0, 0.7, 0.9]) * direction).round().astype(int).tolist()
            end = (centre + rng.choice([0.95, 1.2]) * direction).round().astype(int).tolist()
            cv2.line(canvas, start, end, random_colour(rng), int(rng.integers(1, 6)), cv2.LINE_AA)
    return canvas


def draw_text(rng: np.random.Generator, size: int, canvas: np.ndarray) -> np.ndarray:
    """Lines of letters, digits and signs."""
    signs = "abcdefghijklmnopqrstuvwxyzABCDEFGHOQ0123456789:;-_=+()8%@&?!"
    for _ in range(rng.integers(1, 12)):
        text = "".join(rng.choice(list(signs), rng.integers(1, 16)))
        place = (int(rng.uniform(-0.1, 0.8) * size), int(rng.uniform(0, 1.1) * size))
        font, scale = int(rng.integers(0, 8)), float(np.exp(rng.uniform(np.log(0.4), np.log(5))))
        cv2.putText(canvas, text, place, font, scale, random_colour(rng), int(rng.integers(1, 8)), cv2.LINE_AA)
    return canvas


def draw_facade(rng: np.random.Generator, size: int, canvas: np.ndarray) -> np.ndarray:
    """A rectangle or disc with a grid of equal marks and a wider one below: houses, vehicles, sockets, shelves."""
    for _ in range(rng.integers(1, 4)):
        side = int(size * rng.uniform(0.2, 0.9))
        body = plain(rng, side)
        rows, columns = rng.integers(1, 4), rng.integers(1, 5)
        colour, width, height = random_colour(rng), side / columns, side / (rows + 1)
        mark = rng.uniform(0.2, 0.8, 2) * (width, height) / 2
        is_round = rng.random() < 0.5
        for row in range(rows):
            for column in range(columns):
                x, y = round((column + 0.5) * width), round((row + 0.5) * height)
                if is_round:
                    cv2.ellipse(body, (x, y), mark.round().astype(int).tolist(), 0, 0, 360, colour, -1, cv2.LINE_AA)
                else:
                    first, last = (np.array([x, y]) - mark).astype(int), (np.array([x, y]) + mark).astype(int)
                    cv2.rectangle(body, first.tolist(), last.tolist(), colour, cv2.FILLED)
        half, top = side * rng.uniform(0.05, 0.3), round(side * rng.uniform(0.7, 0.85))
        cv2.rectangle(body, (round(side / 2 - half), top), (round(side / 2 + half), side), random_colour(rng), -1)
        paste(rng, canvas, body)
    return canvas


def paste(rng: np.random.Generator, canvas: np.ndarray, patch: np.ndarray) -> None:
    """Paste a patch that is smaller than the canvas at a random place, as a rectangle or as an ellipse."""
    height, width = patch.shape[:2]
    top, left = rng.integers(canvas.shape[0] - height + 1), rng.integers(canvas.shape[1] - width + 1)
    target = canvas[top : top + height, left : left + width]
    if rng.random() < 0.5:
        target[:] = patch
    else:
        mask = np.zeros((height, width, 1), np.float32)
        cv2.ellipse(mask, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1.0, -1, cv2.LINE_AA)
        target[:] = (target + mask * (patch.astype(np.float32) - target)).astype(np.uint8)


def random_colour(rng: np.random.Generator) -> tuple[int, ...]:
    """A random colour, grey in a third of the cases."""
    return tuple(rng.integers(0, 256, 3).tolist()) if rng.random() < 2 / 3 else (int(rng.integers(256)),) * 3
