"""What was measured in videos: a series of values for each measure, and the means over frames and over videos.

A video's value is the mean over its frames, and that of several the mean over the videos, however long they are.
Standard deviations divide by the number of frames (not by one less).  A value that is no number, as the PSNR of equal
frames, which is infinite, is left out of means and standard deviations, and counted; where there are no others, the
mean is what they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Measure(NamedTuple):
    """What a measure is called, its unit, which way is better (neither for a reference's own value), what it needs."""

    label: str
    unit: str
    better: str
    needs: str


_SKIMAGE = "scikit-image: pip install scikit-image"
_LPIPS = "an LPIPS network, see LPIPS.from_checkpoints"
_IDENTITY = "a face recognition network as ONNX, see FaceIdentity"
_LANDMARKS = "a face landmark network as ONNX, see LandmarkNetwork"
_FLOW = "a flow, DISFlow or the network of a KeepPipeline"
COMPARED = {
    "psnr": Measure("PSNR", "dB", "higher", _SKIMAGE),
    "ssim": Measure("SSIM", "", "higher", _SKIMAGE),
    "lpips": Measure("LPIPS", "", "lower", _LPIPS),
    "ids": Measure("IDS", "cosine", "higher", _IDENTITY),
    "akd": Measure("AKD", "pixels at 512", "lower", _LANDMARKS),
    "flicker": Measure("Flicker", "levels of 255", "lower", _FLOW),
    "reference_flicker": Measure("Flicker of the reference", "levels of 255", "", _FLOW),
}
INSPECTED = {
    "flicker": Measure("Flicker", "levels of 255", "lower", _FLOW),
    "identity_steps": Measure("Likeness to the frame before", "cosine", "higher", _IDENTITY),
    "landmark_jitter": Measure("Landmark jitter", "pixels at 512", "lower", _LANDMARKS),
}


@dataclass
class Series:
    """A measure over the frames of a video.

    Args:
        values (`list[float]`):
            One for each frame; for measures of two or three neighbouring frames, one or two fewer.
    """

    values: list[float]

    @property
    def finite(self) -> np.ndarray:
        """The values that are numbers."""
        values = np.array(self.values, dtype=np.float64)
        return values[np.isfinite(values)]

    @property
    def mean(self) -> float:
        """Mean of the values that are numbers; where none is, infinity if all are that, or NaN."""
        if len(self.finite):
            return float(self.finite.mean())
        return float(np.mean(self.values)) if self.values else float("nan")

    @property
    def sigma(self) -> float:
        """Standard deviation of the values that are numbers, NaN where none is."""
        return float(self.finite.std()) if len(self.finite) else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which knows no infinity: what is no number is written as a word, "inf" or "nan"."""
        return {
            "mean": _plain(self.mean),
            "sigma": _plain(self.sigma),
            "left_out": len(self.values) - len(self.finite),
            "values": [_plain(value) for value in self.values],
        }


@dataclass
class VideoMeasures:
    """What was measured in one video.

    Args:
        name (`str`):
            Of the video.
        num_frames (`int`):
            Frames that were looked at.
        measures (`dict[str, Series | None]`):
            By the names of `COMPARED` or `INSPECTED`; `None` where what the measure needs was not there.
    """

    name: str
    num_frames: int
    measures: dict[str, Series | None]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; a missing measure is `None`."""
        measures = {key: None if series is None else series.to_dict() for key, series in self.measures.items()}
        return {"name": self.name, "num_frames": self.num_frames, "measures": measures}


@dataclass
class JointMeasures:
    """Means over videos.

    Args:
        num_videos (`int`):
            How many.
        num_frames (`int`):
            Of all of them.
        mean (`dict[str, float | None]`):
            Of each measure, over the means of the videos; `None` where the measure is missing.
        sigma (`dict[str, float | None]`):
            Of each measure, over the standard deviations of the videos: those of `ids` and `akd` are the paper's
            sigma_IDS and sigma_AKD, that of `identity_steps` is the identity jitter.
    """

    num_videos: int
    num_frames: int
    mean: dict[str, float | None]
    sigma: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; a missing measure is `None`."""
        mean, sigma = (
            {name: value if value is None else _plain(value) for name, value in values.items()}
            for values in (self.mean, self.sigma)
        )
        return {"num_videos": self.num_videos, "num_frames": self.num_frames, "mean": mean, "sigma": sigma}


def join_videos(videos: Iterable[VideoMeasures]) -> JointMeasures:
    """Mean what was measured over videos, each of which counts the same.

    Args:
        videos (`Iterable[VideoMeasures]`):
            All from [`compare_videos`] or all from [`inspect_video`], with the same networks.

    Returns:
        [`JointMeasures`]

    Raises:
        ValueError: If there are none, or they were not all measured alike.
    """
    videos = list(videos)
    if not videos:
        raise ValueError("there are no videos to join: measure one at least.")
    present = [{key for key, series in video.measures.items() if series is not None} for video in videos]
    for video, keys in zip(videos, present, strict=True):
        if video.measures.keys() != videos[0].measures.keys() or keys != present[0]:
            raise ValueError(
                f"{video.name!r} was measured in {sorted(keys)} and {videos[0].name!r} in {sorted(present[0])}: "
                "measure all videos with the same networks."
            )
    mean: dict[str, float | None] = {}
    sigma: dict[str, float | None] = {}
    for key in videos[0].measures:
        series = [measured for video in videos if (measured := video.measures[key]) is not None]
        mean[key] = Series([one.mean for one in series]).mean if series else None
        sigma[key] = Series([one.sigma for one in series]).mean if series else None
    return JointMeasures(len(videos), sum(video.num_frames for video in videos), mean, sigma)


def _plain(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)
