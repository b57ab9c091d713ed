"""A video of drawn people in many short scenes, and a tiny pipeline whose detector finds them."""

from pathlib import Path

import cv2
import numpy as np

from conftest import make_components
from keep_hf import KeepPipeline
from keep_hf.drawn_people import draw_person
from media import write_clip


WIDTH, HEIGHT, PERSON = 144, 96, 80
LENGTHS = (6, 9, 5, 7, 8, 5, 8, 6, 6, 7, 5, 6)


def draw_scene(number: int, length: int) -> list[np.ndarray]:
    """Three people take turns; every scene has a background of its own, and the person moves."""
    random = np.random.default_rng(number)
    tiles = random.integers(0, 256, (6, 9, 3)).astype(np.uint8)
    background = cv2.resize(tiles, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    person = draw_person(PERSON, number % 3)
    images = []
    for index in range(length):
        image = background.copy()
        left = 15 * (number % 5) + index % 4
        image[HEIGHT - PERSON :, left : left + PERSON] = person
        noisy = cv2.GaussianBlur(image, (0, 0), 1.0) + random.normal(0, 2, image.shape)
        images.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    return images


def write_scenes(path: Path, lengths: tuple[int, ...] = LENGTHS, codec: str = "libx264") -> Path:
    """A video with sound; scenes have the given numbers of frames."""
    images = [image for number, length in enumerate(lengths) for image in draw_scene(number, length)]
    return write_clip(path, images=images, codec=codec, audio_codec="mp3" if path.suffix == ".avi" else "aac")


def save_model(folder: Path) -> str:
    """Networks of tiny sizes with random weights, and the detector of keep-tiny."""
    detector = KeepPipeline.from_pretrained("keep-tiny").detector
    KeepPipeline(**make_components(), detector=detector, gain_window=4).save_pretrained(folder)
    return str(folder)
