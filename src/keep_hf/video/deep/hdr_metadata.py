"""The metadata of HDR videos that hold for all frames: mastering display (SMPTE ST 2086) and content light level."""

from dataclasses import dataclass
from typing import Any

import av
import numpy as np


# What FFmpeg decodes and no encoder takes from us.
DYNAMIC_METADATA = {
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DOVI_METADATA": "Dolby Vision",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
}
# Units of the metadata in a bit stream (ITU-T H.265, D.3.28).
CHROMATICITY_UNITS, LUMINANCE_UNITS = 50_000, 10_000


@dataclass(frozen=True)
class HdrMetadata:
    """The metadata, in the units of H.264 and H.265 bit streams.

    Args:
        mastering_display (`tuple[int, ...]`, *optional*): x and y of red, green, blue and white, in 1/50000; largest
            and smallest luminance, in 1/10000 nits.
        light_level (`tuple[int, int]`, *optional*): Largest and largest average light level of a frame, in nits.
        dynamic (`tuple[str, ...]`): Names of metadata that change from frame to frame; they are not kept.
    """

    mastering_display: tuple[int, ...] | None = None
    light_level: tuple[int, int] | None = None
    dynamic: tuple[str, ...] = ()

    @classmethod
    def read(cls, frame: av.VideoFrame) -> "HdrMetadata":
        """Read the metadata of a decoded frame, wherever the file contains them."""
        try:
            side_data: Any = frame.side_data
        except ValueError:  # PyAV has no name for some side data, as the number of the view in spatial videos
            return cls(dynamic=("HDR and spatial video",))
        display = light_level = None
        if (found := side_data.get("MASTERING_DISPLAY_METADATA")) is not None:
            display = _read_mastering_display(bytes(found))
        if (found := side_data.get("CONTENT_LIGHT_LEVEL")) is not None:
            light_level = tuple(np.frombuffer(bytes(found), np.uint32)[:2].tolist())
        dynamic = dict.fromkeys(name for key, name in DYNAMIC_METADATA.items() if side_data.get(key) is not None)
        return cls(display, light_level, tuple(dynamic))

    def encoder_parameters(self, encoder: str) -> list[str]:
        """The metadata as parameters of `"libx264"` or `"libx265"`."""
        display_name, level_name = {
            "libx264": ("mastering-display", "cll"),
            "libx265": ("master-display", "max-cll"),
        }[encoder]
        parameters = []
        if self.mastering_display:
            red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y, high, low = self.mastering_display
            parameters.append(
                f"{display_name}=G({green_x},{green_y})B({blue_x},{blue_y})R({red_x},{red_y})"
                f"WP({white_x},{white_y})L({high},{low})"
            )
        if self.light_level:
            parameters.append(f"{level_name}={self.light_level[0]},{self.light_level[1]}")
        return parameters


NO_METADATA = HdrMetadata()


def _read_mastering_display(content: bytes) -> tuple[int, ...] | None:
    """Read FFmpeg's AVMasteringDisplayMetadata: ten fractions, and whether its two halves are set."""
    fractions = np.frombuffer(content, np.int32, 20).reshape(10, 2).astype(np.float64)
    has_primaries, has_luminance = np.frombuffer(content, np.int32, 2, offset=80)
    if not (has_primaries and has_luminance):
        return None  # half of the metadata has no place in a bit stream
    values = fractions[:, 0] / fractions[:, 1]
    chromaticities = np.rint(values[:8] * CHROMATICITY_UNITS)
    low, high = np.rint(values[8:] * LUMINANCE_UNITS)
    return tuple(int(value) for value in (*chromaticities, high, low))
