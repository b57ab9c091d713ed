"""The analyses of the paper as pictures: what means over clips do not tell.

    profiles.png    a column of pixels over time: what flickers is striped
    identity.png    likeness to the truth over time
    latents.png     one frame decoded from the predicted, the observed and the fused state, and how these differ
    gains.png       where and how much the Kalman filter trusts its prediction; in numbers in `gains.json`
    levels.png      every measure against the degree of degradation
    poses.png       frontal against turned faces

The first four are of one clip, the others of all.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from keep_hf import KeepPipeline
from keep_hf.evaluation.series import REFERENCE_METRICS
from keep_hf.models.recursion import KalmanRecursion
from keep_hf.video.pixels import to_images, to_tensor

from .methods import DegradedClip
from .tables import COLUMNS, Results, join


# Of 68 points, in the order of the picture: outer corners of the eyes, tip of the nose.
EYE_LEFT, EYE_RIGHT, NOSE = 36, 45, 30
# How far the tip of the nose stands out before the line of the outer corners of the eyes, in parts of their distance,
# in a mean head: about 43 of 89 millimetres.
NOSE_HEIGHT = 0.48
FRONTAL = 15.0  # degrees of yaw up to which a face is frontal
# Of the column of pixels, in parts of its length: from above the eye to below the mouth.
PROFILE_ROWS = (0.38, 0.82)
# Levels of 255 that differences are shown up to.
DIFFERENCE_LIMIT = 40
POSE_MEASURES = ("psnr", "ids", "akd")


def estimate_yaw(points: np.ndarray) -> np.ndarray:
    """Estimate how far faces are turned to the side.

    The nose of a face that is turned by an angle is off the middle between the eyes by height * sin(angle), and the
    distance of the eyes is shortened by cos(angle), seen from afar.

    Args:
        points (`np.ndarray` of shape `(n, 68, 2)`): Landmarks in pixels, in the usual order of 68.

    Returns:
        `np.ndarray` of shape `(n,)`: degrees from -90 to 90, 0 for a frontal face, positive where the nose points to
        the right side of the picture.

    Raises:
        ValueError: If there are not 68 points.
    """
    if points.shape[1:] != (68, 2):
        raise ValueError(f"yaw is estimated from 68 landmarks, got {points.shape[1]}: leave the plots out.")
    left, right, nose = (points[:, index].astype(np.float64) for index in (EYE_LEFT, EYE_RIGHT, NOSE))
    axis = right - left
    offset = np.sum((nose - (left + right) / 2) * axis, axis=1) / np.sum(axis**2, axis=1)
    return np.degrees(np.arctan(offset / NOSE_HEIGHT))


@dataclass
class LatentStudy:
    """A frame after some others, and the states that led to it.

    Args:
        pictures (`dict[str, np.ndarray]`): The degraded frame (`input`), the faces made of the codes of the
            `predicted`, the `observed` and the `fused` state alone, without features of the input or of the frame
            before, so that nothing but the state is seen; and the restored frame (`output`). RGB, uint8.
        agreement (`dict[str, float]`): Part of the codes of the fused state that are also those of the other two.
        gains (`np.ndarray` of shape `(t - 1, grid, grid)`): Of all frames but the first, which nothing predicts.
    """

    pictures: dict[str, np.ndarray]
    agreement: dict[str, float]
    gains: np.ndarray


@torch.no_grad()
def study_latents(pipe: KeepPipeline, clip: DegradedClip, fidelity: float) -> LatentStudy:
    """Restore the first gain window of a clip and look into its last frame.

    Args:
        pipe ([`KeepPipeline`]): KEEP.
        clip ([`DegradedClip`]): Two frames or more.
        fidelity (`float`): 0 to 1.

    Returns:
        [`LatentStudy`]

    Raises:
        ValueError: If the clip has one frame only.
    """
    if len(clip.frames) < 2:
        raise ValueError(f"{clip.name!r} has one frame only: nothing predicts it.")
    size = pipe.vq.config.sample_size
    crops = [cv2.resize(frame, (size, size)) for frame in clip.frames[: pipe.config.gain_window]]
    frames = to_tensor(crops, pipe.device, pipe.vq.dtype)[None]
    done = KalmanRecursion(pipe.vq, pipe.kalman, pipe.flow)(frames, fidelity=fidelity)
    states = {"predicted": done.predicted[-1], "observed": done.observed[:, -1], "fused": done.latents[:, -1]}
    codes = {name: pipe.vq.predict_codes(state).argmax(-1) for name, state in states.items()}
    pictures = {
        name: to_images(pipe.vq.decode(pipe.vq.lookup(codes[name], state))[0][0]) for name, state in states.items()
    }
    pictures = {"input": crops[-1], **pictures, "output": to_images(done.frames[0, -1])}
    agreement = {name: float((codes[name] == codes["fused"]).float().mean()) for name in ("predicted", "observed")}
    return LatentStudy(pictures, agreement, done.gains[0, 1:, 0].float().cpu().numpy())


def draw_plots(
    folder: Path,
    results: Results,
    clips: list[str],
    methods: list[str],
    degraded: dict[str, DegradedClip],
    pipe: KeepPipeline,
    fidelity: float,
) -> None:
    """Draw all pictures for which there is what they need.

    Args:
        folder (`Path`): For the pictures; it is made.
        results ([`Results`]): Of all clips, levels and methods.
        clips, methods (`list[str]`): Their names.
        degraded (`dict[str, DegradedClip]`): By level: the clip that the pictures of one clip show.
        pipe ([`KeepPipeline`]): KEEP.
        fidelity (`float`): 0 to 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    levels = list(degraded)
    shown = degraded[levels[0]].name
    truth = results.truth(shown)
    measured = {
        level: {method: {clip: results.load(clip, level, method).metrics for clip in clips} for method in methods}
        for level in levels
    }
    made = [key for key, series in measured[levels[0]][methods[0]][clips[0]].items() if series is not None]
    joint = join(results, clips, levels, methods)

    profiles = {
        level: {method: results.pixels(shown, level, method)["profile"] for method in methods} for level in levels
    }
    draw_profiles(profiles, truth["profile"]).savefig(folder / "profiles.png")
    draw_levels(joint).savefig(folder / "levels.png")
    if "ids" in made:
        series = {
            level: {method: measured[level][method][shown]["ids"].values for method in methods} for level in levels
        }
        draw_identity(series, shown).savefig(folder / "identity.png")
    yaws = {clip: results.truth(clip).get("yaw") for clip in clips}
    if all(yaw is not None for yaw in yaws.values()):
        frontal = np.abs(np.concatenate([yaws[clip] for clip in clips])) <= FRONTAL
        values = {
            key: {
                level: {
                    method: np.concatenate([measured[level][method][clip][key].values for clip in clips])
                    for method in methods
                }
                for level in levels
            }
            for key in POSE_MEASURES
            if key in made
        }
        draw_poses(values, frontal).savefig(folder / "poses.png")

    studies = {level: study_latents(pipe, clip, fidelity) for level, clip in degraded.items()}
    draw_latents(studies).savefig(folder / "latents.png")
    draw_gains({level: study.gains for level, study in studies.items()}).savefig(folder / "gains.png")
    numbers = {level: describe_gains(study.gains) for level, study in studies.items()}
    (folder / "gains.json").write_text(json.dumps({"clip": shown, "levels": numbers}, indent=2) + "\n")


def describe_gains(gains: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation, and the gains that 5, 50 and 95 % are below."""
    low, median, high = np.quantile(gains, (0.05, 0.5, 0.95))
    named = {"mean": gains.mean(), "sigma": gains.std(), "p5": low, "median": median, "p95": high}
    return {name: float(value) for name, value in named.items()}


def draw_profiles(profiles: dict[str, dict[str, np.ndarray]], truth: np.ndarray) -> Any:
    """Columns of pixels `(h, t, 3)` over time, by level and method; one below the other to be compared."""
    rows = [*next(iter(profiles.values())), "truth"]
    figure, axes = _panels(len(rows), len(profiles), width=3.4, height=1.0)
    for j, (level, columns) in enumerate(profiles.items()):
        for i, name in enumerate(rows):
            column = columns.get(name, truth)
            first, last = (round(part * len(column)) for part in PROFILE_ROWS)
            axes[i, j].imshow(column[first:last], aspect="auto", interpolation="nearest")
            axes[i, j].set(xticks=[], yticks=[])
            axes[i, 0].set_ylabel(name, rotation=0, ha="right", va="center")
        axes[0, j].set_title(level)
    figure.supxlabel("time →")
    return figure


def draw_identity(series: dict[str, dict[str, list[float]]], clip: str) -> Any:
    """Likeness to the truth over the frames of a clip, by level and method."""
    figure, axes = _panels(1, len(series), width=4.2, height=3.2, sharey=True)
    names = list(next(iter(series.values())))
    # The later the thinner: where lines are equal, those below are seen at the borders.
    widths = dict(zip(names, np.linspace(1 + 0.8 * (len(names) - 1), 1, len(names)), strict=True))
    for axis, (level, methods) in zip(axes[0], series.items(), strict=True):
        for method, values in methods.items():
            axis.plot(values, label=method, linewidth=widths[method])
        axis.set(title=f"{clip}, {level}", xlabel="frame")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("IDS (cosine)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right")
    return figure


def draw_levels(joint: dict[str, dict[str, Any]]) -> Any:
    """Every measure against the degree of degradation, a line for each method."""
    levels, methods = list(joint), list(next(iter(joint.values())))
    first = joint[levels[0]][methods[0]]
    columns = [column for column in COLUMNS if first.mean[column[0]] is not None]
    figure, axes = _panels(2, -(-len(columns) // 2), width=3.0, height=2.6)
    for axis, (key, statistic, label, _) in zip(axes.flat, columns, strict=False):
        for number, method in enumerate(methods):
            # Side by side: many methods are nearly equal and would hide each other.
            places = np.arange(len(levels)) + 0.5 * (number / max(len(methods) - 1, 1) - 0.5)
            values = [getattr(joint[level][method], statistic)[key] for level in levels]
            axis.plot(places, values, "o-", label=method, linewidth=0.8, markersize=4)
        axis.set(title=label, xticks=range(len(levels)), xticklabels=levels)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(columns) :]:
        axis.set_axis_off()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right")
    return figure


def draw_poses(values: dict[str, dict[str, dict[str, np.ndarray]]], frontal: np.ndarray) -> Any:
    """Means over frontal and over turned frames, by measure, level and method.

    Args:
        values (`dict`): By measure, level and method: one value for each frame of all clips.
        frontal (`np.ndarray` of shape `(frames,)`, bool): Which frames are frontal.
    """
    levels = list(next(iter(values.values())))
    figure, axes = _panels(len(values), len(levels), width=3.4, height=2.4)
    kinds = ((frontal, "o", "frontal"), (~frontal, "D", "turned"))
    for i, (key, by_level) in enumerate(values.items()):
        for j, (level, by_method) in enumerate(by_level.items()):
            axis, names = axes[i, j], list(by_method)
            for which, marker, label in kinds:
                if which.any():
                    means = [_mean(by_method[name][which]) for name in names]
                    axis.plot(means, names, marker, label=f"{label} ({which.sum()} frames)", fillstyle="none")
            axis.invert_yaxis()
            axis.grid(alpha=0.3)
            axis.set_title(level if i == 0 else "")
            unit = f" ({REFERENCE_METRICS[key].unit})" if REFERENCE_METRICS[key].unit else ""
            axis.set_xlabel(f"{REFERENCE_METRICS[key].label}{unit}, {REFERENCE_METRICS[key].better} is better")
            if j:
                axis.set_yticklabels([])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, title=f"frontal: yaw within {FRONTAL:g}°")
    return figure


def draw_latents(studies: dict[str, LatentStudy]) -> Any:
    """For each level a row: the pictures, the differences of the states as decoded, and the gain."""
    pairs = (("predicted", "observed"), ("fused", "observed"), ("fused", "predicted"))
    names = [*next(iter(studies.values())).pictures]
    figure, axes = _panels(len(studies), len(names) + len(pairs) + 1, width=1.55, height=1.85)
    for row, (level, study) in zip(axes, studies.items(), strict=True):
        for axis, name in zip(row, names, strict=False):
            axis.imshow(study.pictures[name])
            part = study.agreement.get(name)
            axis.set_title(name if part is None else f"{name}\n{part:.0%} of its codes\nin the fused", fontsize=8)
        for axis, (one, other) in zip(row[len(names) :], pairs, strict=False):
            difference = np.abs(study.pictures[one].astype(float) - study.pictures[other]).mean(axis=2)
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


def draw_gains(gains: dict[str, np.ndarray]) -> Any:
    """By level: mean and standard deviation of each token over time, all gains counted, and the mean of each frame."""
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


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Any, np.ndarray]:
    """A figure with a grid of axes, `width` by `height` inches each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns + 1, height * rows + 0.6), dpi=110, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)
