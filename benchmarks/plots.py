"""Plots of the analyses in section 4.2 of the paper, which averages over clips do not show.

    profiles.png    a column of pixels over time, in which flicker appears as stripes (Fig. 5)
    latents.png     a frame decoded from the predicted, the observed and the fused state, with differences (Fig. 6)
    identity.png    similarity of identity to the truth over time (Fig. 7)
    gains.png       where and how much the Kalman filter trusts its prediction; as numbers in `gains.json`
    levels.png      all metrics by level of degradation (Fig. 9a)
    poses.png       frontal and turned faces (Fig. 9b)

The first four show one clip, the others all clips.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keep_hf import KeepPipeline
from keep_hf.evaluation.series import REFERENCE_METRICS, VideoMetrics

from .analyses import LatentStudy, describe_gains, study_latents
from .clips import DegradedClip
from .result_files import Results
from .tables import COLUMNS, Averages, average_clips


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FRONTAL = 15.0  # largest yaw of a frontal face, in degrees
# Part of the column of pixels that is shown: from above the eye to below the mouth
PROFILE_ROWS = (0.38, 0.82)
DIFFERENCE_LIMIT = 40  # of 255 levels: the end of the colour scale for differences
POSE_METRICS = ("psnr", "ids", "akd")

Metrics = dict[str, dict[str, dict[str, VideoMetrics]]]  # by level, method and clip


def draw_plots(
    folder: Path,
    results: Results,
    clips: list[str],
    methods: list[str],
    degraded: dict[str, DegradedClip],
    pipe: KeepPipeline,
    fidelity: float,
) -> None:
    """Draw all plots whose metrics were measured.

    Args:
        folder (`Path`): Folder of the plots, which is created.
        results ([`Results`]): Results of all clips, levels and methods.
        clips, methods (`list[str]`): Names.
        degraded (`dict[str, DegradedClip]`): By level, the clip for the plots of a single clip.
        pipe ([`KeepPipeline`]): KEEP.
        fidelity (`float`): 0 to 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    levels = list(degraded)
    shown = degraded[levels[0]].name
    metrics: Metrics = {
        level: {method: {clip: results.load(clip, level, method) for clip in clips} for method in methods}
        for level in levels
    }
    measured = {key for key, value in metrics[levels[0]][methods[0]][clips[0]].mean.items() if value is not None}

    draw_profiles(results, shown, levels, methods).savefig(folder / "profiles.png")
    draw_levels(average_clips(results, clips, levels, methods)).savefig(folder / "levels.png")
    if "ids" in measured:
        draw_identity(metrics, shown).savefig(folder / "identity.png")
    yaws = [yaw for clip in clips if (yaw := results.truth(clip).get("yaw")) is not None]
    if len(yaws) == len(clips):
        frontal = np.abs(np.concatenate(yaws)) <= FRONTAL
        draw_poses(metrics, [key for key in POSE_METRICS if key in measured], frontal).savefig(folder / "poses.png")

    studies = {level: study_latents(pipe, clip, fidelity) for level, clip in degraded.items()}
    draw_latents(studies).savefig(folder / "latents.png")
    draw_gains({level: study.gains for level, study in studies.items()}).savefig(folder / "gains.png")
    numbers = {level: describe_gains(study.gains) for level, study in studies.items()}
    (folder / "gains.json").write_text(json.dumps({"clip": shown, "levels": numbers}, indent=2) + "\n")


def draw_profiles(results: Results, clip: str, levels: list[str], methods: list[str]) -> "Figure":
    """A column of pixels over time: a row per method and the truth, a column per level."""
    rows = [*methods, "truth"]
    figure, axes = _panels(len(rows), len(levels), width=3.4, height=1.0)
    for j, level in enumerate(levels):
        for i, name in enumerate(rows):
            pixels = results.truth(clip) if name == "truth" else results.pixels(clip, level, name)
            column = pixels["profile"]
            first, last = (round(part * len(column)) for part in PROFILE_ROWS)
            axes[i, j].imshow(column[first:last], aspect="auto", interpolation="nearest")
            axes[i, j].set(xticks=[], yticks=[])
            axes[i, 0].set_ylabel(name, rotation=0, ha="right", va="center")
        axes[0, j].set_title(level)
    figure.supxlabel("time →")
    return figure


def draw_identity(metrics: Metrics, clip: str) -> "Figure":
    """Similarity of identity to the truth over the frames of a clip: a panel per level, a line per method."""
    figure, axes = _panels(1, len(metrics), width=4.2, height=3.2, sharey=True)
    names = list(next(iter(metrics.values())))
    # Later lines are thinner, so that the earlier ones stay visible where they are equal.
    widths = dict(zip(names, np.linspace(1 + 0.8 * (len(names) - 1), 1, len(names)), strict=True))
    for axis, (level, methods) in zip(axes[0], metrics.items(), strict=True):
        for method, videos in methods.items():
            axis.plot(_values(videos[clip], "ids"), label=method, linewidth=widths[method])
        axis.set(title=f"{clip}, {level}", xlabel="frame")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("IDS (cosine)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    return figure


def draw_levels(averages: Averages) -> "Figure":
    """All metrics by level of degradation: a panel per metric, a line per method."""
    levels, methods = list(averages), list(next(iter(averages.values())))
    example = averages[levels[0]][methods[0]]
    columns = [column for column in COLUMNS if example.mean[column[0]] is not None]
    figure, axes = _panels(2, -(-len(columns) // 2), width=3.0, height=2.6)
    for axis, (key, statistic, label, _) in zip(axes.flat, columns, strict=False):
        for number, method in enumerate(methods):
            # Side by side, because many methods are nearly equal and would hide each other.
            places = np.arange(len(levels)) + 0.5 * (number / max(len(methods) - 1, 1) - 0.5)
            values = [getattr(averages[level][method], statistic)[key] for level in levels]
            axis.plot(places, values, "o-", label=method, linewidth=0.8, markersize=4)
        axis.set(title=label, xticks=range(len(levels)), xticklabels=levels)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(columns) :]:
        axis.set_axis_off()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    return figure


def draw_poses(metrics: Metrics, keys: list[str], frontal: np.ndarray) -> "Figure":
    """Means over frontal and over turned frames: a row per metric, a column per level.

    Args:
        metrics (`Metrics`): By level, method and clip.
        keys (`list[str]`): Metrics with a value per frame.
        frontal (`np.ndarray` of shape `(frames,)`, bool): Which frames of all clips are frontal.
    """
    figure, axes = _panels(len(keys), len(metrics), width=3.4, height=2.4)
    for i, key in enumerate(keys):
        for j, (level, methods) in enumerate(metrics.items()):
            axis = axes[i, j]
            _draw_poses(axis, methods, key, frontal)
            axis.set_title(level if i == 0 else "")
            metric = REFERENCE_METRICS[key]
            unit = f" ({metric.unit})" if metric.unit else ""
            axis.set_xlabel(f"{metric.label}{unit}, {metric.better} is better")
            if j:
                axis.set_yticklabels([])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, title=f"frontal: yaw within {FRONTAL:g}°")
    return figure


def _draw_poses(axis: "Axes", methods: dict[str, dict[str, VideoMetrics]], key: str, frontal: np.ndarray) -> None:
    for which, marker, label in ((frontal, "o", "frontal"), (~frontal, "D", "turned")):
        if which.any():
            means = []
            for videos in methods.values():
                values = np.concatenate([_values(video, key) for video in videos.values()])[which]
                finite = values[np.isfinite(values)]
                means.append(finite.mean() if len(finite) else np.nan)
            axis.plot(means, list(methods), marker, label=f"{label} ({which.sum()} frames)", fillstyle="none")
    axis.invert_yaxis()
    axis.grid(alpha=0.3)


def _values(video: VideoMetrics, key: str) -> list[float]:
    series = video.metrics[key]
    assert series is not None
    return series.values


def draw_latents(studies: dict[str, LatentStudy]) -> "Figure":
    """A row per level: the images, the differences of the decoded states, and the gain."""
    pairs = (("predicted", "observed"), ("fused", "observed"), ("fused", "predicted"))
    names = [*next(iter(studies.values())).images]
    figure, axes = _panels(len(studies), len(names) + len(pairs) + 1, width=1.55, height=1.85)
    for row, (level, study) in zip(axes, studies.items(), strict=True):
        for axis, name in zip(row, names, strict=False):
            axis.imshow(study.images[name])
            share = study.agreement.get(name)
            axis.set_title(name if share is None else f"{name}\n{share:.0%} of its codes\nin the fused", fontsize=8)
        for axis, (one, other) in zip(row[len(names) :], pairs, strict=False):
            difference = np.abs(study.images[one].astype(float) - study.images[other]).mean(axis=2)
            shown = axis.imshow(difference, cmap="magma", vmin=0, vmax=DIFFERENCE_LIMIT)
            axis.set_title(f"|{one}\n- {other}|\nmean {difference.mean():.1f}", fontsize=8)
        gain = row[-1].imshow(study.gains[-1], cmap="viridis", vmin=0)
        row[-1].set_title(f"gain\nmean {study.gains[-1].mean():.3f}", fontsize=8)
        figure.colorbar(gain, ax=row[-1], shrink=0.6)
        row[0].set_ylabel(level)
        for axis in row:
            axis.set(xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes[:, -2], shrink=0.6, label="levels of 255")
    return figure


def draw_gains(gains: dict[str, np.ndarray]) -> "Figure":
    """A row per level: mean and standard deviation of each token over time, histogram, and the mean of each frame."""
    figure, axes = _panels(len(gains), 4, width=3.0, height=2.4)
    highest = max(values.max() for values in gains.values())
    for row, (level, values) in zip(axes, gains.items(), strict=True):
        for axis, image, title in ((row[0], values.mean(axis=0), "mean"), (row[1], values.std(axis=0), "sigma")):
            figure.colorbar(axis.imshow(image, cmap="viridis", vmin=0), ax=axis, shrink=0.8)
            axis.set(xticks=[], yticks=[], title=f"{title} over time")
        row[0].set_ylabel(level)
        row[2].hist(values.ravel(), bins=np.linspace(0, highest, 41), density=True)
        row[2].set(title=f"all: {values.mean():.3f} ± {values.std():.3f}", xlabel="gain", yticks=[])
        row[3].plot(np.arange(1, len(values) + 1), values.mean(axis=(1, 2)))
        row[3].set(title="mean of each frame", xlabel="frame", ylim=(0, 1.1 * values.mean(axis=(1, 2)).max()))
    return figure


def _panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple["Figure", np.ndarray]:
    """A figure with a grid of axes of `width` by `height` inches each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns + 1, height * rows + 0.6), dpi=110, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)
