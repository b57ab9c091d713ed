"""What recording, transmission and generation do to the sharp frames of the example clips."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np


Frames = Iterator[np.ndarray]


@dataclass(frozen=True)
class Recording:
    """How the frames of a clip become a degraded video.

    Args:
        seconds (`float`): Length of the clip.
        frame_rate (`int`): Frames per second.
        degrade (`Callable`): Sharp frames, float32 (h, w, 3) in [0, 255] -> degraded frames of the same kind.
        crf (`int`): Constant rate factor of x264, at the size that `codec_size` gives.
        codec_size (`tuple[int, int]`, *optional*): Width and height at which the clip is encoded a first time, with
            visible blocks; the result is enlarged and encoded again.
        sound (`bool`): Whether the clip has sound.
    """

    seconds: float
    frame_rate: int
    degrade: Callable[[Frames], Frames]
    crf: int
    codec_size: tuple[int, int] | None = None
    sound: bool = True


def age(frames: Frames) -> Frames:
    """Black and white stock: blur, grain, flicker, an unsteady gate, scratches and dust, a dark border."""
    random = np.random.default_rng(17)
    scratches: list[tuple[int, int]] = []  # column and remaining frames
    for frame in frames:
        height, width = frame.shape[:2]
        soft = cv2.GaussianBlur(frame, (0, 0), 2.6)
        shift = np.array([[1, 0, random.normal(0, 0.5)], [0, 1, random.normal(0, 0.7)]])
        soft = cv2.warpAffine(soft, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
        grain = cv2.GaussianBlur(random.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 1.1) * 21
        image = soft[..., 0] * (1 + random.normal(0, 0.025)) + grain
        scratches = [(column + int(random.integers(-1, 2)), left - 1) for column, left in scratches if left > 1]
        if random.random() < 0.12:
            scratches.append((int(random.integers(0, width)), int(random.integers(3, 14))))
        for column, _ in scratches:
            image[:, np.clip(column, 0, width - 1)] += 60
        for _ in range(random.poisson(1.2)):
            centre = int(random.integers(0, width)), int(random.integers(0, height))
            cv2.circle(image, centre, int(random.integers(1, 3)), float(random.choice((25, 235))), cv2.FILLED)
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        image *= 1 - 0.32 * np.clip(np.hypot(x, y) - 0.55, 0, 1)
        # Lifted blacks and a slightly warm tone, like a faded print.
        yield np.clip((28 + 0.82 * image)[..., None] * np.array([1.01, 1.0, 0.96]), 0, 255)


def webcam(frames: Frames) -> Frames:
    """A small sensor in little light: soft, with noise that differs by colour; the codec does the rest."""
    random = np.random.default_rng(23)
    for frame in frames:
        yield np.clip(cv2.GaussianBlur(frame, (0, 0), 1.5) + random.normal(0, 5, frame.shape), 0, 255)


def old_phone(frames: Frames) -> Frames:
    """An early phone: half the resolution, slightly out of focus, sensor noise."""
    random = np.random.default_rng(29)
    for frame in frames:
        height, width = frame.shape[:2]
        small = cv2.resize(
            cv2.GaussianBlur(frame, (0, 0), 1.8), (width // 2, height // 2), interpolation=cv2.INTER_AREA
        )
        noisy = small + random.normal(0, 5, small.shape)
        yield np.clip(cv2.resize(noisy, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255)


def generate(frames: Frames) -> Frames:
    """A small latent space: detail of less than about three pixels is missing, and returns as soft, false texture."""
    random = np.random.default_rng(31)
    for frame in frames:
        height, width = frame.shape[:2]
        small = cv2.resize(frame, (width // 3, height // 3), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), 0.55) + random.normal(0, 1.2, small.shape)
        yield np.clip(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255)


RECORDINGS = {
    "old_footage": Recording(4.0, 18, age, crf=31, sound=False),
    "video_call": Recording(4.0, 20, webcam, crf=30, codec_size=(320, 180)),
    "two_people": Recording(4.0, 20, old_phone, crf=29),
    "generated_clip": Recording(4.0, 16, generate, crf=26),
}
