"""Image and video codecs, as clips pass through them: once or twice, in constant or changing quality."""

from fractions import Fraction
from typing import cast

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext

from keep_hf.degrade import COLOUR
from keep_hf.video.colour import from_rgb, to_rgb
from keep_hf.video.segments.encoding import REPRODUCIBLE


COMPRESSIONS = {
    "none": 0.1,
    "jpeg": 0.15,
    "mjpeg": 0.08,
    "h264": 0.3,
    "h264 twice": 0.12,
    "hevc": 0.05,
    "mpeg4": 0.07,
    "mpeg2": 0.07,
    "vp9": 0.06,
}
if "libx265" not in av.codecs_available:  # FFmpeg may be built without it
    COMPRESSIONS["h264"] += COMPRESSIONS.pop("hevc")
DECODERS = {"libx264": "h264", "libx265": "hevc", "libvpx-vp9": "vp9"}
JPEG_SAMPLINGS = (
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


def compress(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Encode and decode a clip `(t, h, w, 3)`, uint8 RGB, by the probabilities in `COMPRESSIONS`."""
    kind = random.choice(list(COMPRESSIONS), p=list(COMPRESSIONS.values()))
    if kind == "none":
        return frames
    if kind == "jpeg":
        return encode_jpegs(frames, np.full(len(frames), random.uniform(18, 92)), random)
    if kind == "mjpeg":
        # The camera or its driver changes the quality from frame to frame; often the stream is encoded again.
        qualities = random.uniform(25, 80) + random.uniform(0, 12) * random.standard_normal(len(frames))
        frames = encode_jpegs(frames, qualities, random)
        return encode_h264(frames, random, (16, 30)) if random.random() < 0.5 else frames
    if kind in ("mpeg4", "mpeg2"):
        return encode_mpeg(frames, "mpeg4" if kind == "mpeg4" else "mpeg2video", random)
    if kind == "vp9":
        options = {"deadline": "realtime", "cpu-used": "8", "crf": str(random.integers(25, 50)), "b": "0"}
        return through_codec(frames, "libvpx-vp9", options)
    if kind == "hevc":
        quiet = "log-level=none:pools=none:frame-threads=1:wpp=0:ctu=16"
        crf = str(random.integers(20, 38))
        return through_codec(frames, "libx265", {"crf": crf, "preset": "ultrafast", "x265-params": quiet})
    frames = encode_h264(frames, random, (16, 35), "fast")
    if kind == "h264 twice":
        # Often at another size, so that the blocks of the two codecs do not coincide.
        if random.random() < 0.6:
            side = 2 * round(len(frames[0]) * random.uniform(0.7, 1.4) / 2)
            frames = np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_LINEAR) for frame in frames])
        frames = encode_h264(frames, random, (18, 31), "veryfast")
    return frames


def encode_jpegs(frames: np.ndarray, qualities: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Encode every frame as a JPEG file of its quality, from 1 to 100."""
    sampling = JPEG_SAMPLINGS[random.choice(3, p=(0.6, 0.3, 0.1))]
    decoded = []
    for frame, quality in zip(frames, qualities, strict=True):
        flags = [cv2.IMWRITE_JPEG_QUALITY, int(np.clip(quality, 5, 98)), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        encoded = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), flags)[1]
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
        assert image is not None
        decoded.append(image)
    return np.stack(decoded)


def encode_h264(
    frames: np.ndarray, random: np.random.Generator, crf: tuple[int, int], preset: str = "medium"
) -> np.ndarray:
    """H.264 at a CRF from a range that includes both ends. In some clips the quality pulses with the key frames."""
    options = {"crf": str(random.integers(*crf, endpoint=True)), "preset": preset} | REPRODUCIBLE
    if random.random() < 0.2:
        # Quantizers of key frames below or above those of the frames between them
        parameters = [f"ipratio={random.uniform(0.6, 2.5):.2f}", *filter(None, [options.get("x264-params")])]
        options |= {"g": str(random.integers(2, 9)), "x264-params": ":".join(parameters)}
    return through_codec(frames, "libx264", options)


def encode_mpeg(frames: np.ndarray, codec: str, random: np.random.Generator) -> np.ndarray:
    """MPEG-2 or MPEG-4 with a constant quantizer, or at a low rate, by which it changes from frame to frame."""
    options = {"g": str(random.integers(4, 13)), "bf": str(random.integers(0, 3))}
    if random.random() < 0.6:
        quantizer = str(random.integers(3, 16))
        return through_codec(frames, codec, options | {"qmin": quantizer, "qmax": quantizer})
    bits_per_pixel = np.exp(random.uniform(np.log(0.02), np.log(0.12)))
    rate = round(25 * bits_per_pixel * frames.shape[1] * frames.shape[2])
    return through_codec(frames, codec, options | {"b": str(rate), "qmin": "2", "qmax": "24"})


def through_codec(frames: np.ndarray, codec: str, options: dict[str, str]) -> np.ndarray:
    """Encode and decode a clip `(t, h, w, 3)` at 25 frames per second in one thread, in memory."""
    height, width = frames.shape[1:3]
    encoder = cast(VideoCodecContext, av.CodecContext.create(codec, "w"))
    encoder.width, encoder.height, encoder.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(25), Fraction(1, 25)
    encoder.options = options
    encoder.thread_count = 1
    packets = []
    for index, frame in enumerate(frames):
        padded = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        image = from_rgb(padded, COLOUR, "yuv420p")
        image.pts, image.time_base = index, encoder.time_base
        packets += encoder.encode(image)
    packets += encoder.encode(None)
    decoder = cast(VideoCodecContext, av.CodecContext.create(DECODERS.get(codec, codec), "r"))
    decoder.thread_count = 1
    decoder.extradata = encoder.extradata
    decoded = [
        to_rgb(image, COLOUR)[:height, :width] for packet in [*packets, None] for image in decoder.decode(packet)
    ]
    if len(decoded) != len(frames):
        raise RuntimeError(f"{codec} returned {len(decoded)} of {len(frames)} frames.")
    return np.stack(decoded)
