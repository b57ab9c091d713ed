"""What is around the faces, made larger by a network for pictures of all kinds: a callable from frame to larger frame.

spandrel tells from the weights alone which of the many networks for super-resolution a file holds, and builds it.  A
frame goes through in tiles, so that memory depends on the tile and not on the frame.
"""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..models.checkpoint_files import load_checkpoint


# Pixels of the frame: the side of a tile, and the width both of a tile's border that is not used, where the network
# lacks what lies beyond, and of the band after it in which a tile fades into the ones before.
TILE, MARGIN = 512, 16


class Background:
    """A network that enlarges frames, tile by tile.

    Args:
        model (`spandrel.ImageModelDescriptor`):
            Network from `(1, 3, h, w)` to `(1, 3, h * scale, w * scale)`, RGB from 0 to 1, with the attributes
            `scale`, `device` and `dtype`; it takes tiles of any size.
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
            `np.ndarray` of shape `(height * scale, width * scale, 3)`, uint8: the frame at the scale of the network.
        """
        scale = self.model.scale
        image = torch.from_numpy(frame).to(self.model.device).permute(2, 0, 1)
        height, width = image.shape[1:]
        result = image.new_zeros(3, height * scale, width * scale)
        # Tiles are joined to a strip as wide as the frame first, then strips to the frame: where four tiles meet,
        # fading on both sides at once would leave an edge.
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
            `.safetensors` or `.pth` file of a network that spandrel knows, as RealESRGAN or SPAN; no code of the file
            runs.
        device (`torch.device` or `str`, *optional*, defaults to `"cpu"`):
            Where the network runs.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`):
            Of the network.

    Returns:
        [`Background`]: the option `background` of a [`KeepPipeline`].

    Raises:
        ValueError: If spandrel is not installed, the file is missing or damaged, or holds a network of another kind
            or one that cannot run in this dtype.
    """
    if find_spec("spandrel") is None:
        raise ValueError("a background model needs spandrel, which is not installed: pip install spandrel.")
    weights = load_checkpoint(model_file)
    import spandrel

    try:
        model = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(weights))
    except (spandrel.UnsupportedModelError, RuntimeError) as error:
        raise ValueError(f"{model_file} holds no network that spandrel {spandrel.__version__} knows.") from error
    kind = f"{model_file} is a {model.architecture.name}, "
    if not isinstance(model, spandrel.ImageModelDescriptor) or model.purpose == "FaceSR":
        raise ValueError(f"{kind}which is not for whole pictures: pass a network for super-resolution.")
    if (model.input_channels, model.output_channels) != (3, 3):
        raise ValueError(
            f"{kind}from {model.input_channels} to {model.output_channels} channels: pass one from RGB to RGB."
        )
    runs = {torch.float32: True, torch.float16: model.supports_half, torch.bfloat16: model.supports_bfloat16}
    if not runs[dtype]:
        raise ValueError(f"{kind}which cannot run in {dtype}: pass another dtype.")
    return Background(model.to(device, dtype).eval())


def _starts(length: int) -> list[int]:
    """Where tiles begin along a side, evenly, so that each shares three margins or more with the one before."""
    if length <= TILE:
        return [0]
    steps = math.ceil((length - TILE) / (TILE - 3 * MARGIN))
    return [round(i * (length - TILE) / steps) for i in range(steps + 1)]


def _ramp(start: int, scale: int, length: int) -> torch.Tensor:
    """Weight of a tile along a side, in pixels of the larger frame: 0 in its first margin, 1 after the second.

    What is before stays where the tile begins; where that ends, and is not to be relied on, the tile is alone.
    """
    if start == 0:
        return torch.ones(length)
    return (((torch.arange(length) + 0.5) / scale - MARGIN) / MARGIN).clamp(0, 1)


def _fade_in(place: torch.Tensor, tile: torch.Tensor, weight: torch.Tensor) -> None:
    """Write a tile over what is at the beginning of `place`, by its weight."""
    place = place[:, : tile.shape[1], : tile.shape[2]]
    place.copy_(torch.lerp(place.float(), tile, weight.to(tile.device)).round().clamp(0, 255))
