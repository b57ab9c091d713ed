"""The formats of clips, and of batches of clips, that a pipeline accepts and returns.

Internally, a clip is a list of uint8 RGB frames `(h, w, 3)`.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image


OUTPUT_TYPES = ("pil", "np", "pt")
# Rounding errors by which floats may exceed [0, 1].
TOLERANCE = 1e-3
Frames = list[list[Image.Image]] | np.ndarray | torch.Tensor


def split_batch(videos: object) -> list[object] | None:
    """Return the clips of a batch; `None` for a single clip.

    Args:
        videos: A list of paths, of lists of frames, or of arrays or tensors of a clip; or a batch in the form in which
            `write_frames` returns it.

    Raises:
        ValueError: If the batch is empty.
    """
    if isinstance(videos, np.ndarray | torch.Tensor):
        batch = list(videos) if videos.ndim == 5 else None
    else:
        batch = list(videos) if isinstance(videos, list | tuple) and any(map(_is_clip, videos)) else None
    if batch == []:
        raise ValueError("The batch contains no videos.")
    return batch


def _is_clip(value: object) -> bool:
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.ndim == 4
    return isinstance(value, str | os.PathLike | list | tuple)


def read_frames(video: object) -> list[np.ndarray]:
    """Convert a clip in any of the accepted formats to frames.

    Args:
        video: A list or iterator of `PIL.Image` or uint8 arrays `(h, w, 3)`; a uint8 array `(t, h, w, c)`; a float
            array `(t, h, w, c)` or a float tensor `(t, c, h, w)`, both in [0, 1]. One channel is grey; the last of
            four channels, alpha, is dropped.

    Returns:
        `list[np.ndarray]`: uint8 RGB frames `(h, w, 3)`, all of the same size.

    Raises:
        ValueError: If the clip has none of these formats, is empty, out of range or not finite, or its frames differ
            in size.
    """
    if isinstance(video, str | os.PathLike):
        raise ValueError("read_frames takes frames; use VideoReader to read a path.")
    if isinstance(video, torch.Tensor):
        if video.ndim != 4 or not video.is_floating_point():
            raise ValueError(
                f"A video tensor must be float (t, c, h, w) in [0, 1]; it is {video.dtype} {tuple(video.shape)}. "
                "Pass uint8 frames as a numpy array (t, h, w, c)."
            )
        video = video.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    if isinstance(video, np.ndarray):
        if video.ndim != 4:
            raise ValueError(f"A video array must be (t, h, w, c); this one is {video.shape}.")
    elif isinstance(video, Image.Image) or not isinstance(video, Iterable):
        raise ValueError(f"A video is a path, a list of frames, an array or a tensor, not {type(video).__name__}.")
    frames = [_to_uint8_rgb(frame, i) for i, frame in enumerate(video)]
    if not frames:
        raise ValueError("The video has no frames.")
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1:
        raise ValueError(
            f"All frames of a video must have the same size; there are {sorted(size[:2] for size in sizes)}."
        )
    return frames


def _to_uint8_rgb(frame: object, index: int) -> np.ndarray:
    if isinstance(frame, Image.Image):
        return _image_to_uint8_rgb(frame, index)
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] not in (1, 3, 4) or not frame.size:
        found = frame.shape if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ValueError(f"Frame {index} must be a PIL image or an array (h, w, 1, 3 or 4); it is {found}.")
    if frame.shape[2] == 1:
        frame = frame.repeat(3, axis=2)
    frame = frame[:, :, :3]
    if frame.dtype == np.uint8:
        return np.ascontiguousarray(frame)
    if not np.issubdtype(frame.dtype, np.floating):
        raise ValueError(f"Frame {index} is {frame.dtype}; frames are uint8, or floats in [0, 1].")
    if not np.isfinite(frame).all():
        raise ValueError(f"Frame {index} has values that are not finite (NaN or infinity).")
    if frame.min() < -TOLERANCE or frame.max() > 1 + TOLERANCE:
        raise ValueError(
            f"Frame {index} has floats from {frame.min():.3g} to {frame.max():.3g}; they must be in [0, 1]. "
            "Pass values from 0 to 255 as uint8."
        )
    return np.rint(frame.clip(0, 1) * 255).astype(np.uint8)


def _image_to_uint8_rgb(image: Image.Image, index: int) -> np.ndarray:
    if image.mode.startswith("I;16"):  # which convert() would clip at 255
        return np.rint(np.asarray(image)[:, :, None].repeat(3, axis=2) / 257).astype(np.uint8)
    if image.mode in ("F", "I"):
        raise ValueError(f"Frame {index} is a PIL image of mode {image.mode}, whose range is unknown; pass 8 bits.")
    return np.array(image.convert("RGB"))


def write_frames(frames: Iterator[np.ndarray], output_type: str) -> Frames:
    """Convert restored frames to diffusers' convention for videos, as a batch of one.

    Args:
        frames (`Iterator[np.ndarray]`): uint8 RGB frames `(h, w, 3)`.
        output_type (`str`): One of `OUTPUT_TYPES`.

    Returns:
        `"pil"`: a list with one list of `PIL.Image`; `"np"`: float array `(1, t, h, w, 3)` in [0, 1]; `"pt"`: float
        tensor `(1, t, 3, h, w)` in [0, 1].
    """
    if output_type == "pil":
        return [[Image.fromarray(frame) for frame in frames]]
    video = np.stack(list(frames)).astype(np.float32)[None] / 255
    return video if output_type == "np" else torch.from_numpy(video).permute(0, 1, 4, 2, 3).contiguous()


def join_batch(videos: list[Frames], is_array: bool) -> Frames | list[np.ndarray] | list[torch.Tensor]:
    """Join restored clips to a batch.

    Args:
        videos (`list`): Results of `write_frames`.
        is_array (`bool`): Whether the batch was one array or tensor, so that all clips have the same shape.

    Returns:
        `"pil"`: a list with one list of `PIL.Image` for each clip; otherwise one array or tensor `(b, ...)` if
        `is_array`, and else a list with one for each clip.
    """
    clips: list[Any] = [clip for video in videos for clip in video]
    if is_array and isinstance(clips[0], np.ndarray):
        return np.stack(clips)
    if is_array and isinstance(clips[0], torch.Tensor):
        return torch.stack(clips)
    return clips
