"""Degradations of real videos, from none to heavy, for the training of the direct path.

`keep_hf.degrade` has the degradation of the paper; test sets are made with it. Real videos are damaged in more ways:
small frames that were enlarged, several codecs at low rates, sharpening, motion blur, noise of low light, chroma that
bleeds, interlacing, grain. One combination is drawn per clip, noise per frame.
"""

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import cast

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext

from keep_hf.degrade import Degradation, degrade_frames


# Shares of clips: unchanged, degraded as in the paper, and as real videos are.
CLEAR, PAPER = 0.15, 0.5
MOST_NOISE = 14.0
COMPRESSIONS = {"none": 0.12, "jpeg": 0.25, "h264": 0.33, "h264 twice": 0.1, "mpeg4": 0.08, "mpeg2": 0.07, "vp9": 0.05}
# The paper's range from its mild end on
PAPER_RANGE = Degradation(blur_sigma=(0.5, 10.0), noise_sigma=(0.0, 10.0), crf=(12, 33))


def degrade_clip(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Degrade a clip of aligned faces and enlarge it to its size again.

    Args:
        frames (`np.ndarray` of shape `(t, size, size, 3)`): Sharp RGB, uint8.
        random (`np.random.Generator`): Source of all random numbers.

    Returns:
        `np.ndarray` of the same shape, uint8.
    """
    size = frames.shape[1]
    share = random.random()
    if share < CLEAR:
        return through_codec(frames, "libx264", {"crf": str(random.integers(8, 22))}) if share < CLEAR / 2 else frames
    if share < CLEAR + PAPER:
        small = degrade_frames(frames, PAPER_RANGE.at_size(size), seed=int(random.integers(2**31)))
    else:
        small = degrade_as_real(frames, random)
    enlarge = cv2.INTER_LINEAR if random.random() < 0.7 else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (size, size), interpolation=enlarge) for frame in small])


def degrade_as_real(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Degradations of camera, processing and codec; returns smaller frames, uint8."""
    size = frames.shape[1]
    side = 2 * round(np.exp(random.uniform(np.log(size / 9), np.log(size))) / 2)
    shrink = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[random.choice(3, p=(0.6, 0.2, 0.2))]
    blur = draw_blur(random, size / side)
    clip = [cv2.resize(blur(frame), (side, side), interpolation=shrink).astype(np.float32) for frame in frames]
    if random.random() < 0.55:
        noise = draw_noise(random)
        clip = [noise(frame) for frame in clip]
    if random.random() < 0.2:
        amount, sigma = random.uniform(0.4, 2.0), random.uniform(0.7, 2.0)
        clip = [frame + amount * (frame - cv2.GaussianBlur(frame, (0, 0), sigma)) for frame in clip]
    if random.random() < 0.12:
        factor, shift = random.uniform(2, 8), int(random.integers(-2, 3))
        clip = [bleed_chroma(frame, factor, shift) for frame in clip]
    if random.random() < 0.05 and len(clip) > 1:
        clip = interlace(clip)
    small = np.stack([np.uint8(np.rint(np.clip(frame, 0, 255))) for frame in clip])
    if random.random() < 0.2:  # enlarged before it was compressed
        larger = 2 * round(min(side * random.uniform(1.3, 2.5), size) / 2)
        small = np.stack([cv2.resize(frame, (larger, larger), interpolation=cv2.INTER_LINEAR) for frame in small])
    return compress(small, random)


def draw_blur(random: np.random.Generator, shrink: float) -> Callable[[np.ndarray], np.ndarray]:
    """No blur, the blur of a lens or that of a motion, in proportion to the pixels of the small frame."""
    kind = random.random()
    if kind < 0.35:
        return lambda frame: frame
    if kind < 0.8:
        sigma = random.uniform(0.3, 1.6) * max(shrink, 1.5)
        return lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma)
    length = random.uniform(2, 7) * max(shrink, 1.5)
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    direction = np.array([np.cos(angle := random.uniform(0, np.pi)), np.sin(angle)]) * length / 2
    middle = side // 2
    start, end = np.rint((middle - direction, middle + direction)).astype(int)
    cv2.line(kernel, tuple(map(int, start)), tuple(map(int, end)), 1.0)
    kernel /= kernel.sum()
    return lambda frame: cv2.filter2D(frame, -1, kernel)


def draw_noise(random: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Noise of a sensor (more where it is bright, or in the colour only), or grain (coarse, of the luma)."""
    kind, sigma = random.choice(("grey", "colour", "shot", "chroma", "grain")), random.uniform(1, MOST_NOISE)
    grain = random.uniform(0.6, 1.5)

    def add(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        channels = 1 if kind in ("grey", "grain") else 3
        noise = random.standard_normal((height, width, channels), dtype=np.float32)
        if kind == "shot":
            noise *= np.sqrt(np.clip(frame, 0, 255) / 128)
        if kind == "chroma":
            noise -= noise.mean(axis=2, keepdims=True)
        if kind in ("grain", "chroma"):
            noise = cv2.GaussianBlur(noise, (0, 0), grain).reshape(height, width, channels) * 2 * grain
        return frame + np.float32(sigma) * noise

    return add


def bleed_chroma(frame: np.ndarray, factor: float, shift: int) -> np.ndarray:
    """Colour at a fraction of the resolution across, moved sideways, as on video tape."""
    height, width = frame.shape[:2]
    luma = frame @ np.array([[0.299], [0.587], [0.114]], np.float32)
    colour = frame - luma
    coarse = cv2.resize(colour, (max(2, round(width / factor)), height), interpolation=cv2.INTER_AREA)
    return luma + np.roll(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), shift, axis=1)


def interlace(clip: list[np.ndarray]) -> list[np.ndarray]:
    """Take every second row from the frame before."""
    woven = [clip[0]]
    for before, frame in itertools.pairwise(clip):
        both = frame.copy()
        both[1::2] = before[1::2]
        woven.append(both)
    return woven


def compress(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Nothing, JPEG, or a video codec, by the probabilities in `COMPRESSIONS`."""
    kind = random.choice(list(COMPRESSIONS), p=list(COMPRESSIONS.values()))
    if kind == "none":
        return frames
    if kind == "jpeg":
        quality = int(random.integers(18, 92))
        flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
        decoded = [cv2.imdecode(cv2.imencode(".jpg", frame, flags)[1], cv2.IMREAD_COLOR) for frame in frames]
        return np.stack([frame for frame in decoded if frame is not None])
    if kind in ("mpeg4", "mpeg2"):
        quantizer = str(random.integers(3, 16))
        codec = "mpeg4" if kind == "mpeg4" else "mpeg2video"
        return through_codec(frames, codec, {"qmin": quantizer, "qmax": quantizer})
    if kind == "vp9":
        options = {"deadline": "realtime", "cpu-used": "8", "crf": str(random.integers(25, 50)), "b": "0"}
        return through_codec(frames, "libvpx-vp9", options)
    frames = through_codec(frames, "libx264", {"crf": str(random.integers(16, 36)), "preset": "fast"})
    if kind == "h264 twice":
        frames = through_codec(frames, "libx264", {"crf": str(random.integers(18, 32)), "preset": "veryfast"})
    return frames


def through_codec(frames: np.ndarray, codec: str, options: dict[str, str]) -> np.ndarray:
    """Encode and decode a clip `(t, h, w, 3)` at 25 frames per second in one thread, in memory."""
    height, width = frames.shape[1:3]
    encoder = cast(VideoCodecContext, av.CodecContext.create(codec, "w"))
    encoder.width, encoder.height, encoder.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(25), Fraction(1, 25)
    encoder.options = options
    name = {"libx264": "h264", "libvpx-vp9": "vp9"}.get(codec, codec)
    encoder.thread_count = 1
    packets = []
    for index, frame in enumerate(frames):
        padded = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        image = av.VideoFrame.from_ndarray(padded, format="rgb24").reformat(format="yuv420p")
        image.pts, image.time_base = index, encoder.time_base
        packets += encoder.encode(image)
    packets += encoder.encode(None)
    decoder = cast(VideoCodecContext, av.CodecContext.create(name, "r"))
    decoder.thread_count = 1
    decoder.extradata = encoder.extradata
    decoded = [
        image.to_ndarray(format="rgb24")[:height, :width]
        for packet in [*packets, None]
        for image in decoder.decode(packet)
    ]
    if len(decoded) != len(frames):
        raise RuntimeError(f"{codec} returned {len(decoded)} of {len(frames)} frames.")
    return np.stack(decoded)
