"""Enlarge the background, that is the whole frame around the faces, with a network for images of all kinds.

spandrel recognizes which of the many super-resolution networks a file holds by its weights, and builds it. A frame
goes through the network in tiles, so that memory depends on the tile and not on the frame.
"""

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..models.checkpoint_files import load_checkpoint
from .fingerprint import fingerprint, qualified_name


if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor


# Side of a tile and width of a margin, in pixels of the frame. In the first margin of a tile the network lacks what is
# beyond the border, so the tile before it is used; in the second margin the tile before fades into this one.
TILE, MARGIN = 512, 16


class Background:
    """A network that enlarges frames, tile by tile.

    Args:
        model (`spandrel.ImageModelDescriptor`):
            Network from `(1, 3, h, w)` to `(1, 3, h * scale, w * scale)`, RGB in [0, 1], with the attributes `scale`,
            `device` and `dtype`; it takes tiles of any size.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Enlarge a frame.

        Args:
            frame (`np.ndarray` of shape `(height, width, 3)`):
                RGB frame, uint8.

        Returns:
            `np.ndarray` of shape `(height * scale, width * scale, 3)`, uint8: the enlarged frame.
        """
        scale = self.model.scale
        image = torch.from_numpy(frame).to(self.model.device).permute(2, 0, 1)
        height, width = image.shape[1:]
        result = image.new_zeros(3, height * scale, width * scale)
        # Tiles are joined to a strip as wide as the frame first, then strips to the frame: fading in both directions
        # at once would leave an edge where four tiles meet.
        for top in _starts(height):
            rows = image[:, top : top + TILE]
            strip = image.new_zeros(3, rows.shape[1] * scale, width * scale)
            for left in _starts(width):
                tile = rows[:, :, left : left + TILE].to(self.model.dtype) / 255
                larger = self.model(tile[None])[0].float() * 255
                _fade_in(strip[:, :, left * scale :], larger, _ramp(left, scale, larger.shape[2]))
            _fade_in(result[:, top * scale :], strip.float(), _ramp(top, scale, strip.shape[1])[:, None])
        return result.permute(1, 2, 0).contiguous().cpu().numpy()


def load_background(
    model_file: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Background:
    """Load a network that enlarges frames.

    Args:
        model_file (`str` or `Path`):
            `.safetensors` or `.pth` file of a network that spandrel knows, such as RealESRGAN or SPAN. No code in the
            file is executed.
        device (`torch.device` or `str`, *optional*, defaults to `"cpu"`):
            Device of the network.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`):
            Data type of the network.

    Returns:
        [`Background`]: A value for the option `background` of a [`KeepPipeline`].

    Raises:
        ValueError: If spandrel is not installed; if the file is missing or damaged; or if its network is of another
            kind or does not run in this dtype.
    """
    model = load_image_network(model_file)
    kind = f"{model_file} is a network of type {model.architecture.name}"
    if model.purpose == "FaceSR":
        raise ValueError(f"{kind}, which is not for whole images: pass a network for super-resolution.")
    if (model.input_channels, model.output_channels) != (3, 3):
        raise ValueError(
            f"{kind} from {model.input_channels} to {model.output_channels} channels: pass one from RGB to RGB."
        )
    supported = {torch.float32: True, torch.float16: model.supports_half, torch.bfloat16: model.supports_bfloat16}
    if not supported[dtype]:
        raise ValueError(f"{kind}, which does not run in {dtype}: pass another dtype.")
    return Background(model.to(device, dtype).eval())


def load_image_network(model_file: str | Path) -> "ImageModelDescriptor":
    """Load a network from image to image with spandrel.

    Args:
        model_file (`str` or `Path`):
            `.safetensors` or `.pth` file. No code in the file is executed.

    Returns:
        `spandrel.ImageModelDescriptor`: The network, on the CPU, in float32.

    Raises:
        ValueError: If spandrel is not installed, or the file is missing, damaged, or holds no such network.
    """
    if find_spec("spandrel") is None:
        raise ValueError(f"{model_file} needs spandrel, which is not installed: pip install spandrel.")
    weights = load_checkpoint(model_file)
    import spandrel

    try:
        model = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(weights))
    except (spandrel.UnsupportedModelError, RuntimeError) as error:
        raise ValueError(f"{model_file} holds no network that spandrel {spandrel.__version__} knows.") from error
    if not isinstance(model, spandrel.ImageModelDescriptor):
        raise ValueError(
            f"{model_file} is a network of type {model.architecture.name}, which does not output an image."
        )
    return model


def describe_background(background: Callable[[np.ndarray], np.ndarray] | None) -> str | None:
    """Identify the option `background`: a network by its weights, any other callable by its name."""
    if background is None:
        return None
    if not isinstance(background, Background):
        return qualified_name(background)
    # spandrel's descriptor holds the network as its attribute `model`.
    network = background.model if isinstance(background.model, nn.Module) else background.model.model
    return f"{type(network).__name__} {fingerprint(network)}"


def _starts(length: int) -> list[int]:
    """First pixels of the tiles along a side, evenly spaced; neighbours share three margins or more."""
    if length <= TILE:
        return [0]
    steps = math.ceil((length - TILE) / (TILE - 3 * MARGIN))
    return [round(i * (length - TILE) / steps) for i in range(steps + 1)]


def _ramp(start: int, scale: int, length: int) -> torch.Tensor:
    """Weight of a tile along a side, in pixels of the enlarged frame: 0 in its first margin, 1 after the second.

    The tile before it ends after a third margin, whose pixels are not reliable, so there this tile is used alone.
    """
    if start == 0:
        return torch.ones(length)
    return (((torch.arange(length) + 0.5) / scale - MARGIN) / MARGIN).clamp(0, 1)


def _fade_in(place: torch.Tensor, tile: torch.Tensor, weight: torch.Tensor) -> None:
    """Blend a tile into the beginning of `place`, by its weight."""
    place = place[:, : tile.shape[1], : tile.shape[2]]
    place.copy_(torch.lerp(place.float(), tile, weight.to(tile.device)).round().clamp(0, 255))
