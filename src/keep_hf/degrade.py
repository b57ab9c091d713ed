"""The blind degradation of the KEEP paper: a sharp clip becomes a small, blurred, noisy, compressed one.

    blur -> Gaussian noise -> downsample -> Gaussian noise -> H.264

Blur kernel, interpolation and CRF are drawn once per clip, the noise levels anew for every frame.

Two things differ from the official code on purpose. It encodes at 1 frame per second; x264's macroblock tree lowers
the quantiser of long frames, by 6 log2(25^0.4) = 11.1 against 25 frames per second. Here the codec is told the true
rate, so the official CRF 25..44 is our 14..33. And odd sizes are padded for the codec and cropped again.

Training, evaluation and `keep-hf degrade` share this file.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from .video.reader import VideoReader
from .video.segment_encoder import REPRODUCIBLE
from .video.writer import VideoWriter


SMALLEST_SIDE = 16
INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Degradation:
    """The ranges from which the degradation of a clip is drawn; the defaults are the published training range.

    Lengths in pixels hold for faces of 512 x 512; `at_size` gives the same look for another size. All ranges include
    both ends and are drawn from uniformly.

    Args:
        blur_sigma (`tuple[float, float]`): Standard deviation of the Gaussian blur in pixels, along each axis.
        kernel_size (`int`): Side of the blur kernel in pixels, odd.
        isotropic_probability (`float`): How often the blur is the same along both axes; otherwise it is an ellipse at
            an angle in [-pi, pi].
        noise_sigma (`tuple[float, float]`): Standard deviation of the noise in levels of 255, new for every frame.
        grey_noise_probability (`float`): How often the noise is the same in the three colours.
        scale (`float`): The frames shrink by this factor, at least 1.
        resize_probabilities (`tuple[float, float, float]`): Of shrinking by area, linear and cubic interpolation.
        crf (`tuple[int, int]`): Constant rate factor of x264 at the true frame rate; the official code, which encodes
            at 1 frame per second, calls the same quality CRF + 11.
    """

    blur_sigma: tuple[float, float] = (2.0, 10.0)
    kernel_size: int = 21
    isotropic_probability: float = 0.7
    noise_sigma: tuple[float, float] = (0.0, 10.0)
    grey_noise_probability: float = 0.5
    scale: float = 4.0
    resize_probabilities: tuple[float, float, float] = (0.3, 0.3, 0.4)
    crf: tuple[int, int] = (14, 33)

    def __post_init__(self):
        for name, lowest, highest in (("blur_sigma", 0.01, 1000), ("noise_sigma", 0, 255), ("crf", 0, 51)):
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest:
                raise ValueError(f"{name} must be (low, high) within [{lowest}, {highest}], got {(low, high)}.")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be a positive odd number, got {self.kernel_size}.")
        if self.scale < 1:
            raise ValueError(f"scale must be at least 1 (frames shrink by it), got {self.scale}.")
        if min(self.resize_probabilities) < 0 or abs(sum(self.resize_probabilities) - 1) > 1e-6:
            raise ValueError(f"resize_probabilities must add up to 1, got {self.resize_probabilities}.")

    def at_size(self, face_size: int) -> "Degradation":
        """The same look for faces of another size than 512: blur and scale change in proportion.

        Args:
            face_size (`int`): Side of the sharp faces in pixels; 512 / scale (128) is the smallest.

        Returns:
            `Degradation`: At 256, for example, blur 1..5, kernel 11 and scale 2: again faces of 128 pixels.
        """
        factor = face_size / 512
        if self.scale * factor < 1:
            raise ValueError(f"face_size must be at least {512 / self.scale:g}, the degraded size, got {face_size}.")
        return replace(
            self,
            blur_sigma=(self.blur_sigma[0] * factor, self.blur_sigma[1] * factor),
            kernel_size=2 * round((self.kernel_size - 1) / 2 * factor) + 1,
            scale=self.scale * factor,
        )


TRAINING = Degradation()
"""The whole published training range of stages 2 and 3."""

LEVELS = {
    "mild": Degradation(blur_sigma=(2.0, 4.0), noise_sigma=(0.0, 3.0), crf=(14, 19)),
    "medium": Degradation(blur_sigma=(4.0, 7.0), noise_sigma=(3.0, 6.0), crf=(20, 26)),
    "heavy": Degradation(blur_sigma=(7.0, 10.0), noise_sigma=(6.0, 10.0), crf=(27, 33)),
}
"""Three parts of the training range, from light to strong. Where they are cut is our choice; everything else in them
(kernel, probabilities, scale 4, the outer ends) is published. The only published test level, "easy" of VFHQ-Test, has
blur 5..10, noise 0..10 and CRF 18..25 in the official count, thus about CRF 7..14 here if it was made at 1 frame per
second too."""


def degrade_frames(
    frames: np.ndarray, degradation: Degradation | str, *, seed: int, frame_rate: Fraction | float = 25
) -> np.ndarray:
    """Degrade a clip in memory.

    Args:
        frames (`np.ndarray`): Sharp clip, uint8 RGB of shape (t, h, w, 3), t at least 1.
        degradation (`Degradation` or `str`): The ranges to draw from, or one of "mild", "medium", "heavy".
        seed (`int`): Not negative. Equal seeds give equal results.
        frame_rate (`Fraction` or `float`): True frame rate of the clip in frames per second: the codec spends its
            bits by it.

    Returns:
        `np.ndarray`: uint8 RGB of shape (t, h / scale, w / scale, 3), sides rounded.

    Raises:
        ValueError: If the clip, the level, the seed or the frame rate cannot be used.
    """
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        found = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise ValueError(f"frames must be a uint8 array of shape (t, h, w, 3), got {found}.")
    if len(frames) == 0:
        raise ValueError("frames must hold at least one frame, got none.")
    if frame_rate <= 0:
        raise ValueError(f"frame_rate must be positive, got {frame_rate}.")
    camera = _Camera(_resolve(degradation), frames.shape[1], frames.shape[2], seed)
    small = np.stack([camera.take(frame) for frame in frames])
    rate = Fraction(frame_rate).limit_denominator(100_000)
    return np.stack(list(_through_h264(small, camera.crf, rate)))


def degrade_video(
    source: str | os.PathLike, target: str | os.PathLike, degradation: Degradation | str, *, seed: int = 0
) -> None:
    """Degrade a video file, frame by frame; times, sound and everything else stay as they are.

    The only H.264 pass is the one that writes the file.

    Args:
        source (`str` or `os.PathLike`): A video.
        target (`str` or `os.PathLike`): The file to write: .mp4, .mov or .mkv.
        degradation (`Degradation` or `str`): The ranges to draw from, or one of "mild", "medium", "heavy". They are
            meant for faces of 512 pixels; for others take `LEVELS[level].at_size(face_size)`.
        seed (`int`): Not negative. Equal seeds give equal results.

    Raises:
        ValueError: If the source, the target, the level or the seed cannot be used.
        OSError: If the target cannot be written.
    """
    if Path(target).suffix.lower() == ".webm":
        raise ValueError(
            f"{target}: webm cannot hold H.264, which is part of the degradation; take .mp4, .mov or .mkv."
        )
    with VideoReader(source) as reader:
        camera = _Camera(_resolve(degradation), reader.height, reader.width, seed)
        with VideoWriter(target, reader, width=camera.width, height=camera.height, crf=camera.crf) as writer:
            for frame in reader:
                writer.write(camera.take(frame.image), frame.pts, frame.duration)


def _resolve(degradation: Degradation | str) -> Degradation:
    if isinstance(degradation, Degradation):
        return degradation
    if degradation not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)} or a Degradation, got {degradation!r}.")
    return LEVELS[degradation]


class _Camera:
    """Everything before the codec, for one clip: what holds for the clip is drawn first, then frame after frame."""

    def __init__(self, degradation: Degradation, height: int, width: int, seed: int):
        self.degradation = degradation
        self.height, self.width = round(height / degradation.scale), round(width / degradation.scale)
        if min(self.height, self.width) < SMALLEST_SIDE:
            raise ValueError(
                f"frames of {width} x {height} are too small: shrunk by {degradation.scale:g} each side must still "
                f"have {SMALLEST_SIDE} pixels. Use larger frames or Degradation.at_size."
            )
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}.")
        self.random = np.random.default_rng(seed)
        self.kernel = self._draw_kernel()
        self.interpolation = INTERPOLATIONS[self.random.choice(3, p=degradation.resize_probabilities)]
        self.crf = int(self.random.integers(*degradation.crf, endpoint=True))

    def take(self, frame: np.ndarray) -> np.ndarray:
        blurred = cv2.filter2D(frame.astype(np.float32), -1, self.kernel)
        noisy = self._add_noise(blurred)
        small = cv2.resize(noisy, (self.width, self.height), interpolation=self.interpolation)
        return np.rint(self._add_noise(small)).astype(np.uint8)

    def _draw_kernel(self) -> np.ndarray:
        low, high = self.degradation.blur_sigma
        sigma_x = sigma_y = self.random.uniform(low, high)
        angle = 0.0
        if self.random.random() >= self.degradation.isotropic_probability:
            sigma_y = self.random.uniform(low, high)
            angle = self.random.uniform(-np.pi, np.pi)
        radius = self.degradation.kernel_size // 2
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        kernel = np.exp(-0.5 * ((along / sigma_x) ** 2 + (across / sigma_y) ** 2))
        return (kernel / kernel.sum()).astype(np.float32)

    def _add_noise(self, image: np.ndarray) -> np.ndarray:
        sigma = np.float32(self.random.uniform(*self.degradation.noise_sigma))
        channels = 1 if self.random.random() < self.degradation.grey_noise_probability else 3
        noise = self.random.standard_normal((*image.shape[:2], channels), dtype=np.float32)
        return np.clip(image + sigma * noise, 0, 255)


def _through_h264(frames: np.ndarray, crf: int, frame_rate: Fraction) -> Iterator[np.ndarray]:
    """Encode and decode (t, h, w, 3) in memory; every frame comes back, in order."""
    height, width = frames.shape[1:3]
    padded_height, padded_width = height + height % 2, width + width % 2  # 4:2:0 needs even sides
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = padded_width, padded_height, "yuv420p"
    encoder.framerate, encoder.time_base = frame_rate, 1 / frame_rate
    encoder.options = {"crf": str(crf)} | REPRODUCIBLE
    decoder = av.CodecContext.create("h264", "r")
    # The number of threads changes what x264 writes: one thread gives the same clip on every machine.
    encoder.thread_count = decoder.thread_count = 1

    packets = []
    for index, frame in enumerate(frames):
        padded = cv2.copyMakeBorder(frame, 0, padded_height - height, 0, padded_width - width, cv2.BORDER_REPLICATE)
        picture = av.VideoFrame.from_ndarray(padded, format="rgb24").reformat(format="yuv420p")
        picture.pts, picture.time_base = index, encoder.time_base
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    for packet in [*packets, None]:
        for picture in decoder.decode(packet):
            yield picture.to_ndarray(format="rgb24")[:height, :width]
