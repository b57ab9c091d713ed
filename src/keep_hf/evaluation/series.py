"""Values of the metrics over the frames of a video, and their averages over frames and over videos.

The value of a video is the mean over its frames.  The value of several videos is the mean over the videos, independent
of their lengths.  Standard deviations divide by the number of frames, not by one less.  Values that are not finite,
such as the infinite PSNR of equal frames, are counted but left out of means and standard deviations, unless there are
no others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Metric(NamedTuple):
    """Description of a metric.

    Args:
        label (`str`): Name in tables and plots.
        unit (`str`): Unit of the values, empty if they have none.
        better (`str`): `"higher"`, `"lower"`, or empty for a value that only describes the reference.
        needs (`str`): What must be installed or loaded to compute it.
    """

    label: str
    unit: str
    better: str
    needs: str


_SKIMAGE = "scikit-image: pip install scikit-image"
_LPIPS = "an LPIPS network, see LPIPS.from_checkpoints"
_IDENTITY = "a face recognition network, see FaceIdentity"
_LANDMARKS = "a face landmark network, see LandmarkNetwork"
_FLOW = "a flow, DISFlow or the network of a KeepPipeline"
# Of a restored video against its reference; together with the deviations of IDS and AKD these are the seven metrics of
# Table 1 in the paper (section 4.1), and flicker.
REFERENCE_METRICS = {
    "psnr": Metric("PSNR", "dB", "higher", _SKIMAGE),
    "ssim": Metric("SSIM", "", "higher", _SKIMAGE),
    "lpips": Metric("LPIPS", "", "lower", _LPIPS),
    "ids": Metric("IDS", "cosine", "higher", _IDENTITY),
    "akd": Metric("AKD", "pixels at 512", "lower", _LANDMARKS),
    "flicker": Metric("Flicker", "levels of 255", "lower", _FLOW),
    "reference_flicker": Metric("Flicker of the reference", "levels of 255", "", _FLOW),
}
# Of a video without a reference
NO_REFERENCE_METRICS = {
    "flicker": Metric("Flicker", "levels of 255", "lower", _FLOW),
    "identity_steps": Metric("Similarity to the previous frame", "cosine", "higher", _IDENTITY),
    "landmark_jitter": Metric("Landmark jitter", "pixels at 512", "lower", _LANDMARKS),
}


@dataclass
class Series:
    """The values of a metric over the frames of a video.

    Args:
        values (`list[float]`): One per frame; metrics of two or three neighbouring frames have one or two fewer.
    """

    values: list[float]

    @property
    def finite(self) -> np.ndarray:
        """The finite values."""
        values = np.array(self.values, dtype=np.float64)
        return values[np.isfinite(values)]

    @property
    def mean(self) -> float:
        """Mean of the finite values; without any, infinity if all values are infinite, otherwise NaN."""
        if len(self.finite):
            return float(self.finite.mean())
        return float(np.mean(self.values)) if self.values else float("nan")

    @property
    def sigma(self) -> float:
        """Standard deviation of the finite values, NaN without any."""
        return float(self.finite.std()) if len(self.finite) else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """The series for JSON, where values that are not finite are written as `"inf"` and `"nan"`."""
        return {
            "mean": _to_json(self.mean),
            "sigma": _to_json(self.sigma),
            "left_out": len(self.values) - len(self.finite),
            "values": [_to_json(value) for value in self.values],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Series":
        """Read a series that [`Series.to_dict`] wrote."""
        return cls([float(value) for value in content["values"]])


@dataclass
class VideoMetrics:
    """The metrics of one video.

    Args:
        name (`str`): Name of the video.
        num_frames (`int`): Number of frames that were measured.
        metrics (`dict[str, Series | None]`): By the names of `REFERENCE_METRICS` or `NO_REFERENCE_METRICS`; `None`
            where something that the metric needs was missing.
    """

    name: str
    num_frames: int
    metrics: dict[str, Series | None]

    @property
    def mean(self) -> dict[str, float | None]:
        """By metric, the mean over the frames."""
        return {key: None if series is None else series.mean for key, series in self.metrics.items()}

    @property
    def sigma(self) -> dict[str, float | None]:
        """By metric, the standard deviation over the frames."""
        return {key: None if series is None else series.sigma for key, series in self.metrics.items()}

    def to_dict(self) -> dict[str, Any]:
        """The metrics for JSON; a missing one is `None`."""
        metrics = {key: None if series is None else series.to_dict() for key, series in self.metrics.items()}
        return {"name": self.name, "num_frames": self.num_frames, "metrics": metrics}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "VideoMetrics":
        """Read metrics that [`VideoMetrics.to_dict`] wrote."""
        metrics = {key: series and Series.from_dict(series) for key, series in content["metrics"].items()}
        return cls(content["name"], content["num_frames"], metrics)


@dataclass
class AverageMetrics:
    """Averages over videos.

    Args:
        num_videos (`int`): Number of videos.
        num_frames (`int`): Number of frames of all videos.
        mean (`dict[str, float | None]`): By metric, the mean over the means of the videos; `None` if it is missing.
        sigma (`dict[str, float | None]`): By metric, the mean over the standard deviations of the videos.  Those of
            `ids` and `akd` are sigma_IDS and sigma_AKD of the paper, that of `identity_steps` is the identity jitter.
    """

    num_videos: int
    num_frames: int
    mean: dict[str, float | None]
    sigma: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """The averages for JSON; a missing metric is `None`."""
        mean, sigma = (
            {name: None if value is None else _to_json(value) for name, value in values.items()}
            for values in (self.mean, self.sigma)
        )
        return {"num_videos": self.num_videos, "num_frames": self.num_frames, "mean": mean, "sigma": sigma}


def average(videos: Iterable[VideoMetrics | AverageMetrics]) -> AverageMetrics:
    """Average metrics over videos; each video has the same weight.

    Args:
        videos (`Iterable[VideoMetrics | AverageMetrics]`): All with the same metrics.  An average counts as one video.

    Returns:
        [`AverageMetrics`]

    Raises:
        ValueError: If there are no videos, or they have different metrics.
    """
    videos = list(videos)
    if not videos:
        raise ValueError("there are no videos to average: measure at least one.")
    present = [{key for key, value in video.mean.items() if value is not None} for video in videos]
    for video, keys in zip(videos, present, strict=True):
        if video.mean.keys() != videos[0].mean.keys() or keys != present[0]:
            raise ValueError(
                f"videos with the metrics {sorted(present[0])} and {sorted(keys)} cannot be averaged: "
                "measure all videos with the same networks."
            )
    return AverageMetrics(
        num_videos=len(videos),
        num_frames=sum(video.num_frames for video in videos),
        mean=_average([video.mean for video in videos]),
        sigma=_average([video.sigma for video in videos]),
    )


def _average(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    columns = {key: [value for row in rows if (value := row[key]) is not None] for key in rows[0]}
    return {key: Series(values).mean if values else None for key, values in columns.items()}


def _to_json(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)
