"""Sharp frames of the example clips: people in front of drawn backgrounds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import skimage.data
from heads import HEIGHT, Person, Pose, Variation, pose_at, warp_head


NECK = (221.0, 196.0)  # centre of the collar in the portrait
NECK_WIDTH = 72.0


@dataclass(frozen=True)
class Place:
    """Where a person is in the frame.

    Args:
        x, y (`float`): Centre of the collar, in pixels.
        scale (`float`): Pixels of the frame for a pixel of the portrait.
    """

    x: float
    y: float
    scale: float


def old_footage(num_frames: int, rate: float) -> Iterator[np.ndarray]:
    """The portrait as it is, in black and white, with a head that moves: 4:3."""
    portrait = skimage.data.astronaut().astype(np.float32) @ np.array([0.25, 0.65, 0.1], np.float32)
    for index in range(num_frames):
        seconds = index / rate
        moving = warp_head(portrait, pose_at(seconds, 3, (0.7, 2.9), 1.1))
        drift = 5 * np.sin(0.7 * seconds), 3 * np.sin(0.9 * seconds + 1)
        matrix = np.array([[1.3, 0, 240 - 1.3 * 226 + drift[0]], [0, 1.3, 180 - 1.3 * 130 + drift[1]]])
        frame = cv2.warpAffine(moving, matrix, (480, 360), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        yield np.clip(frame, 0, 255)[..., None].repeat(3, axis=2)


def video_call(num_frames: int, rate: float) -> Iterator[np.ndarray]:
    """A person in front of a book shelf, lit by a window on the left: 16:9."""
    person = Person(Variation(hair=(0.62, 0.5, 0.45), skin=(1.0, 0.97, 0.97)))
    background = draw_study(640, 360)
    light = np.linspace(1.08, 0.8, 640, dtype=np.float32)[None, :, None] * np.array([0.97, 1.0, 1.05], np.float32)
    for index in range(num_frames):
        seconds = index / rate
        place = Place(325 + 5 * np.sin(1.1 * seconds), 300 + 2 * np.sin(1.9 * seconds), 1.52)
        frame = background.copy()
        draw_person(frame, person, pose_at(seconds, 5, (1.1, 3.0), 1.2), place, (58, 78, 96))
        yield np.clip(frame * light, 0, 255)


def two_people(num_frames: int, rate: float) -> Iterator[np.ndarray]:
    """Two people in a garden, seen by a hand-held camera: 16:9."""
    red = Person(Variation(jaw=0.94, length=0.95, nose=0.9, eyes=1.12, hair=(1.02, 0.72, 0.58)))
    dark = Variation(True, 1.1, 1.12, 1.22, 0.92, skin=(0.83, 0.74, 0.67), hair=(0.34, 0.31, 0.36))
    people = (red, Person(dark))
    garden = draw_garden(720, 440)
    for index in range(num_frames):
        seconds = index / rate
        camera = 7 * np.sin(0.9 * seconds), 5 * np.sin(1.3 * seconds + 1)
        frame = garden[40 + round(camera[1]) :, 40 + round(camera[0]) :][:360, :640].copy()
        sways = [4 * np.sin(1.3 * seconds + 2 * number) for number in range(2)]
        places = [Place(212, 292, 1.3), Place(438, 318, 1.42)]
        for number, (person, place) in enumerate(zip(people, places, strict=True)):
            moved = Place(place.x + sways[number] - camera[0], place.y - camera[1], place.scale)
            pose = pose_at(seconds, 8 + number, ((0.8, 2.6), (1.7,))[number], 1.2)
            draw_person(frame, person, pose, moved, ((150, 66, 62), (66, 74, 110))[number])
        yield np.clip(frame, 0, 255)


def generated_clip(num_frames: int, rate: float) -> Iterator[np.ndarray]:
    """A clip as a video generator makes it: glossy skin, warm light, features that change their shape slowly."""
    person = Person(
        Variation(jaw=0.9, length=0.97, nose=0.86, eyes=1.2, hair=(1.25, 1.08, 0.95), skin=(1.05, 0.95, 0.9))
    )
    lights = draw_city_lights(512, 512)
    glow = np.linspace(0.75, 1.15, 512, dtype=np.float32)[None, :, None] * np.array([1.06, 0.97, 0.95], np.float32)
    phases = np.random.default_rng(4).uniform(0, 2 * np.pi, (2, 3))
    y, x = np.mgrid[:512, :512].astype(np.float32)
    for index in range(num_frames):
        seconds = index / rate
        frame = lights.copy()
        zoom = 1 + 0.03 * seconds
        place = Place(256 + 6 * np.sin(0.8 * seconds), 398, 1.75 * zoom)
        draw_person(frame, person, pose_at(seconds, 12, (1.4,), 1.3), place, (96, 34, 60))
        # Slow waves of about a pixel: shapes are not quite constant.
        moved = [
            axis + np.float32(0.7 * wave(x, y, seconds, phase)) for axis, phase in zip((x, y), phases, strict=True)
        ]
        frame = cv2.remap(frame, *moved, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        smooth = cv2.bilateralFilter(np.float32(frame), 9, 28, 5)
        yield np.clip((smooth + 0.18 * cv2.GaussianBlur(smooth, (0, 0), 14) - 14) * glow, 0, 255)


def wave(x: np.ndarray, y: np.ndarray, seconds: float, phases: np.ndarray) -> np.ndarray:
    """A sum of waves that travel in three directions."""
    directions = ((0.06, 0.03), (0.02, 0.08), (0.05, -0.06))
    waves = [x * a + y * b + phase for (a, b), phase in zip(directions, phases, strict=True)]
    return np.sum([np.sin(wave + (2 + i) * seconds) for i, wave in enumerate(waves)], axis=0)


def draw_person(frame: np.ndarray, person: Person, pose: Pose, place: Place, clothes: tuple[int, int, int]) -> None:
    """Draw a person in a turtleneck sweater into a frame of float32 (h, w, 3), in [0, 255]."""
    height, width = frame.shape[:2]
    body, body_matte = draw_sweater(width, height, place, clothes)
    frame += body_matte[..., None] * (body - frame)
    image, matte = person.draw(pose)
    collar = 511 - NECK[0] if person.variation.mirrored else NECK[0]
    matrix = np.array(
        [[place.scale, 0, place.x - place.scale * collar], [0, place.scale, place.y - place.scale * NECK[1]]]
    )
    # The collar of the portrait is black: it takes the colour of the sweater.
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None]
    matte = matte * np.clip((202 - rows) / 8, 0, 1)
    size = (width, height)
    image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    matte = np.clip(cv2.warpAffine(matte, matrix, size, flags=cv2.INTER_LINEAR), 0, 1)[..., None]
    below = np.clip((np.arange(height, dtype=np.float32)[:, None, None] - (place.y - 22 * place.scale)) / 6, 0, 1)
    dark = np.clip((70 - image.max(axis=2, keepdims=True)) / 40, 0, 1) * below
    image = image + dark * (body * 0.9 - image)
    frame += matte * (image - frame)


def draw_sweater(width: int, height: int, place: Place, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Shoulders and collar of a sweater: image and matte, float32."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    across, down = (x - place.x) / place.scale, (y - place.y) / place.scale
    # Half of the width at a height: the collar, shoulders that fall off, then arms.
    collar = NECK_WIDTH / 2 + 1 + 0.1 * np.clip(down + 10, 0, None)
    step = np.clip((down + 4) / 70, 0, 1)
    half = collar + 110 * step * step * (3 - 2 * step)
    matte = np.clip((half - np.abs(across)) * place.scale / 1.5, 0, 1) * np.clip((down + 12) * place.scale / 3, 0, 1)
    bend = across / np.maximum(half, 1)
    shade = 1.12 - 0.42 * bend**2 - 0.1 * bend - 0.25 * np.exp(-(((down - 6) / 9) ** 2)) * (np.abs(across) < 60)
    ribs = 1 + 0.05 * np.sin(2.2 * across) * (down < 8) + 0.03 * np.sin(0.25 * across + 0.12 * down)
    knit = np.random.default_rng(1).normal(0, 5, (height, width)).astype(np.float32)
    image = np.array(colour, np.float32) * (shade * ribs)[..., None] + cv2.GaussianBlur(knit, (0, 0), 0.8)[..., None]
    return np.clip(image, 0, 255).astype(np.float32), cv2.GaussianBlur(matte.astype(np.float32), (0, 0), 0.8)


def draw_study(width: int, height: int) -> np.ndarray:
    """A wall with a window, a book shelf and a lamp, out of focus."""
    random = np.random.default_rng(2)
    image = np.full((height, width, 3), (176, 170, 160), np.float32)
    image *= np.linspace(1.12, 0.8, width, dtype=np.float32)[None, :, None]
    cv2.rectangle(image, (18, 20), (142, 235), (120, 108, 96), cv2.FILLED)
    cv2.rectangle(image, (28, 30), (132, 225), (236, 243, 250), cv2.FILLED)
    cv2.rectangle(image, (76, 30), (83, 225), (120, 108, 96), cv2.FILLED)
    cv2.rectangle(image, (28, 120), (132, 126), (120, 108, 96), cv2.FILLED)
    cv2.rectangle(image, (425, 30), (628, 262), (92, 66, 46), cv2.FILLED)
    for shelf in range(3):
        top, bottom, x = 40 + 76 * shelf, 104 + 76 * shelf, 436
        cv2.rectangle(image, (434, top - 2), (618, bottom), (52, 38, 30), cv2.FILLED)
        while x < 596:
            wide, tall = int(random.integers(8, 18)), int(random.integers(40, 60))
            colour = tuple(float(value) for value in random.integers(40, 160) * random.uniform(0.75, 1.0, 3))
            cv2.rectangle(image, (x, bottom - tall), (x + wide, bottom), colour, cv2.FILLED)
            x += wide + 1
    cv2.ellipse(image, (200, 330), (60, 40), 0, 0, 360, (96, 118, 86), cv2.FILLED)
    image = cv2.GaussianBlur(image, (0, 0), 4.5)
    return image + cv2.GaussianBlur(random.normal(0, 6, image.shape).astype(np.float32), (0, 0), 1.5)


def draw_garden(width: int, height: int) -> np.ndarray:
    """Trees and a meadow far out of focus, with discs of light."""
    random = np.random.default_rng(6)
    image = np.zeros((height, width, 3), np.float32)
    image[: height // 2] = (120, 150, 120)
    image[height // 2 :] = (126, 158, 84)
    for _ in range(260):
        x, y = int(random.integers(0, width)), int(random.normal(0.3 * height, 0.22 * height))
        shade = random.uniform(0.45, 1.25)
        colour = tuple(float(value * shade) for value in (92, 134, 72))
        cv2.circle(image, (x, y), int(random.integers(12, 46)), colour, cv2.FILLED)
    image = cv2.GaussianBlur(image, (0, 0), 9)
    return cv2.GaussianBlur(draw_discs(image, random, 60, (215, 226, 160), 0.3, 0.5), (0, 0), 1.5)


def draw_city_lights(width: int, height: int) -> np.ndarray:
    """A street at night, out of focus."""
    random = np.random.default_rng(9)
    image = np.full((height, width, 3), (26, 24, 48), np.float32)
    image += np.linspace(0, 34, height, dtype=np.float32)[:, None, None] * np.array([1.2, 0.6, 0.8], np.float32)
    for colour in ((255, 150, 60), (240, 70, 130), (70, 150, 255), (255, 220, 150)):
        image = draw_discs(image, random, 22, colour, 0.5, 0.95)
    return cv2.GaussianBlur(image, (0, 0), 2.0)


def draw_discs(
    image: np.ndarray,
    random: np.random.Generator,
    number: int,
    colour: tuple[int, int, int],
    opacity: float,
    low: float,
) -> np.ndarray:
    """Add translucent discs, which points of light out of focus look like, down to a share of the height."""
    height, width = image.shape[:2]
    for _ in range(number):
        layer = image.copy()
        centre = int(random.integers(0, width)), int(random.uniform(0, low * height))
        cv2.circle(layer, centre, int(random.integers(7, 20)), colour, cv2.FILLED, cv2.LINE_AA)
        image = cv2.addWeighted(image, 1 - opacity * 0.6, layer, opacity * 0.6, 0)
    return image


SCENES: dict[str, Callable[[int, float], Iterator[np.ndarray]]] = {
    "old_footage": old_footage,
    "video_call": video_call,
    "two_people": two_people,
    "generated_clip": generated_clip,
}
