"""The blind degradation of the KEEP paper: a sharp clip becomes a small, blurred, noisy, compressed one.

    blur -> Gaussian noise -> downsample -> Gaussian noise -> H.264

Section 4 of the paper lists the steps; their order and ranges are those of the published code. Blur kernel,
interpolation and CRF are drawn once per clip, the noise levels for every frame.

Two things differ from the published code on purpose. It encodes at 1 frame per second, where x264's macroblock tree
lowers the quantiser by 6 log2(25^0.4) = 11.1 compared with 25 frames per second. Here the codec gets the true frame
rate, so the published CRF 25..44 corresponds to 14..33. Odd sizes are padded for the codec and cropped again.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from .video.colour import MATRIX_601, Colour, from_rgb, to_rgb
from .video.reader import VideoReader
from .video.segments.encoding import REPRODUCIBLE
from .video.writer import VideoWriter


SMALLEST_SIDE = 16
# Of the conversion to YUV and back in memory. It has to be exact: a network learns to undo any shift of the colours.
COLOUR = Colour(MATRIX_601)
INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Degradation:
    """The ranges from which the degradation of a clip is drawn; the defaults are the published training range.

    Lengths in pixels apply to faces of 512 x 512; `at_size` scales them to another size. Values are drawn uniformly
    from ranges that include both ends.

    Args:
        blur_sigma (`tuple[float, float]`): Standard deviation of the Gaussian blur in pixels, along each axis.
        kernel_size (`int`): Side of the blur kernel in pixels, odd.
        isotropic_probability (`float`): Probability that the blur is equal along both axes; otherwise it is an
            ellipse at an angle in [-pi, pi].
        noise_sigma (`tuple[float, float]`): Standard deviation of the noise in levels of 255, drawn for every frame.
        grey_noise_probability (`float`): Probability that the noise is equal in the three colours.
        scale (`float`): Factor by which the frames are reduced, at least 1.
        resize_probabilities (`tuple[float, float, float]`): Probabilities of area, linear and cubic interpolation.
        crf (`tuple[int, int]`): Constant rate factor of x264 at the true frame rate. The published code, which encodes
            at 1 frame per second, needs CRF + 11 for the same quality.

    Raises:
        ValueError: If a value is out of range.
    """

    blur_sigma: tuple[float, float] = (2.0, 10.0)
    kernel_size: int = 21
    isotropic_probability: float = 0.7
    noise_sigma: tuple[float, float] = (0.0, 10.0)
    grey_noise_probability: float = 0.5
    scale: float = 4.0
    resize_probabilities: tuple[float, float, float] = (0.3, 0.3, 0.4)
    crf: tuple[int, int] = (14, 33)

    def __post_init__(self) -> None:
        for name, lowest, highest in (("blur_sigma", 0.01, 1000), ("noise_sigma", 0, 255), ("crf", 0, 51)):
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest:
                raise ValueError(f"{name} must be (low, high) within [{lowest}, {highest}], got {(low, high)}.")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be a positive odd number, got {self.kernel_size}.")
        if self.scale < 1:
            raise ValueError(f"scale must be at least 1 (it divides the size of the frames), got {self.scale}.")
        if min(self.resize_probabilities) < 0 or abs(sum(self.resize_probabilities) - 1) > 1e-6:
            raise ValueError(f"resize_probabilities must add up to 1, got {self.resize_probabilities}.")

    def at_size(self, face_size: int) -> "Degradation":
        """Scale blur and size in proportion, for faces of another size than 512.

        Args:
            face_size (`int`): Side of the sharp faces in pixels; 512 / scale (128) is the smallest.

        Returns:
            `Degradation`: For 256, for example, blur 1..5, kernel 11 and scale 2: degraded faces of 128 pixels again.

        Raises:
            ValueError: If `face_size` is too small.
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
"""The complete published training range of stages 2 and 3."""

LEVELS = {
    "mild": Degradation(blur_sigma=(2.0, 4.0), noise_sigma=(0.0, 3.0), crf=(14, 19)),
    "medium": Degradation(blur_sigma=(4.0, 7.0), noise_sigma=(3.0, 6.0), crf=(20, 26)),
    "heavy": Degradation(blur_sigma=(7.0, 10.0), noise_sigma=(6.0, 10.0), crf=(27, 33)),
}
"""Three parts of the training range, from light to strong, named after the splits of the paper (section 4).

The borders between them are our choice; everything else (kernel, probabilities, scale 4, the outer ends) is published.
The only published test level, "easy" of VFHQ-Test, has blur 5..10, noise 0..10 and CRF 18..25 at 1 frame per second,
which corresponds to about CRF 7..14 here."""


def degrade_frames(
    frames: np.ndarray, degradation: Degradation | str, *, seed: int, frame_rate: Fraction | float = 25
) -> np.ndarray:
    """Degrade a clip in memory.

    Args:
        frames (`np.ndarray`): Sharp clip, uint8 RGB of shape (t, h, w, 3), t at least 1.
        degradation (`Degradation` or `str`): The ranges to draw from, or one of "mild", "medium", "heavy".
        seed (`int`): Not negative. Equal seeds give equal results.
        frame_rate (`Fraction` or `float`, *optional*, defaults to 25): True frame rate of the clip in frames per
            second; the codec allocates its bits accordingly.

    Returns:
        `np.ndarray`: uint8 RGB of shape (t, h / scale, w / scale, 3), sides rounded.

    Raises:
        ValueError: If the clip, the degradation, the seed or the frame rate is not valid.
    """
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        found = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise ValueError(f"frames must be a uint8 array of shape (t, h, w, 3), got {found}.")
    if len(frames) == 0:
        raise ValueError("frames must contain at least one frame, got none.")
    if frame_rate <= 0:
        raise ValueError(f"frame_rate must be positive, got {frame_rate}.")
    sampled = _SampledDegradation(_resolve(degradation), frames.shape[1], frames.shape[2], seed)
    small = np.stack([sampled.apply(frame) for frame in frames])
    rate = Fraction(frame_rate).limit_denominator(100_000)
    return np.stack(list(_compress(small, sampled.crf, rate)))


def degrade_video(
    source: str | os.PathLike, target: str | os.PathLike, degradation: Degradation | str, *, seed: int = 0
) -> None:
    """Degrade a video file frame by frame; timestamps, audio and everything else do not change.

    The H.264 pass of the degradation is the one that writes the file.

    Args:
        source (`str` or `os.PathLike`): A video.
        target (`str` or `os.PathLike`): The file to write: .mp4, .mov or .mkv.
        degradation (`Degradation` or `str`): The ranges to draw from, or one of "mild", "medium", "heavy". These apply
            to faces of 512 pixels; use `LEVELS[level].at_size(face_size)` for others.
        seed (`int`, *optional*, defaults to 0): Not negative. Equal seeds give equal results.

    Raises:
        ValueError: If the source, the target, the degradation or the seed is not valid.
        OSError: If the target cannot be written.
    """
    if Path(target).suffix.lower() == ".webm":
        raise ValueError(
            f"{target}: WebM does not support H.264, which is part of the degradation; use .mp4, .mov or .mkv."
        )
    with VideoReader(source) as reader:
        sampled = _SampledDegradation(_resolve(degradation), reader.height, reader.width, seed)
        with VideoWriter(
            target, reader, width=sampled.width, height=sampled.height, crf=sampled.crf, bits=8
        ) as writer:
            for frame in reader:
                writer.write(sampled.apply(frame.image), frame.pts, frame.duration)


def _resolve(degradation: Degradation | str) -> Degradation:
    if isinstance(degradation, Degradation):
        return degradation
    if degradation not in LEVELS:
        raise ValueError(f"degradation must be one of {', '.join(LEVELS)} or a Degradation, got {degradation!r}.")
    return LEVELS[degradation]


class _SampledDegradation:
    """The degradation of one clip up to the codec: its constants are drawn first, then the noise of each frame."""

    def __init__(self, degradation: Degradation, height: int, width: int, seed: int) -> None:
        self.degradation = degradation
        self.height, self.width = round(height / degradation.scale), round(width / degradation.scale)
        if min(self.height, self.width) < SMALLEST_SIDE:
            raise ValueError(
                f"frames of {width} x {height} are too small: divided by {degradation.scale:g}, each side must be at "
                f"least {SMALLEST_SIDE} pixels. Use larger frames or Degradation.at_size."
            )
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}.")
        self.random = np.random.default_rng(seed)
        self.kernel = self._draw_kernel()
        self.interpolation = INTERPOLATIONS[self.random.choice(3, p=degradation.resize_probabilities)]
        self.crf = int(self.random.integers(*degradation.crf, endpoint=True))

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """Degrade the next frame, uint8 of shape (h, w, 3)."""
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


def _compress(frames: np.ndarray, crf: int, frame_rate: Fraction) -> Iterator[np.ndarray]:
    """Encode and decode frames (t, h, w, 3) in memory; yields all of them, in order."""
    height, width = frames.shape[1:3]
    padded_height, padded_width = height + height % 2, width + width % 2  # 4:2:0 needs even sides
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = padded_width, padded_height, "yuv420p"
    encoder.framerate, encoder.time_base = frame_rate, 1 / frame_rate
    encoder.options = {"crf": str(crf)} | REPRODUCIBLE
    decoder = av.CodecContext.create("h264", "r")
    # The output of x264 depends on the number of threads: one thread gives the same clip on every machine.
    encoder.thread_count = decoder.thread_count = 1

    packets = []
    for index, frame in enumerate(frames):
        padded = cv2.copyMakeBorder(frame, 0, padded_height - height, 0, padded_width - width, cv2.BORDER_REPLICATE)
        encoded = from_rgb(padded, COLOUR, "yuv420p")
        encoded.pts, encoded.time_base = index, encoder.time_base
        packets += encoder.encode(encoded)
    packets += encoder.encode(None)
    for packet in [*packets, None]:
        for decoded in decoder.decode(packet):
            yield to_rgb(decoded, COLOUR)[:height, :width]
